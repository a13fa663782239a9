"""Loading published checkpoints and those of this project: which weights go into which network."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from network.assemble import build_network
from network.models.arch_2dpass import Arch2DPASS
from network.training.resuming import is_resumable
from network.weights.loading import canonical_state, check_geometry, load_image_branch, load_weights
from network.weights.pickled import FOREIGN_CLASSES
from network.weights.reading import read_checkpoint
from network.weights.released import is_released
from tests.support.golden import released_state
from tests.support.networks import golden_config, make_network_3d, refusal
from utils.scan.volume import Volume


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return released_state("arch_2dpass_semkitti")


@pytest.fixture(scope="module")
def network() -> Arch2DPASS:
    built = build_network(golden_config())
    assert isinstance(built, Arch2DPASS)
    return built


def foreign_class(monkeypatch, path: str, base: type = object) -> type:
    """Makes a class that pickles under that name, like a class of an older library."""
    module_name, _, name = path.rpartition(".")
    parts = module_name.split(".")
    for depth in range(1, len(parts) + 1):
        part = ".".join(parts[:depth])
        if part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    made = type(name, (base,), {"__module__": module_name})
    monkeypatch.setattr(sys.modules[module_name], name, made, raising=False)
    return made


def save_lightning_checkpoint(path: Path, state: dict[str, Tensor], monkeypatch) -> None:
    """Saves a checkpoint like those that PyTorch Lightning 1.3 wrote while training a published model."""
    easy_dict = foreign_class(monkeypatch, "easydict.EasyDict", dict)
    attribute_dict = foreign_class(monkeypatch, "pytorch_lightning.utilities.parsing.AttributeDict", dict)
    inner = easy_dict(learning_rate=0.24, scale_list=[2, 4, 8, 16])
    settings = easy_dict(train_params=inner, gpu=(0,))
    for record in (inner, settings):
        record.__dict__.update(record)  # an EasyDict keeps its entries as attributes, too
    callbacks = {
        foreign_class(monkeypatch, name): {"best_model_score": torch.tensor(0.68), "best": np.float32(0.5), "wait": 3}
        for name in FOREIGN_CLASSES
        if ".callbacks." in name
    }
    content = {
        "epoch": 63,
        "global_step": 5 * 10**9,
        "pytorch-lightning_version": "1.3.8",
        "state_dict": state,
        "callbacks": callbacks,
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [{"last_epoch": 64, "_last_lr": [np.float64(1e-5)], "best": np.float64(0.6)}],
        "hparams_name": "args",
        "hyper_parameters": settings,
        "hyper_parameters_2": attribute_dict(folder=Path("a/b"), classes=np.int64(20), debug=np.bool_(False)),
    }
    torch.save(content, path)


def test_lightning_checkpoint_loads_into_both_networks(tmp_path, monkeypatch, released, network) -> None:
    path = tmp_path / "best_model.ckpt"
    save_lightning_checkpoint(path, released, monkeypatch)
    content = read_checkpoint(path)
    assert is_released(content["state_dict"])
    assert content["lr_schedulers"][0]["best"] == 0.6
    assert content["hyper_parameters"]["train_params"]["learning_rate"] == 0.24
    assert not is_resumable(content)
    load_weights(network, content, path)
    assert torch.equal(network.image_branch.conv1.weight, released["model_2d.conv1.weight"])
    gate = network.get_parameter("distillation.blocks.1.gate.weight")
    assert torch.equal(gate, released["fusion.fcs2.1.0.weight"])

    baseline = build_network(golden_config(), baseline_only=True)
    load_weights(baseline, content, path)
    of_full = network.network_3d.state_dict()
    assert all(torch.equal(tensor, of_full[name]) for name, tensor in baseline.state_dict().items())


def test_real_easydict_loads(tmp_path) -> None:
    easydict = pytest.importorskip("easydict")
    torch.save({"hyper_parameters": easydict.EasyDict(a={"b": [1, {"c": 2}]}), "w": torch.ones(1)}, tmp_path / "x.ckpt")
    assert read_checkpoint(tmp_path / "x.ckpt")["hyper_parameters"] == {"a": {"b": [1, {"c": 2}]}}


def test_nothing_of_a_checkpoint_is_more_than_data(tmp_path, monkeypatch, released) -> None:
    """Foreign classes become inert stand-ins: no object of the libraries that they name is made."""
    save_lightning_checkpoint(tmp_path / "x.ckpt", {"w": torch.ones(1)}, monkeypatch)

    def kinds(value: object) -> set[type]:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        if not isinstance(inner, list | tuple):
            inner = ()
        return {type(value)}.union(*map(kinds, inner))

    modules = {kind.__module__ for kind in kinds(read_checkpoint(tmp_path / "x.ckpt"))}
    assert modules <= {"builtins", "torch", "network.weights.pickled"}


@pytest.mark.parametrize(
    "content", [{}, {"state_dict": {}}, {"state_dict": [1]}, {"state_dict": None}, {1: torch.ones(1)}, {"epoch": 3}]
)
def test_checkpoint_without_weights(network, content) -> None:
    assert "holds no weights" in refusal(load_weights, network, content, "x.ckpt")


def unchanged(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_checkpoint_of_another_width_names_tensors_and_changes_nothing(released) -> None:
    network = build_network(golden_config("model_params.hiden_size=32"), baseline_only=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    message = refusal(load_weights, network, {"state_dict": released}, "wide.ckpt")
    assert "wide.ckpt" in message and "--config" in message
    assert "network_3d." not in message, "names are those of the network that is loaded"
    assert "embed_points.weight is [16, 10] in the file, [32, 10] by the config" in message
    assert unchanged(network, before)


def test_checkpoint_of_another_model_names_tensors(network, released) -> None:
    other = {"stem.0.kernel": torch.ones(27, 4, 32), "stage1.0.net.0.kernel": torch.ones(8, 32, 32)}
    message = refusal(load_weights, network, {"state_dict": other}, "other.ckpt")
    assert "other.ckpt" in message and "tensors differ" in message and "embed_points.weight is missing" in message
    mixed = {**released, "model_3d.decoder.0.weight": torch.ones(1)}
    assert "'model_3d.decoder.0.weight'" in refusal(load_weights, network, {"state_dict": mixed}, "other.ckpt")


def test_incomplete_checkpoint(network, released) -> None:
    part = {name: tensor for name, tensor in released.items() if name != "fusion.fcs2.0.0.bias"}
    message = refusal(load_weights, network, {"state_dict": part}, "x.ckpt")
    assert "distillation.blocks.0.gate.bias is missing in the file" in message


def tiny_state() -> dict[str, Tensor]:
    return make_network_3d((2,), 4).state_dict()


ODD = {
    "meta": lambda w: w.to("meta"),
    "sparse": lambda w: w.to_sparse(),
    "rows": lambda w: w.to_sparse_csr(),
    "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "nested": lambda w: torch.nested.nested_tensor([w, w[:2]]),
    "complex": lambda w: w.to(torch.complex64),
    "bool": lambda w: w > 0,
    "whole numbers": lambda w: w.long(),
    "NaN": lambda w: w * math.nan,
    "one inf": lambda w: w.index_fill(0, torch.tensor(0), math.inf),
    "too large for float32": lambda w: w.double() * 1e300 + 1e300,
    "expanded": lambda w: torch.zeros(()).expand(w.shape),
    "a dimension of nothing": lambda w: w.new_empty(0, *w.shape),
    "five dimensions of nothing": lambda w: w.new_empty(0, 3, 3, 3, 0),
    "a number": lambda w: 3.0,
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_only_plain_finite_tensors_of_numbers_are_taken(tmp_path, kind, legacy) -> None:
    network, state = make_network_3d((2,), 4), tiny_state()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["embed_points.weight"] = ODD[kind](state["embed_points.weight"])
    path = tmp_path / "x.ckpt"
    try:
        torch.save({"state_dict": dict(state)}, path, _use_new_zipfile_serialization=not legacy)
    except (RuntimeError, NotImplementedError, AttributeError):
        pytest.skip("torch cannot write it")
    if kind == "expanded" or (kind == "quantised" and legacy):  # said before it is looked what is wanted of the file
        message = refusal(read_checkpoint, path)
    else:
        message = refusal(load_weights, network, read_checkpoint(path), path)
        assert "embed_points.weight" in message
    assert message.startswith(f"{path}: ") and unchanged(network, before)


@pytest.mark.parametrize(
    ("ending", "value"),
    [("num_batches_tracked", 2.0), ("num_batches_tracked", True), ("num_batches_tracked", -1), ("running_var", -0.5)],
)
def test_buffers_of_batchnorm_are_what_they_can_be(ending, value) -> None:
    state = tiny_state()
    name = next(name for name in state if name.endswith(ending))
    state[name] = torch.full_like(state[name], value, dtype=torch.tensor(value).dtype)
    message = refusal(load_weights, make_network_3d((2,), 4), {"state_dict": state}, "x.ckpt")
    assert name in message


def test_names_of_released_tensors_with_nothing_in_them(released, network) -> None:
    """The error is one line, also for tensors whose layout is changed."""
    name = next(name for name, tensor in released.items() if tensor.dim() == 5)
    state = {**released, name: torch.empty(0, 3, 3, 3, 0)}
    assert "by the config" in refusal(load_weights, network, {"state_dict": state}, "x.ckpt")


def wrapped(state: dict[str, Any], *prefixes: str) -> dict[str, Any]:
    return {"".join(prefixes) + name: tensor for name, tensor in state.items()}


WRAPPERS = {
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"x": torch.ones(2)}}}, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "two": lambda state: {"model": {"state_dict": state}, "epoch": torch.tensor(3)},
    "module.": lambda state: wrapped(state, "module."),
    "compiled": lambda state: {"state_dict": wrapped(state, "_orig_mod.")},
    "compiled inside": lambda state: wrapped({f"_orig_mod.{n}" if i % 2 else n: v for i, (n, v) in enumerate(state.items())}),  # noqa: E501
    "all": lambda state: {"model": wrapped(state, "module.", "_orig_mod.", "model.")},
    "ours and theirs": lambda state: {"state_dict": wrapped(state, "network.", "module."), "model": None},
    "a preferred one": lambda state: {"state_dict": state, "model": {"w": torch.ones(1)}},
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("published", [False, True])
def test_weights_are_found_in_their_wrappers(wrapper, published, released, network) -> None:
    """The weights are those of this project's 3D network, and of the whole published network."""
    state = released if published else tiny_state()
    target = network if published else make_network_3d((2,), 4, seed=1)
    load_weights(target, WRAPPERS[wrapper](state), "x.ckpt")
    expected = canonical_state({"state_dict": state}, "x.ckpt")
    expected = expected if published else {n.removeprefix("network_3d."): v for n, v in expected.items()}
    assert unchanged(target, expected)


