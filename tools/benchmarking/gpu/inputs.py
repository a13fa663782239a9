"""The networks and batches on which `benchmark.py gpu` measures one backend in one precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from network.assemble import build_network
from network.models.arch_2dpass import Arch2DPASS
from network.models.network_3d import Network3D
from tools.benchmarking.frame import configure
from tools.benchmarking.machine import device_of
from tools.benchmarking.steps import TrainingStep
from tools.benchmarking.subject import Subject, settled_network_3d
from utils.config.schema import Config
from utils.fp32 import set_fp32_arithmetic
from utils.scan.batch import collate
from utils.scan.records import Batch

VIEWS = 8  # differently moved scans, one after the other: nothing is served from a cache
VOTES = 12
DTYPES = {"32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Job:
    """The measurements to take in one process.

    Attributes:
        folder: the folder of the frames (`frame.prepare`).
        config, overrides: the experiment.
        backend: the backend of the sparse convolutions; None: measure the machine.
        device: "cpu" or "cuda". precision: "32", "tf32" or "bf16".
        runs: timed calls where each call is timed alone.
        steps: timed calls where calls follow each other without a pause.
        batch_size: scans per batch, in throughput and training.
        workers: processes that load scans.
        check: whether to compare with the torch backend first.
        threads: threads of torch.
    """

    folder: str
    config: str
    overrides: tuple[str, ...]
    backend: str | None
    device: str
    precision: str
    runs: int
    steps: int
    batch_size: int
    workers: int
    check: bool
    threads: int

    @property
    def loader_steps(self) -> tuple[int, int]:
        """The numbers of steps with data from disk: to warm up (until the batches that the workers loaded in advance
        are used up), and timed."""
        return max(1, 2 * self.workers), max(self.steps, 2 * self.workers)

    @property
    def copies(self) -> tuple[int, int]:
        """The numbers of frames that are needed for training and for validation."""
        return sum(self.loader_steps) * self.batch_size, VIEWS


def choose_arithmetic(precision: str) -> None:
    """Sets how products of fp32 are computed from now on, for a precision of `Job`."""
    set_fp32_arithmetic(tf32=precision == "tf32")


class Inputs:
    """Networks and batches of a job, on its device, each made when it is first asked for."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, device_of(job.device)

    def _config(self, backend: str) -> Config:
        loader = f"dataset_params.train_data_loader.num_workers={self.job.workers}"
        batch = f"dataset_params.train_data_loader.batch_size={self.job.batch_size}"
        overrides = [*self.job.overrides, loader, batch, f"model_params.sparse_backend={backend}"]
        return configure(self.job.config, overrides, Path(self.job.folder))

    @cached_property
    def subject(self) -> Subject:
        """The frame, with the backend that is measured."""
        return Subject(self._config(self.job.backend or "torch"))

    @cached_property
    def reference(self) -> Network3D:
        """The 3D network on the torch backend."""
        return settled_network_3d(self._config("torch"), self.views[0])

    @cached_property
    def network(self) -> Network3D:
        """The same network on the backend that is measured."""
        network = build_network(self.subject.config, baseline_only=True)
        assert isinstance(network, Network3D)
        network.load_state_dict(self.reference.state_dict())
        choose_arithmetic(self.job.precision)
        network.warm_up(self.device, DTYPES[self.job.precision], training=False)
        return network.to(self.device).eval()

    def training_step(self, backend: str, precision: str) -> TrainingStep:
        """Makes a training step of 2DPASS, whose weights are always the same."""
        config = self._config(backend)
        torch.manual_seed(0)
        network = build_network(config)
        assert isinstance(network, Arch2DPASS)
        choose_arithmetic(precision)
        network.warm_up(self.device, DTYPES[precision], training=True)
        return TrainingStep(network.to(self.device).train(), config.train_params, precision)

    def evaluated(self, number: int, scans: int) -> Batch:
        """Makes a batch with test-time views, of frames `number`, `number + 1` and so on."""
        dataset = self.subject.evaluation_set(VOTES)
        return collate([dataset[(number + i) % len(dataset)] for i in range(scans)], False)

    def moved(self, number: int, scans: int) -> Batch:
        """Makes a batch on the device, as seen in one of its views."""
        batch = self.evaluated(number, scans)
        return replace(batch.view(1 + number % (VOTES - 1)), views=None).to(self.device, non_blocking=False)

    @cached_property
    def views(self) -> list[Batch]:
        """Scans on the device, each in another place and of another size."""
        return [self.moved(number, 1) for number in range(VIEWS)]

    def trained(self, number: int, scans: int) -> Batch:
        """Makes a batch on the device, as augmented in epoch `number`."""
        items = [self.subject.training_set[number, index] for index in range(scans)]
        return collate(items, True).to(self.device, non_blocking=False)
