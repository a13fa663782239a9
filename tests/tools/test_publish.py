"""Published folders: what is in them and what is not, that they work as the checkpoint did, and which are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import main as program
from network.assemble import build_network
from network.segmenter import Segmenter
from network.weights.loading import has_image_branch
from network.weights.reading import read_checkpoint, read_outline
from network.weights.widening import load_to_fine_tune, refuse_narrower
from tests.conftest import ROOT
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.networks import refusal
from tools import publish
from utils.command.process import run_program
from utils.config.loading import load_config, save_config
from utils.labels import LabelMap
from utils.results.published import CONFIG, LABELS, MODEL, STATISTICS
from utils.scan.statistics import Statistics
from utils.scan.traits import PERCENTAGES

PRIVATE = "/home/alice/secret"
NINE = tuple(float(n) for n in range(len(PERCENTAGES)))
STATISTICS_OF = Statistics(3, NINE, NINE, NINE, NINE, -1.7, (0.05,) * 20, {})
POINTS = np.random.default_rng(0).normal(0, [9, 6, 0.8, 0.2], (400, 4)).astype(np.float32)


def train_places(place: str) -> list[str]:
    return [f"dataset_params.{part}_data_loader.data_path={place}" for part in ("train", "val")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of 2DPASS as a training on a person's machine leaves it, optimiser and all."""
    folder = tmp_path_factory.mktemp("alice")
    mapping = folder / "own-classes.yaml"
    shutil.copy(ROOT / "config/label_mapping/semantic-kitti.yaml", mapping)
    path = write_checkpoint(folder / "best.ckpt", small_config(*train_places(PRIVATE)), STATISTICS_OF)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["network.image_branch.x"] = torch.zeros(3)
    content["state_dict"] = {
        name.replace("network.", "network.network_3d.") if "image" not in name else name: value
        for name, value in content["state_dict"].items()
    }
    content["2dpass"]["description"]["config"]["dataset_params"]["label_mapping"] = f"{PRIVATE}/own-classes.yaml"
    content["2dpass"]["settings"] = {"--seed": 7, "dataset_params.label_mapping": PRIVATE, "training scans": "3 (abc)"}
    content |= {"epoch": 4, "optimizer_states": [{"state": {0: torch.ones(9)}}], "hyper_parameters": {"path": PRIVATE}}
    torch.save(content, path)
    return path


def published(checkpoint: Path, folder: Path, *flags: object) -> Path:
    arguments = ["--checkpoint", checkpoint, "--output", folder, *flags]
    assert publish.main(list(map(str, arguments))) == 0
    return folder


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert publish.main(list(map(str, arguments))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    return published(checkpoint, tmp_path_factory.mktemp("published") / "model")


def test_it_holds_what_a_test_needs_and_no_path(checkpoint, folder) -> None:
    """The weights are judged by the library of safetensors itself."""
    before = {k.removeprefix("network.network_3d."): v for k, v in read_checkpoint(checkpoint)["state_dict"].items()}
    found = load_file(folder / MODEL)
    assert set(found) == {name for name in before if "image_branch" not in name}
    assert all(torch.equal(found[name], before[name]) for name in found)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CONFIG, LABELS, MODEL, "README.md", STATISTICS])
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert not [
        word for word in (PRIVATE, "alice", str(Path.home()), "optimizer_states") if word.encode() in everything
    ]
    content = read_outline(folder)
    assert has_image_branch(content, folder), "the benchmark of nuScenes asks for it"
    config = load_config(folder / CONFIG, ["dataset_params.label_mapping=config/label_mapping/semantic-kitti.yaml"])
    assert config.model_params == small_config().model_params
    assert (
        LabelMap.load(folder / LABELS).names == LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml").names
    )


