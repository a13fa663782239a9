"""Evaluation by graphs, on a CPU: what a graph would repeat is done again, with the same tensors of fixed sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from network.evaluation.bucket import Bucket, Kind, bucket_of
from network.evaluation.graphed import GraphedEvaluation, wanted
from network.evaluation.voting import segment
from tests.network.evaluation.test_voting import random_views, whole_scan
from tests.support.networks import make_batch, make_network_3d
from utils.scan.records import Batch


class Recorder:
    """A stand-in for CUDA graphs that keeps what happened: c for a capture, r for a replay."""

    def __init__(self, spoil: float = 0.0) -> None:
        self.seen, self.spoil = "", spoil

    def __call__(self, work: Callable[[], tuple]) -> tuple[tuple, Callable[[], None]]:
        results = work()
        self.seen += "c"

        def replay() -> None:
            self.seen += "r"
            for kept, new in zip(results, work(), strict=True):
                kept.copy_(new)
            results[0].add_(self.spoil)

        return results, replay


def scans(lengths: Sequence[int], seed: int = 0, views: int = 0, spread: float = 0.6) -> Batch:
    batch = make_batch(lengths, seed, spread)
    whole = tuple(whole_scan(str(n), [True] * length, [*range(length)]) for n, length in enumerate(lengths))
    whole = tuple(replace(one, inside=one.inside.bool(), donor=one.donor.long()) for one in whole)  # if there are none
    return replace(batch, whole=whole, views=random_views(len(lengths), views) if views else None)


def network():
    torch.manual_seed(0)
    return make_network_3d((2, 4, 8, 16, 16)).eval()


def assert_same(evaluation: GraphedEvaluation, batch: Batch, tolerance: float = 1e-6) -> None:
    found, expected = evaluation.segment(batch, True), segment(evaluation.network, batch, True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.prediction, other.prediction)
        assert one.confidence is not None and other.confidence is not None
        assert torch.allclose(one.confidence, other.confidence, atol=tolerance, rtol=0)
        assert bool(one.finite)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_graph_serves_all_batches_of_its_kind(mode, dtype) -> None:
    recorder = Recorder()
    evaluation = GraphedEvaluation(network(), recorder)
    tolerance = 1e-6 if dtype is None else 2e-2
    with mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        assert_same(evaluation, scans((300, 180), 0), tolerance)
        assert recorder.seen == "cr", "captured, and compared once with what is computed without a graph"
        assert_same(evaluation, scans((250, 220), 1), tolerance)
        assert recorder.seen == "crr"
        assert_same(evaluation, scans((290, 180), 2, views=3), tolerance)
        assert recorder.seen == "crrrrr", "a replay for each view"


def test_a_batch_that_does_not_fit_is_evaluated_without_and_there_is_space_from_then_on() -> None:
    recorder = Recorder()
    evaluation = GraphedEvaluation(network(), recorder)
    with torch.no_grad():
        assert_same(evaluation, scans((480,), 0, spread=0.1))
        recorder.seen = ""
        assert_same(evaluation, scans((480,), 1, spread=3.0))
        assert recorder.seen == "rcr", "the replay did not fit"
        assert_same(evaluation, scans((480,), 2, spread=3.0, views=2))
        assert_same(evaluation, scans((480,), 3, spread=0.1))
        assert recorder.seen == "rcrrrr"


def test_one_point_and_an_empty_scan() -> None:
    evaluation = GraphedEvaluation(network(), Recorder())
    with torch.no_grad():
        for lengths in ((1,), (2,), (0, 3)):
            for seed in range(2):
                assert_same(evaluation, scans(lengths, seed))


def test_the_least_recently_used_graph_goes() -> None:
    recorder = Recorder()
    evaluation = GraphedEvaluation(network(), recorder, most=2)
    with torch.no_grad():
        for lengths in ((300,), (600,), (300,), (1200,), (300,), (600,)):
            evaluation.segment(scans(lengths))
    assert recorder.seen == "crcrrcrrcr"


def test_after_a_change_of_weights_graphs_are_made_again() -> None:
    recorder = Recorder()
    evaluation = GraphedEvaluation(network(), recorder)
    with torch.no_grad():
        evaluation.segment(scans((300,)))
        evaluation.network.classifier.weight.mul_(-1)  # pyright: ignore
        assert_same(evaluation, scans((300,)))
    assert recorder.seen == "crcr"


def refuse(work: Callable[[], tuple]) -> tuple:
    raise RuntimeError("operation not permitted when stream is capturing\nand much more")


NOT_PERMITTED = "RuntimeError: operation not permitted when stream is capturing"


@pytest.mark.parametrize(
    ("capture", "reason"), [(refuse, NOT_PERMITTED), (Recorder(spoil=9.0), "logits differ")], ids=["refused", "wrong"]
)
def test_what_fails_is_said_once_and_evaluation_goes_on_without(capture, reason) -> None:
    evaluation, batch = GraphedEvaluation(network(), capture), scans((300,))
    with torch.no_grad():
        with pytest.warns(RuntimeWarning, match=f"without CUDA graphs, which is slower: {reason}") as said:
            assert_same(evaluation, batch)
        assert len(said) == 1 and "\n" not in str(said[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_same(evaluation, batch)


def test_where_graphs_are_wanted(monkeypatch) -> None:
    cuda, of_triton = torch.device("cuda"), network()
    of_triton.backend = replace(of_triton.backend, name="triton")
    monkeypatch.delenv("TWODPASS_CUDA_GRAPH", raising=False)
    assert not wanted(cuda, of_triton)
    monkeypatch.setenv("TWODPASS_CUDA_GRAPH", "on")
    assert wanted(cuda, of_triton)
    assert not wanted(torch.device("cpu"), of_triton)
    assert not wanted(cuda, network())


def test_buckets() -> None:
    sizes = sorted({bucket_of(number) for number in range(1, 5000)})
    assert sizes[:6] == [256, 320, 384, 448, 512, 640]
    assert all(number <= bucket_of(number) <= max(number * 1.25, 256) for number in range(1, 5000))
    assert bucket_of(256) == 256 and bucket_of(257) == 320


def test_a_bucket_pads_what_the_batch_before_left() -> None:
    plain = network()
    first, second = scans((400,)), scans((300,), 1)
    kind = Kind.of(second, None)
    padding = plain.padding(448, 4)
    assert padding is not None and kind.points == 320
    bucket = Bucket(replace(kind, points=448), padding, torch.device("cpu"))
    bucket.load(first)
    bucket.load(second)
    assert torch.equal(bucket.points[:300], second.points) and torch.equal(bucket.points[300:], padding[300:])
    assert bucket.scan_ids.tolist() == [0] * 300 + [1] * 148
