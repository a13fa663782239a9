"""The machine that the benchmarks run on: its processor, its native code, and the memory that a process may use."""

from __future__ import annotations

import gc
import os
import platform
import re
import sys
from pathlib import Path

import torch

from network.native.library import library
from tools.benchmarking.host import ProcessMemory
from utils.errors import UserError

GIB = 2**30


def machine() -> str:
    """Describes cores, processor, torch and its threads, and how busy the machine is, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = found[1]
    load = f", load average {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    return f"Machine: {cores} cores, {model}; torch {torch.__version__}, threads: {torch.get_num_threads()}{load}."


_WORTH_NAMING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def native_code() -> str:
    """Says in a line which instructions the processor has that matter here, and which of them native code uses."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"flags\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    there = set(found[1].split()) if found else set()
    has = ", ".join(name for name in _WORTH_NAMING if name in there) or "unknown"
    loaded = library()
    used = "not available here: ours is in PyTorch alone" if loaded is None else f"in use, with {loaded.level}"
    return f"Instructions: {has} (of {', '.join(_WORTH_NAMING)}); native code: {used}."


def device_of(name: str) -> torch.device:
    """Returns the device called "cpu" or "cuda"; of several, the current one."""
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def total_memory(device: torch.device) -> int | None:
    """Returns the memory (bytes) of a CUDA device or of this machine; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def limit_memory(device: torch.device, gib: float) -> None:
    """Makes allocations beyond the limit fail in this process: on CUDA those of torch, elsewhere all of its data.

    Raises:
        UserError: the system has no such limit, or the device has less memory than that.
    """
    size = int(gib * GIB)
    if device.type == "cuda":
        total = total_memory(device)
        assert total is not None
        if size > total:
            raise UserError(f"--memory_limit {gib:g}: the device has {total / GIB:.0f} GiB; choose less")
        torch.cuda.set_per_process_memory_fraction(size / total, device)
        return
    if sys.platform != "linux":
        raise UserError("--memory_limit needs Linux, or --device cuda; leave it out")
    import resource

    # Of the data, not of the address space: libraries reserve far more addresses than they ever touch.
    resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


class DeviceMemory:
    """A measurement of the memory that torch has allocated on a CUDA device, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> int:
        """Forgets the peak so far; returns the bytes that are allocated now."""
        torch.cuda.synchronize(self.device)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """Returns the most bytes that were allocated since `start`."""
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device)


def memory_meter(device: torch.device) -> DeviceMemory | ProcessMemory:
    """Makes the memory meter of a device."""
    return DeviceMemory(device) if device.type == "cuda" else ProcessMemory()


def require(device: str) -> None:
    """Refuses "cuda" where there is no such device.

    Raises:
        UserError: there is no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device found; run this on a machine that has one, or on the CPU with --device cpu")