@pytest.mark.parametrize("form", ["folder", "file", "renamed file"])
def test_it_labels_as_its_checkpoint_does(form, checkpoint, folder, tmp_path) -> None:
    path = {"folder": folder, "file": folder / MODEL}.get(form)
    if path is None:
        path = Path(shutil.copy(folder / MODEL, tmp_path / "0123abcd"))
    found, expected = (Segmenter.load(p, device="cpu", fit="off")(POINTS) for p in (path, checkpoint))
    assert np.array_equal(found.labels, expected.labels) and np.array_equal(found.confidence, expected.confidence)


@pytest.mark.parametrize("name", ["MinkowskiNet", "SPVCNN"])
def test_voxel_networks_in_bf16_are_computed_in_fp32(name, tmp_path) -> None:
    config = small_config(config=ROOT / "config" / f"{name}-demo.yaml")
    path = write_checkpoint(tmp_path / "best.ckpt", config)
    folder = published(path, tmp_path / "model", "--dtype", "bf16")
    found, before = load_file(folder / MODEL), read_checkpoint(path)["state_dict"]
    assert all(t.dtype == torch.bfloat16 for t in found.values() if t.ndim > 1)
    segmenter = Segmenter.load(folder, device="cpu", fit="off")
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {
        k: v.bfloat16().float() if v.ndim > 1 and v.is_floating_point() else v for k, v in before.items()
    }
    torch.save(content, tmp_path / "rounded.ckpt")
    expected = Segmenter.load(tmp_path / "rounded.ckpt", device="cpu", fit="off")(POINTS)
    assert np.array_equal(segmenter(POINTS).confidence, expected.confidence)
    assert "rounded to bf16" in (folder / "README.md").read_text()


def test_scores_are_of_this_checkpoint_alone(checkpoint, demo_trees, tmp_path, monkeypatch, capsys) -> None:
    """Published rounded, tested as it is, and published once more: the scores are those of the rounded weights."""
    monkeypatch.chdir(tmp_path)
    place = f"dataset_params.val_data_loader.data_path={demo_trees['SemanticKITTI']}"

    def tested(path: Path, *flags: str) -> Path:
        named = ["--test", "--cpu", "--checkpoint", str(path), "--log_dir", path.name, *flags, "--set", place]
        assert run_program(lambda: program.main(named)) == 0
        (found,) = tmp_path.glob(f"logs/SemanticKITTI/{path.name}/test_*/scores.json")
        return found

    of_checkpoint = tested(checkpoint, "--num_vote", "2")
    folder = published(checkpoint, tmp_path / "model", "--dtype", "bf16", "--scores", of_checkpoint)
    assert "Measured on the weights before they were rounded" in (folder / "README.md").read_text()
    before = load_file(folder / MODEL)
    (folder / ".git").mkdir()
    of_folder = tested(folder)
    flags = ["--overwrite", "--license", "mit", "--name", "a | b"]
    published(folder, folder, "--scores", of_folder, of_checkpoint, *flags)
    published(folder, folder, "--overwrite")
    after = load_file(folder / MODEL)
    assert all(torch.equal(after[name], before[name]) for name in before) and (folder / ".git").is_dir()
    tests = json.loads((folder / "scores.json").read_text())["tests"]
    assert [test["same_weights"] for test in tests] == [True, False] and PRIVATE not in str(tests)
    head: Any = ModelCard.load(folder / "README.md").data
    assert head.license == "mit" and head.model_name == "a | b" and head.library_name == "2dpass"
    measured = json.loads(of_checkpoint.read_text())
    results = [(r.metric_name, r.dataset_split, r.metric_value) for r in head.eval_results]
    assert ("mIoU, 2 views", "validation", round(measured["val/mIoU"], 4)) in results
    assert ("mIoU, one view", "validation", round(measured["one_view"]["val/mIoU"], 4)) in results
    kept = (folder / "scores.json").read_text()
    for old, new, said in (
        (tests[0]["weights_sha256"], "0" * 64, "is of other weights than"),
        ('"car"', '"c\\n\\n# Owned"', "not readable as the scores"),
        (f'"points": {tests[0]["points"]}', '"points": NaN', "not readable as the scores"),
    ):
        assert old in kept
        (folder / "scores.json").write_text(kept.replace(old, new))
        assert said in refused(capsys, "--checkpoint", folder, "--output", folder, "--overwrite")
    twice = ["--scores", of_checkpoint, of_checkpoint.parent]
    line = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "x", *twice)
    assert "is of a test that was named before" in line
    again = published(checkpoint, tmp_path / "again", "--dtype", "bf16")
    same = published(again, tmp_path / "same")
    assert (again / MODEL).read_bytes() == (same / MODEL).read_bytes(), "the same content, the same bytes"
    other = write_checkpoint(tmp_path / "other.ckpt", small_config(), STATISTICS_OF)
    line = refused(capsys, "--checkpoint", other, "--output", tmp_path / "x", "--scores", of_checkpoint)
    assert "is of a test of another checkpoint ('best.ckpt')" in line and not (tmp_path / "x").exists()
    measured["val/mIoU"] = 7
    of_checkpoint.write_text(json.dumps(measured))
    line = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "x", "--scores", of_checkpoint)
    assert "not readable as the scores" in line


