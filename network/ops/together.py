"""Several lists ranked with one sort; the numbers of their distinct values are read by the host, or fixed beforehand.

A GPU sorts one long list sooner than several short ones, and every operation costs the host some microseconds. Where
every list ends with padding, the sizes of the results can be fixed: then the host waits for nothing, and a CUDA graph
can repeat the same work for other values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from network.ops.distinct import Distinct

SPREAD = 64
"""Rows of padding that share a value. A sum over many rows is one long loop of a few threads of a GPU."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A frozen record of where the distinct values of R lists stand in tensors of fixed sizes.

    List k has sizes[k] rows, from slots[k] on, and one more slot for the end of its last row.

    Attributes:
        sizes: number of rows of each list.
        slots: where each list begins; the last entry is the number of all slots T.
        slot: (T,) int64, the numbers 0, 1, 2 and so on.
        row: (T,) int64, the row of each slot in its list, less 1; at its end, one that is surely beyond all values.
        of_list: (T,) int64, the list of each slot.
        last: (T,) int64, the place of the greatest value of that list among the sorted values of all lists.
        of_value: (L,) int64, the list of each value.
    """

    sizes: tuple[int, ...]
    slots: tuple[int, ...]
    slot: Tensor
    row: Tensor
    of_list: Tensor
    last: Tensor
    of_value: Tensor

    @staticmethod
    def of(sizes: Sequence[int], lengths: Sequence[int], device: torch.device) -> Layout:
        """Makes the layout for lists of these lengths; its tensors are sent to the device, so it is to be kept."""
        slots = (0, *accumulate(size + 1 for size in sizes))
        with torch.device("cpu"):
            slot, numbers = torch.arange(slots[-1]), torch.arange(len(sizes))
            of_list = numbers.repeat_interleave(torch.tensor(sizes) + 1)
            row = slot - torch.tensor(slots[:-1])[of_list] - 1
            row[torch.tensor(slots[1:]) - 1] = torch.tensor(lengths)
            of_value = numbers.repeat_interleave(torch.tensor(lengths))
            last = (torch.tensor(lengths).cumsum(0) - 1)[of_list]
        return Layout(tuple(sizes), slots, *(tensor.to(device) for tensor in (slot, row, of_list, last, of_value)))


class JointRanking:
    """A ranking of several lists of at least one value each.

    Attributes:
        until: (R,) int64, the number of distinct values of the first list, of the first two, and so on.
        first_ranks: (R,) int64, the rank, from 1 and through all lists, of the least value of each list.
    """

    def __init__(self, values: Tensor, lengths: Sequence[int]) -> None:
        """Ranks the values of each list.

        Args:
            values: (L,) int64, the R lists one after another; all values of a list are below those of the next one.
            lengths: number of values of each list.
        """
        self.lengths = tuple(lengths)
        self.starts = (0, *accumulate(lengths))
        self.sorted, self.order = values.sort(stable=True)
        self.first = torch.ones_like(values, dtype=torch.bool)  # whether a sorted value is the first of its kind
        torch.ne(self.sorted[1:], self.sorted[:-1], out=self.first[1:])
        self._ranks = self.first.cumsum(0)  # from 1, through all lists
        # Both with one operation.
        places = [*self.starts[:-1], *(end - 1 for end in self.starts[1:])]
        self.first_ranks, self.until = torch.stack([self._ranks[place] for place in places]).view(2, -1)

    @cached_property
    def scattered(self) -> Tensor:
        """The rank, from 1 and through all lists, of every value as it was given, (L,) int64."""
        return torch.empty_like(self._ranks).scatter_(0, self.order, self._ranks)

    def inverse(self, number: int) -> Tensor:
        """Returns the rank, from 0, of every value of a list among the distinct values of that list, (N,) int64."""
        begin, end = self.starts[number], self.starts[number + 1]
        return self.scattered[begin:end] - self.first_ranks[number]

    def finish(self, until: Sequence[int]) -> Found:
        """Returns the distinct values; `until` is `self.until` as read by the host."""
        slots, total = (0, *until), until[-1]
        sizes = tuple(end - begin for begin, end in pairwise(slots))
        begins = torch.nonzero_static(self.first, size=total + 1, fill_value=len(self.sorted))[:, 0]
        return Found(self, sizes, slots, torch.arange(total + 1, device=begins.device), begins, begins)

    def fill(self, layout: Layout) -> Found:
        """Returns the distinct values in tensors of fixed sizes; the greatest value of every list must be padding.

        Rows after the last value are empty: they begin and end where their list ends. If a list has more distinct
        values than rows, the result is of no use, but nothing outside of a tensor is read or written.
        """
        wanted = layout.row + self.first_ranks.index_select(0, layout.of_list)
        rank = torch.minimum(wanted, self.until.index_select(0, layout.of_list))
        begins = torch.searchsorted(self._ranks, rank, right=True)
        example = torch.minimum(begins, layout.last)
        return Found(self, layout.sizes, layout.slots, layout.slot, begins, example, wanted - rank, layout)


@dataclass(frozen=True, eq=False)
class Found:
    """A frozen record of the distinct values of several lists.

    Attributes:
        ranking: the ranking of the lists.
        sizes: number of rows of each list.
        slots: where the rows of each list begin; the last entry is where those of the last list end. With fixed sizes
            one slot stands between two lists.
        slot: the numbers 0, 1, 2 and so on, at least as many as there are slots, int64.
        begins: (T,) int64: where each row begins among the sorted values of all lists. After the rows of a list stands
            the end of its last row, which may be where the next list begins.
        example: (T,) int64: the place of a value of each row there; in an empty row, of the last value of the list.
        excess: (T,) int64, how many empty rows of its list stand before a row; None if none is empty.
        layout: the layout, if the sizes are fixed.
    """

    ranking: JointRanking
    sizes: tuple[int, ...]
    slots: tuple[int, ...]
    slot: Tensor
    begins: Tensor
    example: Tensor
    excess: Tensor | None = None
    layout: Layout | None = None

    @cached_property
    def counts(self) -> Tensor:
        """The number of values of every row, (T - 1,) int64."""
        return self.begins.diff()

    @cached_property
    def orders(self) -> list[Tensor]:
        """The (N,) int64 indices that sort each list; equal values keep their order."""
        return list(torch._foreach_sub([*self.ranking.order.split(self.ranking.lengths)], self.ranking.starts[:-1]))

    @cached_property
    def ends(self) -> list[Tensor]:
        """The (V + 1,) int64 ends of each list: where its rows begin among its sorted values, as in `Distinct.ends`."""
        return list(torch._foreach_sub(self.cut(self.begins, ends=True), self.ranking.starts[:-1]))

    def cut(self, joint: Tensor, ends: bool = False, first: int = 0) -> list[Tensor]:
        """Cuts a tensor over the slots from list number `first` on into those of each list, (V,), or (V + 1,)."""
        offset = self.slots[first]
        pairs = list(zip(self.slots, self.sizes, strict=False))[first:]
        return [joint[at - offset : at - offset + size + ends] for at, size in pairs]

    def values(self, end: int, step: int) -> Tensor:
        """Returns the (end,) int64 values of the slots before number `end`.

        Those of empty rows continue after the greatest value of their list, `SPREAD` rows to a value.

        Args:
            end: number of slots.
            step: difference of two such values; a multiple of `SPREAD`.
        """
        values = self.ranking.sorted.index_select(0, self.example[:end])
        if self.excess is None:
            return values
        return values.add_(self.excess[:end] & -SPREAD, alpha=step // SPREAD)

    @cached_property
    def inverses(self) -> list[Tensor]:
        """The (N,) int64 row of every value, list by list."""
        ranking = self.ranking
        if self.layout is None:
            return [ranking.inverse(number) for number in range(len(self.sizes))]
        rows = ranking.scattered - ranking.first_ranks.index_select(0, self.layout.of_value)
        lists = [*rows.split(ranking.lengths)]
        torch._foreach_clamp_max_(lists, [size - 1 for size in self.sizes])  # there may be too few rows
        return lists

    @cached_property
    def stacked(self) -> Tensor:
        """The `inverses`, (R, N) int64, if the lists are equally long."""
        ranking = self.ranking
        rows = ranking.scattered.view(len(self.sizes), -1) - ranking.first_ranks[:, None]
        if self.layout is not None:
            torch._foreach_clamp_max_([*rows.unbind()], [size - 1 for size in self.sizes])
        return rows

    def examples(self, number: int) -> Tensor:
        """Returns for each row of a list the index of one of its values in the list, (V,) int64."""
        begin = self.slots[number]
        places = self.example[begin : begin + self.sizes[number]]
        return self.ranking.order.index_select(0, places) - self.ranking.starts[number]

    def distinct(self, number: int, inverse: Tensor, values: Tensor | None = None) -> Distinct:
        """Returns the record of a list.

        Args:
            number: number of the list.
            inverse: the row of each of its values.
            values: the values of its rows; None: nobody needs them, and the numbers of the rows stand there.
        """
        return _Part(self, number, inverse, self.slot[: self.sizes[number]] if values is None else values)


class _Part(Distinct):
    """The record of one of several lists; what is seldom needed is computed when it is."""

    def __init__(self, found: Found, number: int, inverse: Tensor, values: Tensor) -> None:
        for name, value in {"found": found, "number": number, "inverse": inverse, "values": values}.items():
            object.__setattr__(self, name, value)

    found: Found
    number: int

    @cached_property
    def order(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        # What begins at 0 need not be moved there.
        length = self.found.ranking.lengths[0]
        return self.found.orders[self.number] if self.number else self.found.ranking.order[:length]

    @cached_property
    def ends(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.found.ends[self.number] if self.number else self.found.begins[: self.found.sizes[0] + 1]


Finish = Callable[[JointRanking], Found]
"""A way to find the numbers of distinct values, and with them the values: `Reading` or `Filling`."""


class Reading:
    """A way to finish rankings: the host reads the numbers of distinct values, and waits for them.

    Attributes:
        sizes: the numbers of distinct values of all lists so far.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, ranking: JointRanking) -> Found:
        """Returns the distinct values of a ranking."""
        found = ranking.finish(read(ranking.until))
        self.sizes += found.sizes
        return found


class Filling:
    """A way to finish rankings of lists that end with padding: all sizes are fixed, and the host waits for nothing.

    Args:
        sizes: number of rows of each list of all rankings, one after another.
        layouts: layouts of earlier calls with the same sizes, by the number of their first list.

    Attributes:
        until: `JointRanking.until` of each ranking so far.
    """

    def __init__(self, sizes: Sequence[int], layouts: dict[int, Layout]) -> None:
        self._sizes, self._layouts, self._next = tuple(sizes), layouts, 0
        self.until: list[Tensor] = []

    def __call__(self, ranking: JointRanking) -> Found:
        """Returns the distinct values of a ranking."""
        number, lengths = self._next, ranking.lengths
        self._next += len(lengths)
        if number not in self._layouts:
            sizes = self._sizes[number : self._next]
            self._layouts[number] = Layout.of(sizes, lengths, ranking.until.device)
        self.until.append(ranking.until)
        return ranking.fill(self._layouts[number])


def read(until: Tensor) -> list[int]:
    """Returns numbers from a device; the host waits for them."""
    return until.tolist()
