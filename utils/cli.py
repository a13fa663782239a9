"""The commands: flags, devices, and how errors end."""

from __future__ import annotations

import argparse
import ctypes
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from utils.errors import UserError, one_line


@dataclass(frozen=True)
class Devices:
    """Where to run.

    Attributes:
        accelerator: "gpu" or "cpu".
        ids: CUDA device ids (one entry per process on the CPU).
        num_nodes: machines.
        precision: "32", "bf16" or "16".
    """

    accelerator: Literal["gpu", "cpu"]
    ids: list[int]
    num_nodes: int
    precision: str

    @property
    def per_node(self) -> int:
        """Processes on this machine."""
        return len(self.ids)

    @property
    def count(self) -> int:
        """Processes over all machines."""
        return self.per_node * self.num_nodes

    def __str__(self) -> str:
        if self.accelerator == "gpu":
            where = f"GPU {' '.join(map(str, self.ids))}"
        else:
            where = f"the CPU ({self.per_node} process{'es' if self.per_node > 1 else ''})"
        nodes = f" on each of {self.num_nodes} machines" if self.num_nodes > 1 else ""
        return f"{where}{nodes}, precision {self.precision}"


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that runs a network."""
    parser.add_argument(
        "--config", "--config_path", default="config/2DPASS-semantickitti.yaml", metavar="YAML", help="the experiment"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of the config"
    )
    parser.add_argument("--gpu", type=int, nargs="+", default=[0], metavar="ID", help="CUDA devices")
    parser.add_argument(
        "--cpu", type=int, nargs="?", const=1, metavar="N", help="run on the CPU, in N processes (default 1)"
    )
    parser.add_argument(
        "--num_nodes", type=int, default=1, metavar="N", help="machines (torchrun or SLURM starts them)"
    )
    parser.add_argument("--precision", choices=("32", "bf16", "16"), default="32", help="mixed precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log_dir", default="default", metavar="NAME", help="name of the run: logs/<dataset>/<NAME>")
    parser.add_argument("--debug", action="store_true", help="a hundred items, no workers")
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="resume from it or test it; `last` and `best` mean those of --log_dir"
    )
    parser.add_argument("--baseline_only", action="store_true", help="the 3D network alone")


def choose_devices(gpu: list[int], cpu: int | None, num_nodes: int = 1, precision: str = "32") -> Devices:
    """The devices that the flags ask for, as far as they are there; without CUDA, the CPU.

    Raises:
        UserError: no such CUDA device, a count below 1, or a precision the device does not have.
    """
    if num_nodes < 1 or (cpu is not None and cpu < 1):
        raise UserError("--num_nodes and --cpu take a count of 1 or more")
    if cpu is None and torch.cuda.is_available():
        present = torch.cuda.device_count()
        wrong = [i for i in gpu if not 0 <= i < present]
        if wrong or len(set(gpu)) < len(gpu):
            raise UserError(f"--gpu {' '.join(map(str, gpu))}: this machine has the CUDA devices 0 to {present - 1}")
        return Devices("gpu", list(gpu), num_nodes, precision)
    if precision == "16":
        raise UserError("--precision 16 needs a CUDA device; use bf16 or 32 on the CPU")
    return Devices("cpu", list(range(cpu or 1)), num_nodes, precision)


def run(main: Callable[[], None]) -> int:
    """Run a command; what the user can mend ends as one line and exit code 2."""
    _quiet_libraries()
    _keep_memory()
    try:
        main()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _quiet_libraries() -> None:
    """Keep the output to what tells the user something: our lines, progress bars, real warnings."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The number of training batches .* is smaller than the logging interval.*",
        ".*was configured without a learning rate.*",
        ".*Experiment logs directory.*",
        ".*TypedStorage is deprecated.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # our scores are the same on every process already
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)


def _keep_memory() -> None:
    """Have the C library keep freed memory: giving it back and faulting it in again costs a third of a step."""
    if sys.platform != "linux":
        return
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: only slower
        pass
