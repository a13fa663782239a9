"""The native lists of neighbouring voxels are those of the torch backend, pair by pair and in the same order."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from network.native import neighbours
from network.native.library import library, switched_off
from network.sparse import native_backend, torch_backend
from network.sparse.coordinates import LIMIT, halve, pack

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")


def keys_of(*coordinates: tuple[int, ...]) -> Tensor:
    """Returns the sorted keys of (batch, z, y, x) tuples."""
    return torch.unique(pack(*torch.tensor(coordinates, dtype=torch.int64).view(-1, 4).unbind(1)))


def drawn(scans: int, edge: int, count: int) -> Tensor:
    """Draws distinct voxels in a cube around the origin of each scan."""
    generator = torch.Generator().manual_seed(count)
    axes = torch.randint(-edge // 2, edge // 2 + 1, (3, count), generator=generator)
    return torch.unique(pack(torch.randint(scans, (count,), generator=generator), *axes))


EDGE = (-LIMIT, 1 - LIMIT, LIMIT - 1, LIMIT)
VOXELS = {
    "none": keys_of(),
    "one": keys_of((0, -1, 2, -3)),
    "two neighbours": keys_of((0, 0, 0, 0), (0, 1, 0, 0)),
    "dense": keys_of(*itertools.product((0, 1), range(-3, 3), range(-2, 3), range(-1, 3))),
    "column": keys_of(*((0, z, 0, 0) for z in (-4, -3, -2, 0, 1, 3))),
    "row": keys_of(*((0, 0, 0, x) for x in range(-9, 9))),
    "corners of the volume": keys_of(*((32767, *zyx) for zyx in itertools.product(EDGE, repeat=3))),
    "faces of two scans": keys_of((0, LIMIT, LIMIT, LIMIT), (1, -LIMIT, -LIMIT, -LIMIT), (1, 0, -LIMIT, 0)),
    "crowded": drawn(3, 8, 1500),
    "loose": drawn(2, 30, 2000),
}


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def assert_equal_maps(found: native_backend.NativeMap, expected: torch_backend.PairMap) -> None:
    assert found.inputs.dtype == found.outputs.dtype == torch.int32 and found.ends.dtype == torch.int64
    for name in ("num_inputs", "num_outputs", "identity", "mirrored"):
        assert getattr(found, name) == getattr(expected, name)
    assert len(found.inputs) == len(found.outputs) == found.ends[-1] and found.ends[0] == 0
    assert found.ends.diff().tolist() == [len(rows) for rows in expected.inputs]
    assert torch.equal(found.inputs.long(), torch.cat(expected.inputs))
    assert torch.equal(found.outputs.long(), torch.cat(expected.outputs))


@pytest.mark.parametrize("name", VOXELS)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_submanifold_maps(name, kernel_size, threads) -> None:
    keys = VOXELS[name]
    found = native_backend.submanifold_map(keys, kernel_size)
    assert_equal_maps(found, torch_backend.submanifold_map(keys, kernel_size))
    with switched_off():
        assert_equal_maps(native_backend.submanifold_map(keys, kernel_size), found.plain)


def test_keys_may_be_strided() -> None:
    keys = VOXELS["crowded"]
    strided = keys.repeat_interleave(2)[::2]
    assert_equal_maps(native_backend.submanifold_map(strided, 3), torch_backend.submanifold_map(keys, 3))
    parent = torch.arange(2 * len(keys))[::2]
    assert_equal_maps(
        native_backend.halving_map(strided, parent, 2 * len(keys)),
        torch_backend.halving_map(keys, parent, 2 * len(keys)),
    )


@pytest.mark.parametrize("name", VOXELS)
def test_halving_maps(name, threads) -> None:
    keys = VOXELS[name]
    coarse, parent = torch.unique(halve(keys), return_inverse=True)
    found = native_backend.halving_map(keys, parent, len(coarse))
    expected = torch_backend.halving_map(keys, parent, len(coarse))
    assert_equal_maps(found, expected)
    assert_equal_maps(found.transposed(), expected.transposed())


def test_unsupported_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel size 1, 2 or 3, got 5"):
        native_backend.submanifold_map(VOXELS["dense"], 5)


def test_switched_off_nothing_is_searched_natively() -> None:
    with switched_off():
        assert neighbours.neighbour_pairs(VOXELS["dense"], 3) is None
        assert neighbours.halving_pairs(VOXELS["dense"], VOXELS["dense"]) is None