def test_wrappers_that_are_not_clear_are_refused(network) -> None:
    state = tiny_state()
    message = refusal(canonical_state, {"model": state, "network": state}, "x.ckpt")
    assert "'model'" in message and "'network'" in message
    twice = {**state, **wrapped(state, "_orig_mod.")}
    assert "two tensors of one name" in refusal(canonical_state, twice, "x.ckpt")


@pytest.mark.parametrize("name", ["minkowskinet", "spvcnn"])
def test_older_names_of_the_voxel_models(name) -> None:
    """Their BatchNorms were modules around torch's: `stem.1.bn.weight`."""
    state = released_state(f"{name}_semantickitti")
    norms = {other.rpartition(".")[0] for other in state if other.endswith("running_mean")}
    older = {
        f"{part}.bn.{last}" if part in norms and not part.startswith("point") else whole: tensor
        for whole, tensor in state.items()
        for part, _, last in [whole.rpartition(".")]
    }
    assert sum(".bn." in other for other in older) > 100
    expected, found = canonical_state({"model": state}, "x"), canonical_state({"model": older}, "x")
    assert list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)
    both = {**state, "stem.1.bn.weight": state["stem.1.weight"]}
    assert "twice" in refusal(canonical_state, {"model": both}, "x")


def test_own_checkpoints_round_trip(network) -> None:
    baseline = build_network(golden_config(), baseline_only=True)
    for source in (network, baseline):
        saved = {f"network.{name}": tensor.clone() for name, tensor in source.state_dict().items()}  # the task's names
        for target in (network, baseline):
            full = target is network
            with torch.no_grad():
                for parameter in target.parameters():
                    parameter.zero_()
            if full and source is baseline:
                assert "is missing in the file" in refusal(load_weights, target, {"state_dict": saved}, "x.ckpt")
                continue
            load_weights(target, {"state_dict": saved}, "x.ckpt")
            found = network.network_3d.state_dict() if full else baseline.state_dict()
            names = ("network.network_3d." if source is network else "network.") + "{}"
            assert all(torch.equal(tensor, saved[names.format(name)]) for name, tensor in found.items())
        source.load_state_dict({name.removeprefix("network."): tensor for name, tensor in saved.items()})


