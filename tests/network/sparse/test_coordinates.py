"""Voxel keys: packing, order, neighbours and division."""

from __future__ import annotations

import itertools

import pytest
import torch

from network.sparse.coordinates import LIMIT, STEP_X, STEP_Y, divide, halve, kernel_offsets, pack, unpack


def coordinates(seed: int = 0, count: int = 4000, limit: int = LIMIT) -> tuple[torch.Tensor, ...]:
    """Returns (batch, z, y, x) coordinates, with the extremes among them."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randint(0, 32768, (count,), generator=generator)
    zyx = torch.randint(-limit, limit + 1, (3, count), generator=generator)
    extremes = torch.tensor(list(itertools.product((-limit, -1, 0, 1, limit), repeat=3))).T
    zyx[:, : extremes.shape[1]] = extremes
    batch[0], batch[1] = 0, 32767
    return (batch, *zyx)


def test_unpack_is_the_inverse_of_pack() -> None:
    for found, expected in zip(unpack(pack(*coordinates())), coordinates(), strict=True):
        assert torch.equal(found, expected)


def test_keys_sort_by_batch_y_x_z() -> None:
    batch, z, y, x = coordinates(limit=3)
    order = sorted(range(len(batch)), key=lambda i: (batch[i].item(), y[i].item(), x[i].item(), z[i].item()))
    assert torch.equal(pack(batch, z, y, x).sort(stable=True)[0], pack(batch, z, y, x)[order])


def test_neighbours_are_a_constant_away() -> None:
    batch, z, y, x = coordinates(limit=LIMIT - 1)
    for dz, dy, dx in itertools.product((-1, 0, 1), repeat=3):
        moved = pack(batch, z + dz, y + dy, x + dx)
        assert torch.equal(moved, pack(batch, z, y, x) + dz + dy * STEP_Y + dx * STEP_X)


def test_steps_from_the_limit_reach_no_voxel() -> None:
    """Even from the outermost voxel, a step leads to a key that no other coordinate or scan has."""
    batch, *_ = coordinates()
    for z, y, x in itertools.product((-LIMIT, LIMIT), repeat=3):
        keys = pack(batch, *(torch.full_like(batch, c) for c in (z, y, x)))
        for axis, step in ((1, 1), (2, STEP_Y), (3, STEP_X)):
            outward = step if (0, z, y, x)[axis] > 0 else -step
            beyond = unpack(keys + outward)
            assert torch.equal(beyond[0], batch)
            assert (beyond[axis].abs() == LIMIT + 1).all()


@pytest.mark.parametrize("far", [LIMIT + 1, 10**6, 2**31, 2**62, torch.iinfo(torch.int64).max])
def test_far_coordinates_are_clamped(far) -> None:
    one = torch.ones(1, dtype=torch.int64)
    for sign in (1, -1):
        assert torch.equal(pack(one, one, one * sign * far, one), pack(one, one, one * sign * LIMIT, one))
        assert torch.equal(pack(one, one * sign * far, one, one), pack(one, one * sign * LIMIT, one, one))
        assert torch.equal(pack(one, one, one, one * sign * far), pack(one, one, one, one * sign * LIMIT))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_divide_rounds_down(stride) -> None:
    batch, *zyx = coordinates()
    expected = [[value // stride for value in axis.tolist()] for axis in zyx]  # Python's // rounds down
    found_batch, *found = unpack(divide(pack(batch, *zyx), stride))
    assert torch.equal(found_batch, batch)
    assert [axis.tolist() for axis in found] == expected


def test_halve_is_divide_by_two() -> None:
    keys = pack(*coordinates())
    assert torch.equal(halve(keys), divide(keys, 2))


def test_kernel_offsets_in_weight_order() -> None:
    assert kernel_offsets(1) == [(0, 0, 0)]
    assert kernel_offsets(2) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
    assert kernel_offsets(3)[0] == (-1, -1, -1)
    assert kernel_offsets(3)[13] == (0, 0, 0)
    assert kernel_offsets(3) == sorted(kernel_offsets(3))
