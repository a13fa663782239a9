"""Operations that are over before PyTorch has woken its threads: on the CPU, NumPy does them on the thread that asks.

Waking a thread that sleeps takes about a millisecond, at times ten. These operations take a tenth of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def whole_numbers(numbers: Tensor) -> Tensor:
    """Returns whole numbers as int64."""
    if numbers.device.type != "cpu":
        return numbers.long()
    return torch.from_numpy(numbers.numpy().astype(np.int64))


def filled(shape: tuple[int, ...], value: int, device: torch.device) -> Tensor:
    """Returns a tensor of one int64 number."""
    if device.type != "cpu":
        return torch.full(shape, value, device=device)
    return torch.from_numpy(np.full(shape, value, dtype=np.int64))


def numbered(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Returns (sum of `lengths`,) int64: as many times 0 as the first of them says, then as many times 1, and so on."""
    if device.type == "cpu":
        return torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    found = torch.zeros(sum(lengths), dtype=torch.int64, device=device)
    for number, part in enumerate(found.split(list(lengths))):
        if number:
            part.fill_(number)
    return found


def taken(table: Tensor, rows: Tensor) -> Tensor:
    """Returns the rows of a table that `rows`, (any,) int64, names."""
    if table.device.type != "cpu":
        return table.index_select(0, rows)
    return torch.from_numpy(table.numpy().take(rows.numpy(), axis=0))


def put_rows(table: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Writes `values` into the rows of a table that `rows` names; returns the table."""
    if table.device.type != "cpu":
        return table.index_copy_(0, rows, values)
    table.numpy()[rows.numpy()] = values.numpy()
    return table