def test_image_branch_takes_what_fits(released) -> None:
    network = build_network(golden_config("model_params.hiden_size=32"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    line = load_image_branch(network, {"state_dict": released}, "x.ckpt")
    state = network.state_dict()
    own = [name for name in state if name.startswith("image_branch.")]
    ours = canonical_state({"state_dict": released}, "x.ckpt")
    fitting = [name for name in own if ours[name].shape == state[name].shape]
    assert 0 < len(fitting) < len(own), "the decoders of another width do not fit"
    assert f"{len(fitting)} of {len(own)} tensors" in line
    for name, tensor in state.items():
        assert torch.equal(tensor, ours[name] if name in fitting else before[name]), name


def test_image_branch_takes_a_torchvision_resnet(network) -> None:
    resnet = {
        name.removeprefix("image_branch."): torch.rand(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.startswith("image_branch.") and "decoders" not in name and tensor.dim()
    }
    load_image_branch(network, {**resnet, "fc.weight": torch.ones(1000, 512)}, "resnet34.pth")
    assert all(torch.equal(network.image_branch.state_dict()[name], tensor) for name, tensor in resnet.items())


def test_image_branch_refuses_what_it_cannot_use(network) -> None:
    baseline = build_network(golden_config(), baseline_only=True)
    assert "--baseline_only" in refusal(load_image_branch, baseline, {"conv1.weight": torch.ones(1)}, "x.ckpt")
    assert "no tensor fits" in refusal(load_image_branch, network, {"conv1.weight": torch.ones(1)}, "x.ckpt")


def test_weights_of_other_voxels_are_refused() -> None:
    """Volume, grid and scales are not in any tensor, so a change of them would go unnoticed."""
    network = make_network_3d()
    content = {"state_dict": network.state_dict(), "2dpass": {"geometry": network.geometry()}}
    check_geometry(network, content, "x.ckpt")
    check_geometry(network, {"state_dict": network.state_dict()}, "published.ckpt")
    network.volume = Volume((-2.0, -2.0, -1.0), (2.0, 2.0, 0.75), (40, 40, 17))
    message = refusal(check_geometry, network, content, "x.ckpt")
    assert "max_volume_space was 2, 2, 0.5, is 2, 2, 0.75" in message and message.startswith("x.ckpt: ")
