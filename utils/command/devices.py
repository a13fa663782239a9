"""The devices that a command runs on, as its flags and its launcher name them."""

from __future__ import annotations

import importlib.util
import os
import runpy
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from utils.command.start import odd_variable
from utils.command.terminal import say
from utils.config.schema import Config
from utils.errors import UserError

PEER_TIMEOUT = 1800
"""Seconds after which a process that does not answer counts as lost, unless --peer_timeout says otherwise."""


@dataclass(frozen=True)
class Devices:
    """The devices to run on.

    Attributes:
        accelerator: "gpu" or "cpu".
        ids: CUDA device ids (one entry per process on the CPU).
        num_nodes: number of machines.
        precision: "32", "tf32", "bf16" or "16".
        peer_timeout: seconds after which a process of the run that does not answer counts as lost.
    """

    accelerator: Literal["gpu", "cpu"]
    ids: list[int]
    num_nodes: int
    precision: str
    peer_timeout: int = PEER_TIMEOUT

    @property
    def per_node(self) -> int:
        """The number of processes on this machine."""
        return len(self.ids)

    @property
    def count(self) -> int:
        """The number of processes on all machines."""
        return self.per_node * self.num_nodes

    def __str__(self) -> str:
        if self.accelerator == "gpu":
            where = f"GPU {' '.join(map(str, self.ids))}"
        else:
            where = f"the CPU ({self.per_node} process{'es' if self.per_node > 1 else ''})"
        nodes = f" on each of {self.num_nodes} machines" if self.num_nodes > 1 else ""
        return f"{where}{nodes}, precision {self.precision}"


def choose_devices(
    gpu: list[int], cpu: int | None, num_nodes: int = 1, precision: str = "32", peer_timeout: int | None = None
) -> Devices:
    """Chooses the devices that the flags ask for; without CUDA, the CPU.

    Raises:
        UserError: a CUDA device does not exist or is named twice, the device does not have the precision, or the
            launcher started another number of processes.
    """
    if cpu is None and (present := _cuda_devices()):
        if any(i >= present for i in gpu):
            raise UserError(f"--gpu {' '.join(map(str, gpu))}: this machine has the CUDA devices 0 to {present - 1}")
        if len(set(gpu)) < len(gpu):
            raise UserError(f"--gpu {' '.join(map(str, gpu))}: a device is named twice")
        return _checked(Devices("gpu", list(gpu), num_nodes, precision), peer_timeout)
    if cpu is not None and any(gpu):  # 0 is the default, and what the commands of the guides have
        raise UserError(f"--gpu {' '.join(map(str, gpu))} has no effect beside --cpu; give one of them")
    if precision in ("16", "tf32"):
        raise UserError(f"--precision {precision} needs a CUDA device; use bf16 or 32 on the CPU")
    return _checked(Devices("cpu", list(range(cpu or 1)), num_nodes, precision), peer_timeout)


def is_first_process() -> bool:
    """Returns whether this is the process of a run that speaks, by what its launcher has set."""
    # In this order: a process that was started in a SLURM shell has a LOCAL_RANK beside the SLURM_PROCID of the shell.
    number = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    return number == "0"


def say_first(text: str) -> None:
    """Prints lines for the user, in the first process of a run."""
    if is_first_process():
        say(text)


def device_notice(devices: Devices, cpu: int | None) -> str:
    """Returns the line that says where a command runs, and that there is no CUDA device if --cpu was not given."""
    no_cuda = "no CUDA device found, " if cpu is None and devices.accelerator == "cpu" else ""
    return f"{no_cuda}running on {devices}"


def loader_notice(config: Config, fit: bool, debug: bool) -> str | None:
    """Returns a line if a config asks for more loader processes than there are cores, else None.

    It takes the place of two long warnings of torch.
    """
    data = config.dataset_params
    workers = max(data.val_data_loader.num_workers, data.train_data_loader.num_workers if fit else 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if debug or workers <= cores:
        return None
    return f"note: num_workers is {workers}, and there are {cores} cores; as many loader processes as cores are enough"


def _cuda_devices() -> int:
    """Counts the CUDA devices; a torch that was built without CUDA is not imported for it, which takes a second."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        version = Path(spec.origin).with_name("version.py")
        if version.is_file() and not any(map(runpy.run_path(str(version)).get, ("cuda", "hip"))):
            return 0
    import torch  # here: only a torch with CUDA has to be asked

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _checked(devices: Devices, peer_timeout: int | None) -> Devices:
    """Refuses flags that differ from how the processes were started: these would wait for each other for ever."""
    if (problem := odd_variable()) is not None:
        raise UserError(problem)
    started, tasks, nodes = _started()
    if started is not None and started != devices.count:
        raise UserError(
            f"{started} processes were started, but the flags ask for {devices.count}: "
            "--gpu (or --cpu) names the devices of one machine, --num_nodes the machines"
        )
    for name, found, wanted in (("ntasks-per-node", tasks, devices.per_node), ("nodes", nodes, devices.num_nodes)):
        if found is not None and found != wanted:
            raise UserError(
                f"SLURM was given --{name}={found}, but the flags ask for {wanted}: --gpu (or --cpu) names the "
                "devices of one machine, --num_nodes the machines"
            )
    if devices.num_nodes > 1 and started is None and "MASTER_ADDR" not in os.environ:
        raise UserError("--num_nodes wants a launcher: start with torchrun or srun, as docs/guides/train.md shows")
    if devices.count > 1 and (host := os.environ.get("MASTER_ADDR")) is not None:
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:  # torch would try for half an hour
            raise UserError(
                f"the environment variable MASTER_ADDR is {host!r}, no host that this machine knows; correct it"
            ) from error
    if peer_timeout is None:
        return devices
    if devices.count == 1:
        raise UserError("--peer_timeout is about the other processes of a run, and this one has none; leave it out")
    return replace(devices, peer_timeout=peer_timeout)


def _started() -> tuple[int | None, int | None, int | None]:
    """Returns the number of processes that a launcher has started; under SLURM also their number per machine, and the
    number of machines. None: unknown."""

    def number(name: str) -> int | None:
        return int(os.environ[name]) if name in os.environ else None

    if "LOCAL_RANK" in os.environ:  # torchrun
        return number("WORLD_SIZE"), None, None
    # PyTorch Lightning uses the same condition to find out that srun is used.
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return number("SLURM_NTASKS"), number("SLURM_NTASKS_PER_NODE"), number("SLURM_NNODES")
    return None, None, None
