"""The comparison of what the library computes with plain PyTorch: some milliseconds, once per machine.

A compiler may be wrong, and so may a virtual machine about its CPU. Convolutions, which depend on the layers of the
network, are compared by `network.sparse.native_check`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from network.native.classes import best_classes
from network.native.convolution import Addend, Epilogue
from network.native.gradients import weight_gradient
from network.native.grouping import tuples
from network.native.linear import linear
from network.native.neighbours import halving_pairs, neighbour_pairs
from network.native.ranking import Ranks, rank
from network.native.rows import sum_rows
from network.native.voxels import halved_keys, voxel_keys

_TYPES = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
"""Types of rows, and the error of a result that is right, relative to the largest one."""


def first_wrong() -> str | None:
    """Returns the name of what the library computes wrongly; None if nothing is found."""
    # The caller's autocast and inference mode are not for the products here.
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return next((name for name, is_right in _CHECKS.items() if not is_right()), None)


def _ranks_are_right() -> bool:
    numbers = (torch.arange(4001) * 7919 % 977 - 400) << 33
    (found,) = rank([numbers]) or [None]
    if found is None:
        return False
    values, inverse, counts = numbers.unique(return_inverse=True, return_counts=True)
    ends = functional.pad(counts.cumsum(0), (1, 0))
    expected = (numbers.argsort(stable=True), inverse, values, ends)
    return all(map(torch.equal, (found.order, found.inverse, found.values, found.ends), expected))


def _neighbours_are_right() -> bool:
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    z = (x + 2 * y) // 4 + x * y % 3
    keys, steps = ((y << 32) + (x << 16) + z + (1 << 40)).view(-1), (1, 1 << 32, 1 << 16)
    pairs = []
    for offset in itertools.product((-1, 0, 1), repeat=3):  # z, y, x
        wanted = keys + sum(d * step for d, step in zip(offset, steps, strict=True))
        there = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        here = (keys[there] == wanted).nonzero()[:, 0] if any(offset) else keys[:0]
        pairs.append((there[here], here))
    place = (z % 2 * 4 + y % 2 * 2 + x % 2).view(-1)
    children = [((place == number).nonzero()[:, 0],) * 2 for number in range(8)]
    found = (neighbour_pairs(keys, 3), halving_pairs(keys, torch.arange(len(keys))))
    for ours, expected in zip(found, (pairs, children), strict=True):
        if ours is None or ours.ends.diff().tolist() != [len(rows) for rows, _ in expected]:
            return False
        lists = (torch.cat(rows) for rows in zip(*expected, strict=True))
        if not all(map(torch.equal, (ours.inputs.long(), ours.outputs.long()), lists)):
            return False
    return True


def _row_sums_are_right() -> bool:
    source, ends = torch.arange(5000) * 37 % 611, torch.arange(1001) * 5
    weight = _numbers(5000, 1)[:, 0]
    for dtype in _TYPES:
        rows = _numbers(611, 67).to(dtype)
        found = sum_rows(rows, source, ends, weight)
        expected = (rows.double()[source] * weight[:, None]).view(1000, 5, 67).sum(1)
        if found is None or not _close(found, expected):
            return False
    return True


def _gradients_are_right() -> bool:
    for dtype in _TYPES:
        features, grad = _numbers(1500, 67).to(dtype), _numbers(1500, 33).to(dtype)
        weight, bias = weight_gradient(features, grad, with_bias=True)
        expected = features.double().T @ grad.double()
        if bias is None or not _close(weight[0], expected) or not _close(bias, grad.double().sum(0)):
            return False
    return True


def _linear_layers_are_right() -> bool:
    weight, bias = _numbers(67, 33), _numbers(1, 67)[0]
    for dtype in _TYPES:
        features, residual = _numbers(1500, 33).to(dtype), _numbers(1500, 67).to(dtype)
        found, _ = linear(features, weight.to(dtype), Epilogue(bias, (Addend(residual),), slope=0.1))
        sums = features.double() @ weight.to(dtype).double().T + bias + residual
        if not _close(found, functional.leaky_relu(sums, 0.1)):
            return False
    return True


def _classes_are_right() -> bool:
    logits = _numbers(1500, 21)
    found = best_classes(logits)
    return found is not None and torch.equal(found[0].long(), logits[:, 1:].argmax(1) + 1) and bool(found[1])


def _voxel_keys_are_right() -> bool:
    points, scans = _numbers(1500, 5), torch.arange(1500) % 3
    low, extent, cells = (
        torch.tensor([-2.0, -1.5, -1.0]),
        torch.tensor([4.0, 3.0, 2.0]),
        torch.tensor([40.0, 30.0, 9.0]),
    )
    found = voxel_keys(points, scans, low, extent, [cells])
    x, y, z = (((points[:, :3] - low) * cells / extent).floor().long() + (1 << 15)).unbind(1)
    expected = scans << 48 | y << 32 | x << 16 | z
    if found is None or not torch.equal(found[0], expected):
        return False
    halves = scans << 48 | (y // 2 + (1 << 14)) << 32 | (x // 2 + (1 << 14)) << 16 | (z // 2 + (1 << 14))
    halved = halved_keys(expected)
    return halved is not None and torch.equal(halved, halves)


def _tuples_are_right() -> bool:
    columns = torch.arange(4000)[:, None] * torch.tensor([7919, 104729, 31]) % torch.tensor([61, 5, 3])
    (first,) = rank([columns[:, 0].contiguous()]) or [None]
    found = None if first is None else tuples(_Grouped(first), list(columns[:, 1:].T))
    if found is None:
        return False
    _, inverse, counts = columns.unique(dim=0, return_inverse=True, return_counts=True)
    ends = functional.pad(counts.cumsum(0), (1, 0))
    expected = (inverse, inverse.argsort(stable=True), ends)
    return all(map(torch.equal, (found.inverse, found.order, found.ends), expected))


class _Grouped:
    """Points by the rank of a number of theirs."""

    def __init__(self, ranks: Ranks) -> None:
        self.inverse, self.order, self.ends = ranks.inverse, ranks.order, ranks.ends

    def __len__(self) -> int:
        return len(self.ends) - 1


_CHECKS: dict[str, Callable[[], bool]] = {
    "ranks": _ranks_are_right,
    "neighbours": _neighbours_are_right,
    "sums of rows": _row_sums_are_right,
    "gradients of weights": _gradients_are_right,
    "linear layers": _linear_layers_are_right,
    "classes": _classes_are_right,
    "voxel keys": _voxel_keys_are_right,
    "tuples": _tuples_are_right,
}
NAMES = tuple(_CHECKS)
"""What is compared."""


def _numbers(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))


def _close(found: Tensor, expected: Tensor) -> bool:
    tolerance = _TYPES[found.dtype] * expected.abs().max()
    return found.shape == expected.shape and bool(((found.double() - expected).abs() <= tolerance).all())
