"""Names and layouts of published tensors, compared with those of this project."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from network.assemble import build_network
from network.weights.released import our_layout, our_name
from tests.support.golden import released_state
from tests.support.networks import golden_config


@pytest.mark.parametrize("golden", ["arch_2dpass_semkitti", "arch_2dpass_nuscenes"])
def test_released_names_map_one_to_one_onto_ours(golden) -> None:
    released = released_state(golden)
    scales = "[2,4,8,16,16,16]" if golden.endswith("nuscenes") else "[2,4,8,16]"
    overrides = [f"model_params.scale_list={scales}"]
    if golden.endswith("nuscenes"):
        overrides += ["model_params.num_classes=17", "dataset_params.seg_labelweights=null"]
    own = build_network(golden_config(*overrides)).state_dict()
    ours = {name: our_name(name) for name in released}
    kept = [name for name in ours.values() if name is not None]
    assert len(kept) == len(set(kept))
    assert set(kept) == set(own)
    assert all("criterion" in name or "ce_loss" in name for name, mapped in ours.items() if mapped is None)
    for name, mapped in ours.items():
        if mapped is not None:
            assert our_layout(name, released[name]).shape == own[mapped].shape, name


def test_learner_and_gate_are_not_swapped() -> None:
    assert our_name("fusion.leaners.2.0.weight") == "distillation.blocks.2.learner.weight"
    assert our_name("fusion.fcs1.0.0.bias") == "distillation.blocks.0.fuse.bias"
    assert our_name("fusion.fcs2.3.0.weight") == "distillation.blocks.3.gate.weight"
    with pytest.raises(KeyError):
        our_name("model_3d.unheard_of.weight")


def test_kernel_layout() -> None:
    """[out, kz, ky, kx, in] becomes (kz ky kx, in, out)."""
    kernel = torch.randn(5, 3, 3, 3, 4)
    ours = our_layout("x", kernel)
    for offset, (kz, ky, kx) in enumerate(np.ndindex(3, 3, 3)):
        assert torch.equal(ours[offset], kernel[:, kz, ky, kx].T)
