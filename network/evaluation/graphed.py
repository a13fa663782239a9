"""Evaluation by replaying a graph: the points are copied into a bucket, and all work on them is started at once.

A graph repeats the same kernels on the same memory. So everything has a fixed size, and the host reads nothing before
the result. With the result it reads whether the batch did fit; if not, the batch is evaluated once more, without.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from network.evaluation.bucket import MOST_POINTS, Bucket, Kind
from network.evaluation.frozen import freeze
from network.evaluation.voting import segment
from network.models.segmentation_network import SegmentationNetwork
from network.native.changes import State, state_of
from utils.scan.records import Batch, Segmentation

SWITCH = "TWODPASS_CUDA_GRAPH"
MOST_GRAPHS = 3  # each has the memory of an evaluation of its own
MOST_CAPTURES = 12  # of one kind: if batches differ so much, graphs do not pay
_WARM_UP = 3

Work = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Work], tuple[tuple[Tensor, ...], Callable[[], None]]]
"""Does some work and returns its results, and a function that does it again, with results in the same tensors."""


def capture(work: Work) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
    """Captures the work as a CUDA graph, after it was done a few times: kernels are compiled and tuned by then."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads, which pin memory, may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = work()
    return results, graph.replay


def wanted(device: torch.device, network: SegmentationNetwork) -> bool:
    """Returns whether graphs are to be used: on CUDA with the Triton backend, if TWODPASS_CUDA_GRAPH is "on".

    They have not run on a GPU yet, and an error of CUDA during a capture may end the process. So nobody gets them who
    has not asked for them.
    """
    if device.type != "cuda" or os.environ.get(SWITCH) != "on":
        return False
    from network.sparse import auto_backend

    backend = auto_backend.choose(device) if network.backend is auto_backend.BACKEND else network.backend
    return backend.name == "triton"


class Graph:
    """The evaluation of batches of one kind, captured.

    Attributes:
        bucket: the input and the sizes.
    """

    def __init__(self, network: SegmentationNetwork, bucket: Bucket, capture: Capture) -> None:
        """Captures the evaluation of what is in the bucket.

        Args:
            network: a frozen network.
            bucket: the bucket, with its sizes.
            capture: how.
        """
        self.bucket, self._network = bucket, network
        self._results, self._replay = capture(self._work)
        self._numbers: list[Tensor] = []

    def _work(self) -> tuple[Tensor, ...]:
        bucket, filling = self.bucket, self.bucket.filling()
        logits = self._network.predict_padded(bucket.points, bucket.scan_ids, bucket.kind.scans + 1, filling)
        return logits, torch.cat(filling.until)

    def predict(self, batch: Batch) -> Tensor:
        """Computes the (P, K) float32 logits of a batch of this kind; they are worth something if it `fitted`."""
        self.bucket.load(batch)
        logits, numbers = self._results
        if self._numbers:  # they stand where the next ones will
            self._numbers[-1] = self._numbers[-1].clone()
        self._replay()
        self._numbers.append(numbers)
        return logits[: len(batch.points)].to(torch.float32, copy=True)

    def fitted(self) -> bool:
        """Returns whether all batches since the last call did fit; the host waits for their numbers."""
        calls, self._numbers = self._numbers, []
        return all(self.bucket.holds(numbers) for numbers in torch.stack(calls).tolist())


@dataclass
class _Captures:
    """The bucket of a kind and its graph, if there is one; how often it was captured."""

    bucket: Bucket
    graph: Graph | None = None
    count: int = 0


