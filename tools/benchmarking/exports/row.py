"""The child process of `benchmark.py export`: one way of labelling scans, timed.

It imports what its way needs, and no more: the memory of the process is that of a program that labels in this way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.benchmarking import child
from tools.benchmarking.host import Company, ProcessMemory
from utils.command.process import run_command
from utils.errors import UserError

MODULE = "tools.benchmarking.exports.row"
NAME = "labels"
Label = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Labels the (N, 4) points of a scan: (N,)."""


@dataclass(frozen=True)
class Job:
    """One way of labelling, in one process.

    Attributes:
        kind: of `_KINDS`.
        model: what it labels with: a checkpoint, the folder of a model in ONNX, or the file of a program.
        config, overrides: of a checkpoint that does not hold its own, and what of it is changed.
        precision: of the network of a checkpoint, see `Segmenter.load`.
        scans: files of (N, 4) points, as NumPy writes them.
        labels: the file that its labels are written to.
        runs: how often each scan is labelled after the first time.
        threads: of all libraries.
    """

    kind: str
    model: str
    config: str | None
    overrides: tuple[str, ...]
    precision: str
    scans: tuple[str, ...]
    labels: str
    runs: int
    threads: int

    def run(self, limit: float | None = None) -> child.Answer:
        """Runs the job in a process of its own, which is ended after `limit` seconds."""
        return child.run_job(MODULE, asdict(self), limit)


def measurements(job: dict[str, Any]) -> Mapping[str, Callable[[], child.Values]]:
    """Returns the one measurement of a job."""
    return {NAME: lambda: measure(Job(**job))}


def measure(job: Job) -> child.Values:
    """Labels the scans in this process.

    Returns:
        seconds: of each pass over the scans, per scan; graph: the part of them in ONNX Runtime, or nothing; memory: the
        largest size of the process, bytes; others: cores that other processes took.
    """
    graph: list[float] = []
    label = _KINDS[job.kind](job, graph)
    scans = [np.load(path) for path in job.scans]
    found = [label(points) for points in scans]  # what the first call does, it does once
    graph.clear()
    company, times = Company(), []
    for _ in range(job.runs):
        start = time.perf_counter()
        for points in scans:
            label(points)
        times.append((time.perf_counter() - start) / len(scans))
    others = company.cores()
    np.save(job.labels, np.concatenate(found))
    inside = np.reshape(graph, (-1, len(scans))).mean(axis=1).tolist()
    return {"seconds": times, "graph": inside, "memory": ProcessMemory().peak(), "others": others}


def _eager(job: Job, graph: list[float]) -> Label:
    import torch

    from network.segmenter import Segmenter

    torch.set_num_threads(job.threads)
    segmenter = Segmenter.load(job.model, job.config, job.overrides, device="cpu", fit="off", precision=job.precision)
    return lambda points: segmenter(points).labels


def _plain(job: Job, graph: list[float]) -> Label:
    from network.native.library import switched_off

    def label(points: NDArray[np.float32]) -> NDArray[np.uint8]:
        with switched_off():
            return inner(points)

    with switched_off():
        inner = _eager(job, graph)
    return label


def _onnx(job: Job, graph: list[float]) -> Label:
    spec = spec_from_file_location("run_onnx", Path(job.model) / "run_onnx.py")
    assert spec is not None and spec.loader is not None
    runner = module_from_spec(spec)
    try:
        spec.loader.exec_module(runner)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install -r requirements-export.txt") from None
    model = runner.Model(job.model, job.threads)
    model.session = _Timed(model.session, graph)
    return lambda points: model(points)[0]


class _Timed:
    """A session of ONNX Runtime that notes the seconds of each run."""

    def __init__(self, session: Any, times: list[float]) -> None:
        self._session, self._times = session, times

    def run(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        found = self._session.run(*arguments)
        self._times.append(time.perf_counter() - start)
        return found


def _program(job: Job, graph: list[float]) -> Label:
    import torch

    torch.set_num_threads(job.threads)
    return _of_tensors(torch.export.load(job.model).module())


def _compiled(job: Job, graph: list[float]) -> Label:
    import torch

    torch.set_num_threads(job.threads)
    return _of_tensors(torch._inductor.aoti_load_package(job.model))


def _of_tensors(program: Callable[..., Any]) -> Label:
    import torch

    def label(points: NDArray[np.float32]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            return program(torch.from_numpy(points))[0].numpy()

    return label


EAGER, PLAIN, ONNX, PROGRAM, COMPILED = "eager", "plain", "onnx", "program", "compiled"
_KINDS: dict[str, Callable[[Job, list[float]], Label]] = {
    EAGER: _eager,
    PLAIN: _plain,
    ONNX: _onnx,
    PROGRAM: _program,
    COMPILED: _compiled,
}

if __name__ == "__main__":
    sys.exit(child.serve(measurements, run_command))
