"""The search for the nearest point inside the volume, as a program can hold it: exact, and without a loop.

Points are put into boxes of 16 that lie close together, those boxes into boxes of 16 and so on. The search goes down
from the largest boxes: of all boxes that can hold the nearest point of a query, it looks into the 16 in each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.scan.nearest import FARTHEST

_FANOUT = 16
_DEPTH = 4
_BITS = 20  # of each axis in the order of the points
_STEPS = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
"""The steps that put two zeros between the bits of a number: shift, and the bits that stay."""


def nearest(points: Tensor, queries: Tensor) -> Tensor:
    """Finds for each query (Q, 3) the row of the nearest of the points (n, 3), exactly; of several, the lowest row.

    Args:
        points: float32, at least one; finite.
        queries: float32, finite. Farther than `FARTHEST` they are brought nearer, in their direction.

    Returns:
        (Q,) int64.
    """
    order = _along_a_curve(points)
    count, most = order.shape[0], _FANOUT**_DEPTH
    # Padded with what is infinitely far away, so that all boxes are full.
    numbers = torch.arange((count + most - 1) // most * most, device=order.device)
    rows = order.index_select(0, numbers.clamp(max=count - 1))
    at, there = points.index_select(0, rows).double(), (numbers < count)[:, None]
    # Of points in one place one is enough, or all of them would be candidates of each query.
    there = there & torch.cat([there[:1], (at[1:] != at[:-1]).any(1, keepdim=True)])
    low, high = torch.where(there, at, torch.inf), torch.where(there, at, -torch.inf)
    boxes = [(low, high)]
    for _ in range(_DEPTH):
        low, high = low.view(-1, _FANOUT, 3).amin(1), high.view(-1, _FANOUT, 3).amax(1)
        boxes.append((low, high))

    away = queries.abs().amax(1, keepdim=True)
    targets = (queries * (FARTHEST / away).clamp(max=1)).double()
    bound = _some_distance(targets, boxes)
    top, inside = boxes[-1][0].shape[0], torch.arange(_FANOUT, device=rows.device)
    query = torch.arange(targets.shape[0], device=rows.device)[:, None].expand(-1, top).reshape(-1)
    box = torch.arange(top, device=rows.device)[None].expand(targets.shape[0], -1).reshape(-1)
    for low, high in boxes[:0:-1]:
        query, box, bound = _prune(targets, query, box, low, high, bound)
        query = query[:, None].expand(-1, _FANOUT).reshape(-1)
        box = (box[:, None] * _FANOUT + inside).reshape(-1)
    query, box, _ = _prune(targets, query, box, *boxes[0], bound)
    found = rows.new_full((targets.shape[0],), count)
    return found.scatter_reduce(0, query, rows.index_select(0, box), "amin")


def _some_distance(targets: Tensor, boxes: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Computes the (Q,) squared distance to a near point, found by going down into the nearest box of each level."""
    inside = torch.arange(_FANOUT, device=targets.device)
    low, high = boxes[-1]
    box = _squared(targets[:, None], low[None], high[None]).argmin(1)
    for low, high in boxes[-2::-1]:
        child = box[:, None] * _FANOUT + inside
        distance = _squared(targets[:, None], low[child], high[child])
        box = child.gather(1, distance.argmin(1, keepdim=True))[:, 0]
    return _squared(targets, low[box], high[box])


def _squared(at: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Computes the squared distance of points (..., 3) to boxes; 0 in a box."""
    return torch.maximum(low - at, at - high).clamp(min=0).square().sum(-1)


def _prune(
    targets: Tensor, query: Tensor, box: Tensor, low: Tensor, high: Tensor, bound: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps the pairs of query and box that can hold the nearest point; `bound` is its squared distance at most."""
    at = targets.index_select(0, query)
    below, above = low.index_select(0, box) - at, at - high.index_select(0, box)
    least = torch.maximum(below, above).clamp(min=0).square().sum(1)
    # Some point of the box is no farther than its farthest corner.
    farthest = torch.minimum(below, above).square().sum(1)
    bound = bound.scatter_reduce(0, query, farthest, "amin")
    kept = (least <= bound.index_select(0, query)).nonzero()[:, 0]
    return query.index_select(0, kept), box.index_select(0, kept), bound


def _along_a_curve(points: Tensor) -> Tensor:
    """Returns the order of the points (n, 3) along Morton's curve, (n,) int64: neighbours there are close together."""
    low = points.amin(0)
    cells = (points - low) * (((1 << _BITS) - 1) / (points.amax(0) - low).amax().clamp(min=1e-3))
    x, y, z = (_spread(axis) for axis in cells.long().unbind(1))
    return (x | y << 1 | z << 2).sort(stable=True).indices


def _spread(number: Tensor) -> Tensor:
    """Puts two zeros between the bits of numbers of `_BITS` bits."""
    for shift, mask in _STEPS:
        number = (number | number << shift) & mask
    return number