def edit_yaml(path: Path, change: Any) -> None:
    values = yaml.safe_load(path.read_text())
    change(values)
    path.write_text(yaml.safe_dump(values))


CHANGES = {
    CONFIG: lambda path: edit_yaml(path, lambda v: v["train_params"].update(max_num_epochs=99)),
    LABELS: lambda path: edit_yaml(path, lambda v: v["labels"].update({10: "auto"})),
    STATISTICS: lambda path: path.write_text(path.read_text().replace("-1.7", "-1.8")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_copies_are_compared_and_not_read(name, folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    copy = tmp_path / "m" / name
    copy.write_text(copy.read_text().replace("\n", "\r\n"))
    read_outline(tmp_path / "m")
    CHANGES[name](copy)
    for path in (tmp_path / "m", tmp_path / "m" / MODEL):
        assert refusal(read_outline, path).startswith(f"{copy}: differs from what {MODEL} beside it holds")
    copy.write_bytes(b"\xff\x00")
    assert "differs" in refusal(read_outline, tmp_path / "m")
    copy.unlink()
    copy.mkdir()
    assert refusal(read_outline, tmp_path / "m").startswith(f"{copy}: cannot be read (Is a directory)")
    copy.rmdir()
    read_outline(tmp_path / "m")


FOLDERS = {
    "nothing": ({}, "it has no model.safetensors"),
    "a sharded model": ({"model.safetensors.index.json": b"{}"}, "a model in several files"),
    "a pickle": ({"pytorch_model.bin": b"PK"}, "but pytorch_model.bin, which is not read"),
    "a run": ({"last.ckpt": b"PK"}, "last.ckpt"),
    "half of a model": ({MODEL: b"\x10\x00\x00\x00\x00\x00\x00\x00{"}, "damaged"),
    "an endless header": ({MODEL: b"\xff" * 7 + b"\x00{"}, "header is too long"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_other_folders_are_refused_in_one_line(case, tmp_path) -> None:
    files, said = FOLDERS[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for read in (read_outline, read_checkpoint):
        assert said in refusal(read, tmp_path)
    if not files:
        (tmp_path / MODEL).symlink_to("nowhere")
        assert "is no file, but a folder, a device or a link to nothing" in refusal(read_outline, tmp_path)


def spoil(metadata: dict[str, str], case: str) -> dict[str, str]:
    ours = json.loads(metadata["2dpass"])
    if case == "deep":
        return {"2dpass": "[" * 100_000}
    if case == "no JSON":
        return {"2dpass": '{"format": 1'}
    if case == "newer":
        ours["format"] = 2
    if case == "no format":
        ours["format"] = 0
    if case == "NaN":
        ours["description"]["statistics"]["height"][0] = float("nan")
    if case == "a colour":
        ours["description"]["class_colors"][1] = [0, 0, 256]
    if case == "a path":
        ours["description"]["split"]["valid"] = ["../../etc"]
    return {"2dpass": json.dumps(ours)}


@pytest.mark.parametrize("case", ["deep", "no JSON", "newer", "no format", "NaN", "a colour", "a path"])
def test_metadata_are_untrusted(case, folder, tmp_path) -> None:
    with safe_open(folder / MODEL, "np") as file:
        metadata = file.metadata()
    path = tmp_path / "x.safetensors"
    save_file(load_file(folder / MODEL), path, spoil(metadata, case))
    line = refusal(Segmenter.load, path)
    assert str(path) in line and ("or a newer one" in line) == (case == "newer")


def test_tensors_are_untrusted(folder, tmp_path) -> None:
    with safe_open(folder / MODEL, "np") as file:
        metadata = file.metadata()
    state, path = load_file(folder / MODEL), tmp_path / "x.safetensors"
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    for value, said in (
        (state[name] * torch.nan, "holds NaN or inf"),
        (state[name][:1], "tensors differ"),
        (state[name].to(torch.float8_e4m3fn), "a tensor of type F8"),
    ):
        save_file({**state, name: value.contiguous()}, path, metadata)
        assert said in refusal(Segmenter.load, path)
    path.write_bytes((folder / MODEL).read_bytes()[:-100])
    assert "damaged" in refusal(Segmenter.load, path)


def test_a_3d_network_is_fine_tuned_with_new_branches(folder) -> None:
    network, content = build_network(small_config()), read_checkpoint(folder)
    names = LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml").names
    message = refusal(refuse_narrower, network, content, folder, names)
    assert "published as a 3D network alone (--baseline_only)" in message and "--fine_tune" in message
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    (line,) = load_to_fine_tune(network, content, folder, names)
    assert line.startswith("image branch and distillation start as in a new network")
    found = load_file(folder / MODEL)
    for name, tensor in network.state_dict().items():
        expected = before[name] if (short := name.removeprefix("network_3d.")) == name else found[short]
        assert torch.equal(tensor, expected), name


def test_places_that_are_taken_and_flags_without_an_effect(
    checkpoint, folder, tmp_path, tmp_path_factory, capsys
) -> None:
    own = tmp_path_factory.mktemp("config") / "own.yaml"
    save_config(small_config(), own)
    (foreign := tmp_path_factory.getbasetemp() / "foreign").mkdir()
    save_file({"x": torch.zeros(2)}, foreign / MODEL)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    for output, flags, said in (
        (tmp_path / "thesis", ["--overwrite"], "holds something else"),
        (tmp_path_factory.getbasetemp() / "foreign", ["--overwrite"], "no model.safetensors of this tool"),
        (folder, [], "add --overwrite"),
        (tmp_path / "new", ["--overwrite"], "--overwrite: there is no"),
        (tmp_path / "new", ["--config", own], "holds the config of its training; leave it out"),
        (tmp_path / "new", ["--name", "two\nlines"], "--name: wants a text on one line"),
        (tmp_path / "new", ["--license", "MIT | <b>"], "--license: wants an identifier of the hub"),
        (tmp_path / "new", ["--scores", tmp_path / "nothing.json"], "nothing.json: cannot be read"),
    ):
        assert said in refused(capsys, "--checkpoint", checkpoint, "--output", output, *flags)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["chapter.txt", "thesis"]


def test_a_full_disk_leaves_no_folder(checkpoint, tmp_path, monkeypatch) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == MODEL:
            raise OSError(28, "No space left on device", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr("tools.publishing.folder.write_bytes", full)
    assert publish.main(["--checkpoint", str(checkpoint), "--output", str(tmp_path / "model")]) == 2
    assert not list(tmp_path.iterdir())