class GraphedEvaluation:
    """An evaluation with as many graphs as there are common kinds of batches, the least recently used of which go.

    What cannot be captured, or gives other results than without a graph, is evaluated as if this class did not exist,
    and a line says why. Threads take turns.

    Args:
        network: a network on its device, in evaluation mode. After a change of its weights the graphs are made again.
        capture: how work is captured; None: nothing is.
        most: number of graphs that are kept.
    """

    def __init__(self, network: SegmentationNetwork, capture: Capture | None, most: int = MOST_GRAPHS) -> None:
        self.network, self._capture, self._most = network, capture, most
        self._kinds: OrderedDict[Kind, _Captures] = OrderedDict()
        self._frozen: dict[torch.dtype | None, SegmentationNetwork] = {}
        self._lock, self._state = threading.Lock(), _state(network)

    @staticmethod
    def of(network: SegmentationNetwork, device: torch.device) -> GraphedEvaluation:
        """Returns the evaluation of a network on a device, with graphs where they are `wanted`."""
        return GraphedEvaluation(network, capture if wanted(device, network) else None)

    @torch.no_grad()
    def segment(self, batch: Batch, with_confidence: bool = False) -> list[Segmentation]:
        """Predicts the class of every point of every file in the batch; see `voting.segment`."""
        if self._capture is None or batch.num_scans == 0 or not 0 < len(batch.points) < MOST_POINTS:
            return segment(self.network, batch, with_confidence)
        with self._lock, torch.cuda.device_of(batch.points) if batch.points.is_cuda else nullcontext():
            self._forget_if_changed()
            kind = Kind.of(batch, _autocast(batch.points.device))
            graph = self._graph(kind)
            if graph is not None:
                found = segment(graph, batch, with_confidence)
                if graph.fitted():
                    return found
            self._prepare(kind, batch)
            return segment(self.network, batch, with_confidence)

    def _graph(self, kind: Kind) -> Graph | None:
        """Returns the graph of a kind if there is one, and notes that it was used."""
        if kind not in self._kinds:
            return None
        self._kinds.move_to_end(kind)
        return self._kinds[kind].graph

    def _prepare(self, kind: Kind, batch: Batch) -> None:
        """Captures a graph for batches like this one, with space for those before it."""
        if self._capture is None or (kind in self._kinds and self._kinds[kind].count >= MOST_CAPTURES):
            return
        views = [batch] if batch.views is None else [batch.view(number) for number in range(batch.views.shape[1])]
        try:
            captures = self._captures(kind, batch.points.device)
            if captures is None:
                return
            network, bucket = self._network(kind.dtype), captures.bucket
            captures.graph, captures.count = None, captures.count + 1
            with _without_cache(batch.points.device):
                for view in views:
                    bucket.load(view)
                    bucket.measure(network, len(view.points))
                graph = Graph(network, bucket, self._capture)
            reason = _differ(graph.predict(batch), self.network.predict(batch))
            if reason is None and not graph.fitted():
                reason = "a batch does not fit where it was measured"
        except Exception as error:
            reason, graph = f"{type(error).__name__}: {error}".partition("\n")[0], None
        if reason is not None:
            warnings.warn(f"evaluation runs without CUDA graphs, which is slower: {reason}", RuntimeWarning)
            self._capture = None
            self._kinds.clear()
            self._frozen.clear()
            return
        self._kinds[kind].graph = graph

    def _captures(self, kind: Kind, device: torch.device) -> _Captures | None:
        if kind not in self._kinds:
            padding = self.network.evaluated().padding(kind.points, kind.columns)
            if padding is None:
                return None
            self._kinds[kind] = _Captures(Bucket(kind, padding, device))
            while len(self._kinds) > self._most:
                self._kinds.popitem(last=False)
        return self._kinds[kind]

    def _network(self, dtype: torch.dtype | None) -> SegmentationNetwork:
        if dtype not in self._frozen:
            self._frozen[dtype] = freeze(self.network, dtype)
        return self._frozen[dtype]

    def _forget_if_changed(self) -> None:
        state = _state(self.network)
        if state != self._state:
            self._state = state
            self._kinds.clear()
            self._frozen.clear()


def _state(network: SegmentationNetwork) -> State:
    """Returns what differs once a tensor has changed that the results depend on."""
    part = network.evaluated()
    return state_of([*part.parameters(), *part.buffers()])


def _autocast(device: torch.device) -> torch.dtype | None:
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else None


def _without_cache(device: torch.device) -> torch.autocast:
    """Returns the autocast that is on, without its cache: a graph must not use a weight that was cast outside of it."""
    dtype = _autocast(device)
    return torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)


def _differ(found: Tensor, expected: Tensor) -> str | None:
    """Says how logits differ from those without a graph, if it is more than rounding; norms are folded differently."""
    if found.shape != expected.shape:
        return "the results have another shape"
    found, expected = found.float(), expected.float()
    if not bool(expected.isfinite().all()):
        return None  # a network that is broken; its results are refused elsewhere
    narrow = _autocast(found.device) is not None
    tolerance = (0.1 if narrow else 1e-2) * max(float(expected.abs().max()), 1e-6)
    worst = float((found - expected).abs().max())
    return None if worst <= tolerance else f"logits differ by {worst:.3g}"
