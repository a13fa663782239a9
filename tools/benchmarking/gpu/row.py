"""The child process of `benchmark.py gpu`: one backend in one precision, or the machine itself."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from network.evaluation.graphed import GraphedEvaluation
from network.models.arch_2dpass import Arch2DPASS
from network.models.network_3d import Network3D
from tools.benchmarking import child
from tools.benchmarking.gpu.inputs import DTYPES, Inputs, Job, choose_arithmetic
from tools.benchmarking.machine import memory_meter
from tools.benchmarking.roofline import copy_rate, matrix_rate, network_work
from tools.benchmarking.stages.stage import largest_difference
from tools.benchmarking.steps import autocast
from tools.benchmarking.timing import Clock, quantile, synchronize
from utils.scan.records import Batch

MODULE = "tools.benchmarking.gpu.row"
BATCHES = 3  # different batches, one after the other


def run_job(job: Job, limit: float | None = None) -> child.Answer:
    """Measures in a process of its own, which is ended after `limit` seconds."""
    return child.run_job(MODULE, asdict(job), limit)


def measurements(job: dict[str, Any]) -> Mapping[str, Callable[[], child.Values]]:
    """Lists the measurements of a job, in order."""
    bench = Bench(Job(**job))
    if bench.job.backend is None:
        return {"machine": bench.machine}
    checks = {"check": bench.check} if bench.job.check else {}
    return {
        **checks,
        "latency": bench.latency,
        "throughput": bench.throughput,
        "votes": bench.votes,
        "training": bench.training,
        "loading": bench.loading,
    }


class Bench:
    """The measurements of a job."""

    def __init__(self, job: Job) -> None:
        self.job, self.inputs = job, Inputs(job)
        self.device = self.inputs.device
        self.meter, self.clock = memory_meter(self.device), Clock(self.device)
        torch.set_num_threads(job.threads)
        choose_arithmetic(job.precision)

    def machine(self) -> child.Values:
        """Measures how fast the device copies and multiplies, and counts the work of one scan."""
        on_gpu = self.device.type == "cuda"
        width = 8192 if on_gpu else self.inputs.subject.model.hiden_size
        shape = (8192, width, width)
        voxels = self.inputs.reference.voxelize(self.inputs.views[0])
        work = {p: network_work(self.inputs.reference, voxels, dtype.itemsize) for p, dtype in DTYPES.items()}
        return {
            "name": torch.cuda.get_device_name(self.device) if on_gpu else "the CPU",
            "bytes": copy_rate(self.device, 2**30 if on_gpu else 2**27),
            "shape": shape,
            "flops": {p: self._matrix_rate(p, shape) for p in DTYPES},
            "work": {p: {kind: asdict(part) for kind, part in parts.items()} for p, parts in work.items()},
            "points": len(self.inputs.views[0].points),
            "voxels": len(voxels.base),
        }

    def _matrix_rate(self, precision: str, shape: tuple[int, int, int]) -> float:
        choose_arithmetic(precision)
        return matrix_rate(self.device, DTYPES[precision], shape)

    def check(self) -> child.Values:
        """Compares the 3D network's logits and gradients with those of the torch backend in fp32.

        Returns:
            logits: the largest difference, relative to the largest number; gradients: the norm of all differences,
            relative to the norm of all gradients, in a step of 2DPASS; worst: the same of the parameter with the most.
        """

        def logits(network: Network3D, precision: str) -> Tensor:
            choose_arithmetic(precision)
            with torch.no_grad(), autocast(self.device, precision):
                return network.predict(self.inputs.views[0])

        def gradients(backend: str, precision: str) -> list[Tensor]:
            step = self.inputs.training_step(backend, precision)
            step.differentiate(batch)
            assert isinstance(step.network, Arch2DPASS)
            return [p.grad.double() for p in step.network.network_3d.parameters() if p.grad is not None]

        precision, batch = self.job.precision, self.inputs.trained(0, 1)
        assert self.job.backend is not None
        expected = gradients("torch", "32")
        apart = [a - b for a, b in zip(gradients(self.job.backend, precision), expected, strict=True)]
        worst = max(float(a.norm() / b.norm()) for a, b in zip(apart, expected, strict=True))
        difference = largest_difference([logits(self.inputs.network, precision)], [logits(self.inputs.reference, "32")])
        choose_arithmetic(precision)  # for what is measured next
        return {"logits": difference.relative, "gradients": float(_norm(apart) / _norm(expected)), "worst": worst}

    @cached_property
    def evaluation(self) -> GraphedEvaluation:
        """The evaluation of the network as programs have it: as CUDA graphs where the backend can be captured."""
        return GraphedEvaluation.of(self.inputs.network, self.device)

    def labels(self, batch: Batch) -> list[Tensor]:
        """Computes the labels of all points of a batch, on its device: (N,) uint8 for each file."""
        with torch.no_grad(), autocast(self.device, self.job.precision):
            return [segmentation.prediction for segmentation in self.evaluation.segment(batch)]

    def latency(self) -> child.Values:
        """Times scans from points to labels (seconds), one after the other, each begun on an idle device."""
        calls = [partial(self.labels, view) for view in self.inputs.views]
        host, device = self._one_by_one(calls)
        return {
            "median": statistics.median(host),
            "low": quantile(host, 0.1),
            "high": quantile(host, 0.9),
            "device": statistics.median(device),
        }

    def _one_by_one(self, calls: Sequence[Callable[[], object]]) -> tuple[list[float], list[float]]:
        """Times the calls in turn, in seconds: by the clock of the host, and by that of the device."""
        for call in calls:
            call()
        host, marks = [], []
        for number in range(self.job.runs):
            synchronize(self.device)
            start, first = time.perf_counter(), self.clock.mark()
            calls[number % len(calls)]()
            marks.append((first, self.clock.mark()))
            synchronize(self.device)
            host.append(time.perf_counter() - start)
        return host, [self.clock.between(first, last) for first, last in marks]

    def _back_to_back(self, calls: Sequence[Callable[[], object]]) -> float:
        """Counts the calls per second; the host waits only at the end."""
        for call in calls:
            call()
        synchronize(self.device)
        start = time.perf_counter()
        for number in range(self.job.steps):
            calls[number % len(calls)]()
        synchronize(self.device)
        return self.job.steps / (time.perf_counter() - start)

    def throughput(self) -> child.Values:
        """Counts the scans per second from points to labels."""
        self.meter.start()
        batches = [self.inputs.moved(number, self.job.batch_size) for number in range(BATCHES)]
        rate = self._back_to_back([partial(self.labels, batch) for batch in batches])
        return {"scans": rate * self.job.batch_size, "memory": self.meter.peak()}

    def votes(self) -> child.Values:
        """Times a scan with test-time augmentation (seconds)."""
        batches = [self.inputs.evaluated(number, 1).to(self.device, non_blocking=False) for number in range(BATCHES)]
        host, _ = self._one_by_one([partial(self.labels, batch) for batch in batches])
        return {"median": statistics.median(host)}

    def training(self) -> child.Values:
        """Counts the training steps per second on batches that are on the device already."""
        self.meter.start()
        assert self.job.backend is not None
        step = self.inputs.training_step(self.job.backend, self.job.precision)
        batches = [self.inputs.trained(number, self.job.batch_size) for number in range(BATCHES)]
        rate = self._back_to_back([partial(step, batch) for batch in batches])
        return {"steps": rate, "scans": rate * self.job.batch_size, "memory": self.meter.peak()}

    def loading(self) -> child.Values:
        """Counts the scans per second when they are loaded from files, and the share of time that the device waited for
        them."""
        assert self.job.backend is not None
        step = self.inputs.training_step(self.job.backend, self.job.precision)
        batches = self._loaded()
        warm_up, timed = self.job.loader_steps
        for _ in range(warm_up):
            step(next(batches).to(self.device))
        synchronize(self.device)
        start, marks = time.perf_counter(), [self.clock.mark()]
        for _ in range(timed):
            batch = next(batches)
            marks.append(self.clock.mark())
            step(batch.to(self.device))
            marks.append(self.clock.mark())
        synchronize(self.device)
        seconds = time.perf_counter() - start
        waited = sum(self.clock.between(*pair) for pair in zip(marks[::2], marks[1::2], strict=False))
        return {"scans": timed * self.job.batch_size / seconds, "waited": waited / seconds}

    def _loaded(self) -> Iterator[Batch]:
        loader: Any = self.inputs.subject.data.train_dataloader()
        loader.pin_memory = self.device.type == "cuda"  # as the data module does in a training
        return iter(loader)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


if __name__ == "__main__":
    sys.exit(child.serve(measurements))
