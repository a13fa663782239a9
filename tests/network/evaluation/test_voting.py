"""Votes over test-time views, and the class of every point of a file."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from network.evaluation.voting import segment, vote
from network.models.segmentation_network import SegmentationNetwork
from tests.support.networks import CLASSES, make_batch, make_network_3d
from utils.scan.records import Batch, Frame, WholeScan


class Seen(SegmentationNetwork):
    """A network whose logits depend on a point's own coordinates, and that keeps the batches it was given."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3))
        self.dtype, self.shown = dtype, []

    def predict(self, batch: Batch) -> Tensor:
        self.shown.append(batch)
        return (torch.sin(5 * batch.points) @ self.weight).to(self.dtype)


def random_views(scans: int, views: int) -> Tensor:
    """Draws (B, V, 3, 4) views, each a rotation about z and a translation; the first view of a scan changes nothing."""
    generator = torch.Generator().manual_seed(0)
    angle = 6.28 * torch.rand(scans, views, generator=generator)
    affine = torch.zeros(scans, views, 3, 4)
    affine[..., 0, 0] = affine[..., 1, 1] = angle.cos()
    affine[..., 1, 0], affine[..., 0, 1] = angle.sin(), -angle.sin()
    affine[..., 2, 2] = 1
    affine[..., 3] = torch.randn(scans, views, 3, generator=generator)
    affine[:, 0] = torch.eye(3, 4)
    return affine


def slow_vote(network, batch: Batch) -> Tensor:
    """Votes scan by scan, view by view and point by point."""
    assert batch.views is not None
    results = []
    for scan, views in enumerate(batch.views):
        points = batch.points[batch.scan_ids == scan]
        total = torch.zeros(len(points), CLASSES)
        for view in views:
            moved = torch.stack([torch.cat([view[:, :3] @ p[:3] + view[:, 3], p[3:]]) for p in points])
            rows = torch.zeros(len(points), dtype=torch.int64)
            total += network.predict(replace(batch, points=moved, scan_ids=rows, lengths=(len(points),), views=None))
        results.append(total)
    return torch.cat(results)


def one_by_one(batch: Batch) -> list[Batch]:
    """Splits the batch into batches of one scan."""
    result = []
    for scan, length in enumerate(batch.lengths):
        kept = batch.scan_ids == scan
        views = None if batch.views is None else batch.views[scan : scan + 1]
        rows, whole = torch.zeros(length, dtype=torch.int64), batch.whole[scan : scan + 1]
        alone = replace(batch, points=batch.points[kept], scan_ids=rows, lengths=(length,), views=views, whole=whole)
        result.append(alone)
    return result


def test_votes_are_sums_over_views() -> None:
    network = Seen()
    batch = replace(make_batch((20, 1, 9)), views=random_views(3, 4))
    assert torch.allclose(vote(network, batch), slow_vote(network, batch), atol=1e-4)
    assert len(network.shown) == 4 + 3 * 4
    assert torch.equal(network.shown[0].points[:, 3], batch.points[:, 3]), "intensity stays"
    assert torch.allclose(network.shown[0].points, batch.points), "the first view is the scan as it is"


