"""Fine-tuning from networks without the age of the points, and without the classes of what moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from network.assemble import build_network
from network.models.segmentation_network import SegmentationNetwork
from network.weights.description import describe
from network.weights.loading import load_weights
from network.weights.widening import load_to_fine_tune, refuse_narrower
from tests.conftest import ROOT
from tests.support.golden import released_state
from tests.support.networks import make_batch, refusal, relative_error
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.labels import LabelMap

FOLDER = ROOT / "config" / "label_mapping"
SINGLE, MULTI = LabelMap.load(FOLDER / "semantic-kitti.yaml"), LabelMap.load(FOLDER / "semantic-kitti-multiscan.yaml")
MODELS = {  # config, published weights, overrides to their size
    "2DPASS": ("arch_2dpass_semkitti", "model_params.hiden_size=16"),
    "MinkowskiNet": ("minkowskinet_semantickitti", "model_params.cr=0.25"),
    "SPVCNN": ("spvcnn_semantickitti", "model_params.cr=0.25"),
}
CASES = {"2DPASS": False, "2DPASS, 3D network alone": True, "MinkowskiNet": False, "SPVCNN": False}


def config_of(name: str, *overrides: str, multiscan: bool = True) -> Config:
    path = ROOT / "config" / f"{name}-{'multiscan-' if multiscan else ''}semantickitti.yaml"
    return load_config(path, [MODELS[name][1], *overrides])


def content_of(network: SegmentationNetwork, config: Config, label_map: LabelMap) -> dict[str, Any]:
    """Makes a checkpoint as a training of this program writes it."""
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return {"state_dict": weights, "2dpass": {"geometry": {}, "description": describe(config, label_map, None)}}


def logits(network: SegmentationNetwork, points: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval().predict(replace(make_batch((300,), spread=3.0), points=points))


@pytest.mark.parametrize("case", CASES)
def test_a_published_network_begins_as_it_was(case) -> None:
    """Whatever the age, static classes have the logits of the published network, and moving ones those of static."""
    name, baseline = case.partition(",")[0], CASES[case]
    published = {"state_dict": released_state(MODELS[name][0])}
    old = build_network(config_of(name, multiscan=False), baseline)
    load_weights(old, published, "x.ckpt")
    network = build_network(config_of(name), baseline)
    lines = load_to_fine_tune(network, published, "x.ckpt", MULTI.names)
    assert len(lines) == 2 and lines[0].endswith("start at 0: age")
    assert "moving-car as car, moving-bicyclist as bicyclist" in lines[1] and "\n" not in lines[1]

    points = make_batch((300,), spread=3.0).points
    ages = torch.randint(3, (300, 1), generator=torch.Generator().manual_seed(0)).float()
    found, expected = logits(network, torch.cat([points, ages], dim=1)), logits(old, points)
    assert relative_error(found[:, :20], expected) < 1e-5
    static = [MULTI.names.index(name.removeprefix("moving-")) for name in MULTI.names[20:]]
    assert static == [1, 7, 6, 8, 5, 4]
    assert torch.equal(found[:, 20:], found[:, static])
    ours, before = network.state_dict(), old.state_dict()
    wider = [key for key in ours if ours[key].shape != before[key].shape]
    assert sorted(wider) == sorted([*network.input_weights(), *network.output_weights()])
    assert all(torch.equal(ours[key], before[key]) for key in ours if key not in wider)


@pytest.mark.parametrize("known", [20, 26])
@pytest.mark.parametrize("takes_age", [False, True])
def test_only_what_is_new_is_widened(known, takes_age) -> None:
    """The classes of a checkpoint of this program are those of its description."""
    single = config_of("SPVCNN", multiscan=False)
    old = single if known == 20 else config_of("SPVCNN", "model_params.input_dims=4", "dataset_params.past_scans=0")
    if takes_age:
        old = config_of("SPVCNN", "model_params.input_dims=5", multiscan=False) if known == 20 else config_of("SPVCNN")
    label_map = SINGLE if known == 20 else MULTI
    content = content_of(build_network(old), old, label_map)
    network = build_network(config_of("SPVCNN"))
    lines = load_to_fine_tune(network, content, "x.ckpt", MULTI.names)
    assert len(lines) == (known == 20) + (not takes_age)
    assert not network.get_parameter("stem.conv1.weight")[:, 4].any() or takes_age
    given = content["state_dict"]
    assert torch.equal(network.get_parameter("classifier.weight")[:known], given["network.classifier.weight"])
    if lines:
        message = refusal(refuse_narrower, network, content, "x.ckpt", MULTI.names)
        assert message.startswith("x.ckpt: was trained with") and "--fine_tune" in message
        assert ("without the age of points" in message) != takes_age
        assert ("with 20 of the 26 classes" in message) == (known == 20)
    else:
        refuse_narrower(network, content, "x.ckpt", MULTI.names)


def renamed(number: int, name: str) -> LabelMap:
    return replace(SINGLE, names=(*SINGLE.names[:number], name, *SINGLE.names[number + 1 :]))


def without(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names[:-1], "moving-tram")


REFUSED = {  # names of the classes of the new network, its overrides, the checkpoint's classes -> what is said
    "other classes": (MULTI.names, (), renamed(3, "motorbike"), "with 20 classes, the config has 26"),
    "a class that nothing stands for": (without(MULTI.names), (), SINGLE, "with 20 classes, the config has 26"),
    "another width": (MULTI.names, ("model_params.cr=0.5",), SINGLE, "stem.conv1.weight is [27, 4, 8] in the file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_as_ever(case) -> None:
    names, overrides, label_map, expected = REFUSED[case]
    old = config_of("SPVCNN", multiscan=False)
    network = build_network(config_of("SPVCNN", *overrides))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    content = content_of(build_network(old), old, label_map)
    for function in (load_to_fine_tune, refuse_narrower):
        message = refusal(function, network, content, "x.ckpt", names)
        assert expected in message
        assert ("give --fine_tune --new_head" if "classes" in expected else "of another model or config") in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def of_classes(name: str, baseline: bool, number: int) -> SegmentationNetwork:
    """Makes a network of a published size for another number of classes, with other weights each time."""
    unweighted = "dataset_params.seg_labelweights=null"
    return build_network(config_of(name, f"model_params.num_classes={number}", unweighted, multiscan=False), baseline)


@pytest.mark.parametrize("number", [7, 20])
@pytest.mark.parametrize("case", CASES)
def test_a_new_head_is_that_of_a_new_network(case, number) -> None:
    """Whatever depends on the number of classes, and nothing else, also where the number is the same."""
    name, baseline = case.partition(",")[0], CASES[case]
    content = {"state_dict": released_state(MODELS[name][0])}
    network, names = of_classes(name, baseline, number), [f"class {i}" for i in range(number)]
    start = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    before = {key: tensor.shape for key, tensor in of_classes(name, baseline, 8).state_dict().items()}
    head = {key for key, tensor in start.items() if tensor.shape != before[key]}
    (line,) = load_to_fine_tune(network, content, "x.ckpt", names, new_head=True)
    assert "\n" not in line and all(key.rpartition(".")[0] in line for key in head)
    old = of_classes(name, baseline, 20)
    load_weights(old, content, "x.ckpt")
    taken = old.state_dict()
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, start[key] if key in head else taken[key]), key
        assert key not in head or number != 20 or not torch.equal(tensor, taken[key])


def test_a_new_head_beside_a_new_column_and_nothing_else() -> None:
    """The age is widened as ever; what does not fit elsewhere, or is damaged there, is refused as ever."""
    old = config_of("SPVCNN", multiscan=False)
    content = content_of(build_network(old), old, SINGLE)
    lines = load_to_fine_tune(build_network(config_of("SPVCNN")), content, "x.ckpt", MULTI.names, new_head=True)
    assert [line.partition(" ")[2].partition(" of ")[0] for line in lines] == ["column", "head"]
    wide = build_network(config_of("SPVCNN", "model_params.cr=0.5", multiscan=False))
    message = refusal(load_to_fine_tune, wide, content, "x.ckpt", SINGLE.names, True)
    assert "another model or config" in message and "stem.conv1.weight is [27, 4, 8] in the file" in message
    content["state_dict"]["network.stem.conv1.weight"] *= torch.nan
    network = build_network(old)
    message = refusal(load_to_fine_tune, network, content, "x.ckpt", SINGLE.names, True)
    assert "stem.conv1.weight holds NaN" in message


def test_as_many_classes_of_other_names_are_refused_without_a_new_head() -> None:
    config = config_of("SPVCNN", multiscan=False)
    network, content = build_network(config), content_of(build_network(config), config, renamed(3, "motorbike"))
    message = refusal(load_to_fine_tune, network, content, "x.ckpt", SINGLE.names)
    assert "class 3 is motorbike there, motorcycle here; give --new_head" in message and "\n" not in message
    load_to_fine_tune(network, content, "x.ckpt", SINGLE.names, new_head=True)
    load_to_fine_tune(network, content, "x.ckpt", renamed(3, "motorbike").names)


def test_nothing_is_narrowed_and_no_other_column_is_new() -> None:
    wide, narrow = config_of("SPVCNN"), config_of("SPVCNN", multiscan=False)
    content = content_of(build_network(wide), wide, MULTI)
    message = refusal(load_to_fine_tune, build_network(narrow), content, "x.ckpt", SINGLE.names)
    assert "stem.conv1.weight is [27, 5, 8] in the file, [27, 4, 8] by the config" in message
    for config, columns in ((narrow, 3), (wide, 3)):
        network = build_network(config)
        state = {**network.state_dict(), "stem.conv1.weight": torch.zeros(27, columns, 8)}
        names = SINGLE.names if config is narrow else MULTI.names
        message = refusal(load_to_fine_tune, network, {"state_dict": state}, "x.ckpt", names)
        assert f"stem.conv1.weight is [27, {columns}, 8] in the file" in message


def test_a_network_of_another_data_set_has_no_classes_to_begin_with() -> None:
    """17 classes of nuScenes, which a published checkpoint does not name: what follows them is not what moves."""
    state = build_network(config_of("SPVCNN", multiscan=False)).state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][:17]
    network = build_network(config_of("SPVCNN"))
    message = refusal(load_to_fine_tune, network, {"state_dict": state}, "x.ckpt", MULTI.names)
    assert "was trained with 17 classes, the config has 26; give --fine_tune --new_head" in message


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        ("stem.conv1.weight", lambda tensor: tensor * torch.nan, "stem.conv1.weight holds NaN or inf"),
        ("stem.conv1.weight", lambda tensor: tensor > 0, "stem.conv1.weight is bool"),
        ("classifier.weight", lambda tensor: tensor.to(torch.complex64), "classifier.weight is complex64"),
        ("classifier.bias", lambda tensor: tensor[:19], "classifier.bias is [19]"),
        ("classifier.bias", lambda tensor: tensor[0], "classifier.bias is []"),
        ("classifier.weight", lambda tensor: tensor[:, :0], "classifier.weight is [26, 0]"),
        ("stem.conv1.weight", lambda tensor: tensor[None], "stem.conv1.weight is [1, 27, 4, 8]"),
    ],
)
def test_damaged_weights_are_named(name, spoil, expected) -> None:
    state = build_network(config_of("SPVCNN", multiscan=False)).state_dict()
    state[name] = spoil(state[name])
    network = build_network(config_of("SPVCNN"))
    assert expected in refusal(load_to_fine_tune, network, {"state_dict": state}, "x.ckpt", MULTI.names)
