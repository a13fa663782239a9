"""Native sums of rows, compared with those of PyTorch in float64, and where the order of sums does not matter, to the
last bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from network.native.library import library, switched_off
from network.native.rows import group_rows, sum_rows
from network.ops.distinct import Ranking, collect
from network.ops.sums import RowSum

pytestmark = pytest.mark.skipif(library() is None, reason="native code cannot be used here")

GENERATOR = torch.Generator().manual_seed(0)
ROWS = 40


def drawn(high: int, count: int) -> Tensor:
    return torch.randint(high, (count,), generator=GENERATOR)


def weighted(lengths: list[int]) -> RowSum:
    count = sum(lengths)
    ends = torch.tensor([0, *lengths]).cumsum(0)
    return RowSum(drawn(ROWS, count), ends, torch.randn(count, generator=GENERATOR), ROWS)


GROUPS = drawn(9, ROWS) * 2  # every second group is empty
DISTINCT = collect([Ranking(GROUPS)])[0]
SUMS = {
    "weights": weighted([3, 0, 0, 1, 20, 2, 0]),
    "one target": weighted([50]),
    "empty targets": weighted([0, 0, 0]),
    "no targets": weighted([]),
    "means of groups": RowSum.grouping(GROUPS, 20),
    "means within": RowSum.within(DISTINCT),
    "gradient of means": RowSum.within(DISTINCT).transposed,
    "gradient of spreading": replace(RowSum.spreading(DISTINCT), num_sources=len(DISTINCT)).transposed,
    "picked rows": RowSum.gathering(drawn(ROWS, 70), ROWS),
    "rows that ascend": RowSum.gathering(drawn(ROWS, 70).sort().values, ROWS, ascending=True),
    "short numbers": RowSum(drawn(ROWS, 12).int(), torch.tensor([0, 3, 12]), None, ROWS),
}


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def expected(features: Tensor, of: RowSum) -> Tensor:
    """Computes the sums of float64 numbers, target by target."""
    ends = range(len(of) + 1) if of.ends is None else of.ends.tolist()
    weights = torch.ones(len(of.source)) if of.weights is None else of.weights
    entries = features.double()[of.source.long()] * weights.double()[:, None]
    parts = [entries[begin:end].sum(0) for begin, end in pairwise(ends)]
    return torch.stack([*parts, entries.new_zeros(features.shape[1])])[:-1]


@pytest.mark.parametrize("columns", [3, 20, 67, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SUMS)
def test_sums_and_their_gradients(name, dtype, columns, threads) -> None:
    of = SUMS[name]
    for one in (of, of.transposed):
        features = torch.randn(one.num_sources, columns, generator=GENERATOR).to(dtype)
        found = sum_rows(features, one.source, one.ends, one.weight, one.shares, one.mean)
        assert found is not None and found.dtype == dtype and torch.equal(found, one(features))
        wanted = expected(features, one)
        if one.weights is None and one.ends is None:
            assert torch.equal(found, wanted.to(dtype)), "rows that are copied"
        torch.testing.assert_close(found.double(), wanted, rtol=0.51 * torch.finfo(dtype).eps, atol=2e-5)


@pytest.mark.parametrize("name", ["weights", "means within", "gradient of means", "picked rows", "empty targets"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_added_to_what_is_there(name, dtype) -> None:
    of = SUMS[name]
    features = torch.randn(of.num_sources, 20, generator=GENERATOR).to(dtype)
    there = torch.randn(len(of), 20, generator=GENERATOR).to(dtype)
    wanted = there.double() + expected(features, of)
    found = sum_rows(features, of.source, of.ends, of.weight, of.shares, of.mean, add_to=there)
    assert found is not None and found is there
    torch.testing.assert_close(found.double(), wanted, rtol=0.51 * torch.finfo(dtype).eps, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_and_numbers_that_are_none(dtype) -> None:
    """Rounded as PyTorch rounds, ties to the even one; NaN and infinity stay what they are."""
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.00390625, 1.01171875, 3.4e38, -0.0, 1e-42])
    features = odd[:, None].expand(-1, 11)
    once = RowSum(torch.arange(8), torch.arange(9), torch.ones(8), 8)
    in_fp32 = once(features.contiguous())
    assert torch.equal(in_fp32.nan_to_num(), features.nan_to_num()) and in_fp32[0].isnan().all()
    narrow = features.to(dtype).contiguous()
    halves = RowSum(torch.arange(8), torch.arange(9), torch.full((8,), 0.501), 8)
    assert torch.equal(halves(narrow).nan_to_num(), (narrow.float() * 0.501).to(dtype).nan_to_num())


def test_rows_may_be_strided_and_of_any_order() -> None:
    of = SUMS["weights"]
    features = torch.randn(6, ROWS, generator=GENERATOR).T
    strided = of.source.repeat_interleave(2)[::2]
    found = sum_rows(features, strided, of.ends, of.weight)
    assert found is not None and torch.equal(found, of(features.contiguous()))


def test_other_types_and_places_are_for_pytorch() -> None:
    source = torch.zeros(3, dtype=torch.int64)
    assert sum_rows(torch.zeros(4, 2).double(), source) is None
    assert sum_rows(torch.zeros(4, 2).half(), source) is None
    assert group_rows(source.to("meta"), 2) is None
    with switched_off():
        assert sum_rows(torch.zeros(4, 2), source) is None and group_rows(source, 2) is None


@pytest.mark.parametrize(("count", "groups"), [(0, 0), (0, 5), (1, 1), (5000, 3), (3000, 4000)])
def test_rows_by_group(count, groups) -> None:
    group = drawn(max(groups, 1), count)
    found = group_rows(group, groups)
    assert found is not None
    order, ends = found
    assert torch.equal(order, group.sort(stable=True).indices)
    assert ends.tolist() == [0, *torch.bincount(group, minlength=groups).cumsum(0).tolist()]
