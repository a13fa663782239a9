"""The whole of 2DPASS, compared with outputs of the published network."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD
from network.models.losses import SegmentationLoss, class_weights
from network.models.network_3d import Network3D
from network.sparse import native_backend, torch_backend
from network.teachers.resnet34 import ImageBranch
from network.weights.released import our_name, translate
from tests.support.golden import GOLDEN, golden_batch, released_state
from utils.scan.volume import Volume

SEMKITTI = yaml.safe_load(Path("config/2DPASS-semantickitti.yaml").read_text())
SEMKITTI_COUNTS = SEMKITTI["dataset_params"]["seg_labelweights"]
CASES = {
    "semkitti": dict(scales=(2, 4, 8, 16), classes=20, top=2.0, grid=60, lovasz=0.1, counts=SEMKITTI_COUNTS),
    "nuscenes": dict(scales=(2, 4, 8, 16, 16, 16), classes=17, top=3.0, grid=70, lovasz=1.0, counts=None),
}


BACKENDS = {backend.name: backend for backend in (torch_backend.BACKEND, native_backend.BACKEND)}


@pytest.fixture(scope="module", params=[(name, backend) for name in CASES for backend in BACKENDS], ids="-".join)
def case(request):
    name, backend = request.param
    setting = CASES[name]
    with np.load(GOLDEN / f"arch_2dpass_{name}.npz") as file:
        golden = dict(file)
    weights = None if setting["counts"] is None else class_weights(setting["counts"])
    criterion = SegmentationLoss(weights)
    volume = Volume((-50.0, -50.0, -4.0), (50.0, 50.0, setting["top"]), (1000, 1000, setting["grid"]))
    scales, classes = setting["scales"], setting["classes"]
    network = Arch2DPASS(
        Network3D(volume, scales, 16, classes, BACKENDS[backend], criterion, setting["lovasz"]),
        ImageBranch(16, scales),
        MSFSKD(scales, 16, classes, criterion, 1.0, 0.05),
    )
    # Strict: every released name has a place of the right shape here, and the other way round.
    network.load_state_dict(translate(released_state(f"arch_2dpass_{name}"), "golden"))
    return golden, network, golden_batch(golden)


def relative_error(found, expected) -> float:
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_evaluation_logits_and_losses(case) -> None:
    golden, network, batch = case
    network.eval()
    with torch.no_grad():
        logits = network.predict(batch)
        losses = network.network_3d.point_losses(logits, batch)
    assert relative_error(logits, golden["out_eval_logits"]) < 1e-5
    lambda_lovasz = network.network_3d.lambda_lovasz
    assert losses["loss_ce"].item() == pytest.approx(golden["out_eval_ce"].item(), rel=1e-5)
    assert losses["loss_lovasz"].item() == pytest.approx(lambda_lovasz * golden["out_eval_lovasz"].item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(golden["out_eval_loss"].item(), rel=1e-5)


def test_voxel_counts(case) -> None:
    golden, network, batch = case
    voxels = network.network_3d.voxelize(batch)
    scales = dict(zip((1, *network.network_3d.scale_list), (voxels.base, *voxels.scales), strict=True))
    assert {scale: len(v) for scale, v in scales.items()} == {
        scale: golden[f"out_num_voxels_scale{scale}"].item() for scale in scales
    }


def test_training_losses(case) -> None:
    golden, network, batch = case
    network = copy.deepcopy(network).train()
    losses = network.training_losses(batch)
    by_scale = [value.item() for name, value in losses.items() if name.startswith("loss_scale")]
    assert losses["loss_3d"].item() == pytest.approx(golden["out_train_main_loss"].item(), rel=1e-4)
    assert by_scale == pytest.approx(golden["out_train_scale_losses"].tolist(), rel=1e-4)
    assert losses["loss_fusion"].item() == pytest.approx(golden["out_train_fusion_final_loss"].item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx(golden["out_train_total_loss"].item(), rel=1e-4)


# In float64 there is one backend.
@pytest.mark.parametrize("case", [(name, "torch") for name in CASES], ids="-".join, indirect=True)
def test_gradient_norms(case) -> None:
    """The norms are computed in float64: in float32, a ReLU near 0 depends on the order of summation of the threads."""
    golden, network, batch = case
    network = copy.deepcopy(network).double().train()
    voxels = network.network_3d.voxelize(batch)  # of the float32 coordinates, as published
    network.network_3d.voxelize = lambda batch: replace(voxels, features=voxels.features.double())
    losses = network.training_losses(replace(batch, images=batch.images.double()))
    losses["loss"].backward()
    norms = {name: p.grad.norm().item() for name, p in network.named_parameters() if p.grad is not None}
    expected = {
        our_name(str(name)): norm for name, norm in zip(golden["out_grad_names"], golden["out_grad_norms"], strict=True)
    }
    assert norms.keys() == expected.keys()
    # A bias in front of BatchNorm has no gradient but rounding noise, hence the absolute term.
    scale = max(expected.values())
    error = {name: abs(norms[name] - expected[name]) for name in norms}
    wrong = {name: value for name, value in error.items() if value > 3e-3 * expected[name] + 1e-6 * scale}
    assert not wrong
