"""The age of a point, the fifth column of the input, in every network."""

from __future__ import annotations

import pytest
import torch

from network.assemble import build_network
from network.models.segmentation_network import SegmentationNetwork
from tests.conftest import ROOT
from tests.support.networks import make_batch, randomize_norms, with_ages
from utils.config.loading import load_config

CASES = {  # config, --baseline_only, overrides
    "2DPASS": ("2DPASS", False, "model_params.hiden_size=4"),
    "2DPASS, 3D network alone": ("2DPASS", True, "model_params.hiden_size=4"),
    "MinkowskiNet": ("MinkowskiNet", False, "model_params.cr=0.125"),
    "SPVCNN": ("SPVCNN", False, "model_params.cr=0.125"),
}


def make(case: str, input_dims: int) -> SegmentationNetwork:
    name, baseline, width = CASES[case]
    path = ROOT / "config" / f"{name}-multiscan-semantickitti.yaml"
    settings = [width, f"model_params.input_dims={input_dims}", *(["dataset_params.past_scans=0"] * (input_dims == 4))]
    torch.manual_seed(0)
    network = build_network(load_config(path, settings), baseline)
    randomize_norms(network)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
def test_without_its_weights_the_age_changes_nothing_and_with_them_it_does(case) -> None:
    narrow, wide = make(case, 4), make(case, 5)
    assert not narrow.takes_age and wide.takes_age and narrow.geometry() == wide.geometry()
    (name, axis), *others = wide.input_weights().items()
    assert not others
    state = wide.state_dict()
    different = [key for key, value in narrow.state_dict().items() if value.shape != state[key].shape]
    assert different == [name]
    columns = state[name].shape[axis] - 1
    weight = torch.cat([narrow.state_dict()[name], torch.zeros_like(state[name]).narrow(axis, columns, 1)], dim=axis)
    wide.load_state_dict({**narrow.state_dict(), name: weight})

    batch = make_batch((200, 100), spread=2.0)
    aged = with_ages(batch)
    with torch.no_grad():
        expected = narrow.predict(batch)
        torch.testing.assert_close(wide.predict(aged), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
        wide.get_parameter(name).narrow(axis, columns, 1).fill_(0.3)
        moved = (wide.predict(aged) - expected).abs().amax(1)
    past = aged.points[:, 4] > 0
    assert (moved[past] > 1e-4).float().mean() > 0.9


@pytest.mark.parametrize("case", [case for case in CASES if case != "2DPASS"])  # its gradients are those of its 3D part
def test_the_weights_of_the_age_learn(case) -> None:
    network = make(case, 5).train()
    network.training_losses(with_ages(make_batch((200, 100), spread=2.0)))["loss"].backward()
    ((name, axis),) = network.input_weights().items()
    gradient = network.get_parameter(name).grad
    assert gradient is not None and gradient.isfinite().all() and gradient.select(axis, -1).abs().sum() > 0