def test_votes_do_not_depend_on_the_batch_size() -> None:
    network = make_network_3d((2, 4, 8)).eval()
    batch = replace(make_batch((30, 12, 25)), views=random_views(3, 3))
    with torch.no_grad():
        together = vote(network, batch)
        alone = torch.cat([vote(network, scan) for scan in one_by_one(batch)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.equal(together.argmax(1), alone.argmax(1))


def test_without_views_there_is_one_vote() -> None:
    network = Seen(torch.bfloat16)
    batch = make_batch((20, 10))
    assert torch.equal(vote(network, batch), network.predict(batch).float())
    assert network.shown[0] is batch


def test_sums_are_kept_in_float32() -> None:
    batch = replace(make_batch((20,)), views=random_views(1, 12))
    found, wide = vote(Seen(torch.bfloat16), batch), vote(Seen(), batch)
    assert found.dtype == torch.float32
    assert (found - wide).abs().max() < 12 * 2**-8 * 8  # each view rounded to 8 bits, the sum not


def whole_scan(name: str, inside: list[bool], donor: list[int]) -> WholeScan:
    count = len(inside)
    labels = torch.zeros(count, dtype=torch.uint8)
    return WholeScan(Frame("08", name, name), torch.zeros(count, 3), labels, torch.tensor(inside), torch.tensor(donor))


def test_every_point_of_the_file_gets_its_donors_class() -> None:
    # Points 1 and 4 of the first file lie outside; its points 2 and 0 are the nearest inside.
    whole = (
        whole_scan("a", [True, False, True, True, False], [0, 1, 1, 2, 0]),
        whole_scan("b", [True, True], [0, 1]),
    )
    batch = replace(make_batch((3, 2)), whole=whole)
    network = Seen()
    logits = network.predict(batch)
    best = [max(range(1, CLASSES), key=lambda c, row=row: row[c].item()) for row in logits]
    first, second = segment(network, batch)
    assert first.whole is whole[0] and second.whole is whole[1]
    assert first.prediction.dtype == torch.uint8
    assert first.prediction.tolist() == [best[0], best[1], best[1], best[2], best[0]]
    assert second.prediction.tolist() == best[3:]


def test_one_view_beside_the_votes_is_that_of_the_scan_as_it_is() -> None:
    """To the last bit what is predicted without views; the votes do not see it."""
    whole = (whole_scan("a", [True] * 30, [*range(29), 3]), whole_scan("b", [True] * 25, list(range(25))))
    batch = replace(make_batch((30, 25)), whole=whole, views=random_views(2, 5)[:, 1:])
    network = Seen()
    both = segment(network, batch, with_one_view=True)
    assert len(network.shown) == 5 and sum(torch.equal(seen.points, batch.points) for seen in network.shown) == 1
    alone, voted = segment(network, replace(batch, views=None)), segment(network, batch)
    for found, single, several in zip(both, alone, voted, strict=True):
        assert found.one_view is not None and torch.equal(found.one_view, single.prediction)
        assert torch.equal(found.prediction, several.prediction) and several.one_view is None
        assert not torch.equal(found.prediction, single.prediction)


def test_class_0_is_never_given() -> None:
    class Ignorant(Seen):
        def predict(self, batch: Batch) -> Tensor:
            logits = super().predict(batch)
            logits[:, 0] = 1e6
            return logits

    whole = tuple(whole_scan(str(i), [True] * 40, list(range(40))) for i in range(2))
    batch = replace(make_batch((40, 40)), whole=whole, views=random_views(2, 3))
    batches = [batch, *one_by_one(batch)]
    predictions = [segmentation.prediction for b in batches for segmentation in segment(Ignorant(), b)]
    assert all((p > 0).all() and (p < CLASSES).all() for p in predictions)
    assert torch.equal(torch.cat(predictions[:2]), torch.cat(predictions[2:])), "the same one by one"
    assert len(torch.cat(predictions).unique()) > 1


def test_views_are_exact_under_autocast() -> None:
    """Rotating in half precision would move far points by more than a voxel."""
    points = torch.rand(100, 4, generator=torch.Generator().manual_seed(0)) * 100 - 50
    angle = torch.tensor(1.0)
    rotation = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    affine = torch.cat([rotation, torch.tensor([[0.1], [0.2], [0.3]])], dim=1)
    batch = Batch(
        points=points,
        scan_ids=torch.zeros(100, dtype=torch.long),
        labels=torch.zeros(100, dtype=torch.long),
        pixels=torch.full((100, 2), -1),
        visible=torch.zeros(0, dtype=torch.long),
        images=None,
        lengths=(100,),
        views=affine[None, None],
    )
    expected = points[:, :3].double() @ rotation.double().T + affine[:, 3].double()
    with torch.autocast("cpu", torch.bfloat16):
        found = batch.view(0).points
    torch.testing.assert_close(found[:, :3].double(), expected, rtol=0, atol=1e-4)
    assert torch.equal(found[:, 3], points[:, 3])
