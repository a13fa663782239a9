"""A training with a frozen teacher, end to end: tested, resumed, and taken as the start of other trainings."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from network.teachers.resnet34 import ImageBranch
from network.weights import imagenet
from network.weights.loading import canonical_state
from tests.support.foundations import Hub, make_model
from tests.test_main import RUN, load

TINY = ("model_params.scale_list=[2,4]", "dataset_params.training_size=2")
FROZEN = (*TINY, "model_params.backbone_2d=dinov2-small")
ONE_EPOCH = "train_params.max_num_epochs=1"
LAST = str(RUN / "last.ckpt")


@pytest.fixture
def trained(run_main, hub: Hub, capsys):
    """Trains one epoch with a tiny frozen teacher; gives the function that runs main.py and returns what it says."""
    hub.add("dinov2-small")
    assert run_main(settings=(*FROZEN, ONE_EPOCH)) == 0

    def run(*arguments: str, settings: tuple[str, ...], code: int = 0) -> str:
        capsys.readouterr()
        assert run_main(*arguments, settings=settings) == code
        said = capsys.readouterr()
        return said.err.strip() if code else said.out

    return run


def test_it_is_tested_without_the_teacher_and_resumed_with_the_same(trained, hub: Hub) -> None:
    (folder,) = hub.folder.glob("models--*")
    away = shutil.move(folder, hub.folder / "away")
    assert "'val/mIoU':" in trained("--test", "--checkpoint", "last", settings=TINY)
    shutil.move(away, folder)
    assert "resuming from" in trained("--checkpoint", "last", settings=FROZEN)
    teacher = load(Path(LAST))["2dpass"]["settings"]["weights of the frozen teacher"]

    hub.add("dinov2-small", make_model("dinov2-small", seed=1))
    epochs = "train_params.max_num_epochs=3"
    line = trained("--checkpoint", "last", settings=(*FROZEN, epochs), code=2)
    assert "settings changed since: weights of the frozen teacher was dinov2-small sha256:" in line
    assert "\n" not in line and "--fine_tune" in line
    tuned = trained("--fine_tune", "--checkpoint", LAST, settings=(*FROZEN, ONE_EPOCH))
    assert f"in place of '{teacher}': the image branch starts as in a new network" in tuned


def test_a_resnet_that_takes_its_place_starts_from_imagenet(trained, tmp_path: Path, monkeypatch) -> None:
    """Where the config asks for that: the checkpoint has no ResNet-34 to start from."""
    own = {n: t for n, t in ImageBranch(4, (2, 4)).state_dict().items() if not n.startswith("decoders.")}
    weights = {name: torch.rand_like(tensor) for name, tensor in own.items() if tensor.dim()}
    place = tmp_path / "checkpoints" / imagenet.NAME
    place.parent.mkdir()
    torch.save(weights, place)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(imagenet, "DIGEST", hashlib.sha256(place.read_bytes()).hexdigest()[:8])
    still = (*TINY, ONE_EPOCH, "train_params.learning_rate=1.0e-30", "model_params.pretrained2d=true")
    flags = ("--log_dir", "tuned", "--fine_tune", "--checkpoint", LAST)
    assert "new teacher, one that is trained along, in place of" in trained(*flags, settings=still)
    tuned = canonical_state(load(Path("logs/SemanticKITTI/tuned/version_0/last.ckpt")), "last.ckpt")
    before = canonical_state(load(Path(LAST)), LAST)
    for name in ("conv1.weight", "layer2.3.bn2.weight"):
        assert torch.allclose(tuned[f"image_branch.{name}"], weights[name], atol=1e-5)
    name = next(name for name in before if name.startswith("network_3d.") and name.endswith("weight"))
    assert torch.allclose(tuned[name], before[name], atol=1e-5)


def test_there_is_no_backbone_to_pretrain(trained) -> None:
    line = trained("--pretrain2d", "--checkpoint", LAST, settings=FROZEN, code=2)
    assert "--pretrain2d loads weights of a ResNet-34, but model_params.backbone_2d is dinov2-small" in line
