"""The child process of `benchmark.py growth`: one network on one batch, timed, and the memory that it takes.

It imports no more than it needs, and reads its batch from a file: the data set that the batch comes from takes none of
its memory.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from network.assemble import build_network
from network.models.network_3d import Network3D
from tools.benchmarking import child
from tools.benchmarking.host import Company
from tools.benchmarking.machine import device_of, limit_memory, memory_meter
from tools.benchmarking.steps import TrainingStep, labels
from tools.benchmarking.timing import repeat
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.files import whole_file
from utils.scan.records import Batch, Frame, WholeScan

MODULE = "tools.benchmarking.growth.row"
EVALUATION, TRAINING = "evaluation", "training step"


@dataclass(frozen=True)
class Job:
    """One measurement in one process.

    Attributes:
        what: EVALUATION, from points to labels with the 3D network, or TRAINING, a step of 2DPASS.
        batch: the file of the batch (`save_batch`).
        config, overrides: the experiment.
        device: "cpu" or "cuda". precision: "32" or "bf16".
        runs, budget: the number of timed calls, and the seconds after which no further one begins.
        memory_limit: memory that the process may take, GiB; None: no limit.
        threads: threads of torch.
    """

    what: str
    batch: str
    config: str
    overrides: tuple[str, ...]
    device: str
    precision: str
    runs: int
    budget: float
    memory_limit: float | None
    threads: int

    def run(self, limit: float | None = None) -> child.Answer:
        """Runs the job in a process of its own, which is ended after `limit` seconds."""
        return child.run_job(MODULE, asdict(self), limit)


def save_batch(batch: Batch, path: Path) -> None:
    """Writes a batch to a file that `_load_batch` reads."""
    apart = batch.map_tensors(Tensor.clone)  # parts of one piece of memory that differ in type cannot be saved
    with whole_file(path) as file:
        torch.save(apart, file)


def _load_batch(path: str) -> Batch:
    with torch.serialization.safe_globals([Batch, WholeScan, Frame]):
        return torch.load(path, weights_only=True)


def measurements(job: dict[str, Any]) -> Mapping[str, Callable[[], child.Values]]:
    """Returns the one measurement of a job."""
    return {job["what"]: lambda: measure(Job(**job))}


def measure(job: Job) -> child.Values:
    """Runs the job in this process.

    Returns:
        seconds: median of a call; runs: the number of calls; before: bytes in use before the first call, with
        the network and the batch; memory: bytes that the calls added at their peak; others: cores that other processes
        took; voxels: of the batch at scale 1.
    """
    device = device_of(job.device)
    torch.set_num_threads(job.threads)
    if job.memory_limit is not None:
        limit_memory(device, job.memory_limit)
    config = load_config(job.config, job.overrides)
    batch = _load_batch(job.batch).to(device)
    # What happens only once in a process (imports, the libraries' own set-up) is to be neither timed nor weighed.
    _make_call(config, job, corner(batch))()
    call = _make_call(config, job, batch)
    meter = memory_meter(device)
    before = meter.start()
    company = Company()
    times = repeat(call, device, job.runs, job.budget)
    others = company.cores()
    return {
        "seconds": statistics.median(times),
        "runs": len(times),
        "before": before,
        "memory": meter.peak() - before,
        "others": others,
        "voxels": _count_voxels(config, batch),
    }


def _make_call(config: Config, job: Job, batch: Batch) -> Callable[[], object]:
    """Makes the call that is timed, with a network of its own."""
    torch.manual_seed(0)
    network = build_network(config, baseline_only=job.what == EVALUATION).to(batch.points.device)
    if job.what == EVALUATION:
        return partial(labels, network.eval(), batch, job.precision)
    return partial(TrainingStep(network.train(), config.train_params, job.precision), batch)


def corner(batch: Batch, points: int = 1000, size: int = 64) -> Batch:
    """Cuts out a small batch of the same kind: some points of the first scan, and a corner of its image.

    Args:
        batch: a batch of training or evaluation, without or with views.
        points: number of points to keep, besides those in the corner.
        size: edge length of the corner, pixels.
    """
    length = batch.lengths[0]
    pixels = batch.pixels[:length]
    in_corner = ((pixels >= 0) & (pixels < size)).all(1)
    kept = in_corner.clone()
    kept[:points] = True
    pixels = torch.where(in_corner[:, None], pixels, -1)[kept]
    whole = batch.whole[0] if batch.whole else None
    return replace(
        batch,
        points=batch.points[:length][kept],
        scan_ids=batch.scan_ids[:length][kept],
        labels=batch.labels[:length][kept],
        pixels=pixels,
        visible=torch.nonzero(pixels[:, 0] >= 0)[:, 0],
        images=None if batch.images is None else batch.images[:1, :, :size, :size],
        image_sizes=(),
        lengths=(int(kept.sum()),),
        # Only the donors are looked at.
        whole=() if whole is None else (replace(whole, donor=torch.zeros_like(whole.donor[:1])),),
        views=None if batch.views is None else batch.views[:1],
    )


def _count_voxels(config: Config, batch: Batch) -> int:
    network = build_network(config, baseline_only=True)
    assert isinstance(network, Network3D)
    return len(network.voxelize(batch).base)


if __name__ == "__main__":
    sys.exit(child.serve(measurements))
