"""Weighted sums of rows, compared with a product with a matrix, and rankings, compared with torch.unique."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from network.ops.distinct import Ranking, collect
from network.ops.sums import RowSum, sum_bags


def matrix_of(average: RowSum) -> Tensor:
    """Builds the (T, num_sources) float64 matrix of a sum, entry by entry."""
    matrix = torch.zeros(len(average), average.num_sources, dtype=torch.float64)
    ends = list(range(len(average) + 1)) if average.ends is None else average.ends.tolist()
    for target in range(len(average)):
        for entry in range(ends[target], ends[target + 1]):
            weight = 1.0 if average.weights is None else float(average.weights[entry])
            matrix[target, average.source[entry]] += weight
    return matrix


GROUPS = torch.tensor([2, 0, 2, 2, 5, 0])
AVERAGES = {
    "grouping": RowSum.grouping(GROUPS, 7),
    "within": RowSum.within(collect([Ranking(GROUPS)])[0]),
    "picking": RowSum.gathering(torch.tensor([3, 3, 0, 4]), 6),
    "picking rows that ascend": RowSum.gathering(torch.tensor([0, 3, 3, 4]), 6, ascending=True),
    "spreading": RowSum.spreading(collect([Ranking(torch.tensor([2, 0, 2, 2, 5, 0, 1, 7, 8]))])[0]),
    "picking nothing": RowSum.gathering(torch.zeros(0, dtype=torch.int64), 6),
    "entries that share sources": RowSum(
        torch.tensor([0, 1, 1, 5, 0]), torch.tensor([0, 2, 2, 5]), torch.tensor([0.25, 0.75, 0.5, 2.0, -1.0]), 6
    ),
    "no entries": RowSum(torch.zeros(0).long(), torch.tensor([0, 0, 0]), torch.zeros(0), 6),
    "no targets": RowSum(torch.zeros(0).long(), torch.tensor([0]), torch.zeros(0), 6),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_is_a_matrix_forward_and_backward(name) -> None:
    average = AVERAGES[name]
    matrix = matrix_of(average)
    features = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    found, expected = average(features), matrix @ features
    assert found.shape == (len(average), 3)
    assert torch.allclose(found, expected)
    upstream = torch.randn_like(expected)
    (gradient,), (wanted,) = (torch.autograd.grad(t, features, upstream) for t in (found, expected))
    assert torch.allclose(gradient, wanted)
    assert torch.allclose(matrix_of(average.transposed), matrix.T)


@pytest.mark.parametrize("name", ["grouping", "within"])
def test_means_of_groups(name) -> None:
    features = torch.randn(6, 3, dtype=torch.float64)
    groups = sorted(set(GROUPS.tolist())) if name == "within" else range(7)
    for row, group in zip(AVERAGES[name](features), groups, strict=True):
        members = features[group == GROUPS]
        assert torch.allclose(row, members.mean(0) if len(members) else torch.zeros(3).double(), atol=1e-6)


NARROW = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("size", [3, 7, 49, 257, 1000])
@pytest.mark.parametrize("dtype", NARROW)
def test_the_mean_of_equal_rows_is_that_row(dtype, size) -> None:
    """Its gradient is a share of the result's gradient, rounded once. Rounded to bf16, 49 times 1/49 is 1.0029."""
    group = torch.arange(2 * size) % 2
    row = torch.randn(2, 64).to(dtype)
    features = row[group].requires_grad_()
    averages = {
        "grouping": RowSum.grouping(group, 2),
        "within": RowSum.within(collect([Ranking(group)])[0]),
        "any weights": replace(RowSum.grouping(group, 2), mean=False, weight=torch.full((2 * size,), 1 / size)),
    }
    upstream = torch.randn(2, 64).to(dtype)
    for name, average in averages.items():
        assert average.weights is not None
        assert average.weights.dtype == torch.float32, name
        assert torch.allclose(average.weights.view(2, size).sum(1), torch.ones(2)), name
        out = average(features)
        assert torch.equal(out, row), name
        (gradient,) = torch.autograd.grad(out, features, upstream)
        torch.testing.assert_close(
            gradient.double(), upstream.double()[group] / size, rtol=0.51 * torch.finfo(dtype).eps, atol=6e-8
        )


def test_a_sum_divided_at_once_is_the_mean() -> None:
    """A GPU computes a mean in this way."""
    average = AVERAGES["grouping"]
    features = torch.randn(6, 3, dtype=torch.float64)
    assert torch.allclose(sum_bags(features, *average.bags, mean=True), matrix_of(average) @ features)


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32])
def test_sums_are_kept_in_float32(dtype) -> None:
    """The rows are 256 and 26 times 1: a bfloat16 sum would stay at 256, because its next number is 258."""
    features = torch.ones(27, 40, dtype=dtype)
    features[0] = 256
    everything = RowSum(torch.arange(27), torch.tensor([0, 27]), torch.ones(27), 27)
    out = everything(features)
    assert out.dtype == dtype and (out == 282).all()


def test_rows_may_be_strided_and_gradients_expanded() -> None:
    average = AVERAGES["entries that share sources"]
    features = torch.randn(3, 6, dtype=torch.float64).T.requires_grad_()
    out = average(features)
    assert torch.allclose(out, matrix_of(average) @ features)
    (gradient,) = torch.autograd.grad(out.sum(), features)
    assert torch.allclose(gradient, matrix_of(average).sum(0)[:, None].expand(-1, 3))


@pytest.mark.parametrize("values", [[], [7], [3, 3, 3], [5, -2, 5, 9, -2, 5], list(range(50, 0, -1))])
def test_ranks(values) -> None:
    tensor = torch.tensor(values, dtype=torch.int64)
    ranking = Ranking(tensor)
    (found,) = collect([ranking])
    expected, inverse, counts = torch.unique(tensor, return_inverse=True, return_counts=True)
    assert torch.equal(found.values, expected)
    assert torch.equal(found.inverse, inverse) and torch.equal(ranking.inverse, inverse)
    assert torch.equal(found.ends.diff(), counts)
    for rank in range(len(found)):
        places = found.order[found.ends[rank] : found.ends[rank + 1]].tolist()
        assert places == [place for place, value in enumerate(values) if value == expected[rank]]


def test_many_rankings_at_once() -> None:
    tensors = [torch.tensor([1, 1, 0]), torch.zeros(0, dtype=torch.int64), torch.tensor([4, 2])]
    assert [found.values.tolist() for found in collect(map(Ranking, tensors))] == [[0, 1], [], [2, 4]]
    assert collect([]) == []
