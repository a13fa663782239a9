"""The machine that the benchmarks run on: its processor, and the memory that a process uses and may use."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from network.native.library import library
from utils.errors import UserError

GIB = 2**30
_STATUS = Path("/proc/self/status")
_CORES = Path("/proc/stat")
_RESET_PEAK = Path("/proc/self/clear_refs")


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


class Company:
    """The processor time that other processes take from here on."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), self._busy(), time.process_time()

    def cores(self) -> float | None:
        """Returns how many cores others kept busy, on average; None where the system does not say."""
        wall, busy, own = self._start
        now = self._busy()
        if busy is None or now is None:
            return None
        return max(0.0, (now - busy - (time.process_time() - own)) / (time.perf_counter() - wall))

    @staticmethod
    def _busy() -> float | None:
        """Returns the seconds that all cores together have worked, for other guests of the same host, too."""
        try:
            user, nice, system, _, _, *others = map(int, _CORES.read_text().splitlines()[0].split()[1:9])
        except (OSError, ValueError, IndexError):
            return None
        return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def peak_memory() -> int | None:
    """Returns the largest resident size (bytes) of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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


class ProcessMemory:
    """Resident memory of this process. Where the system cannot reset the peak, it is the peak since the process
    began."""

    def start(self) -> int:
        """Forgets the peak so far; returns the resident size of this process in bytes."""
        _give_back()
        try:
            _RESET_PEAK.write_text("5")  # VmHWM starts again at what is resident now
        except OSError:
            return self.peak()
        return self._read("VmRSS")

    def peak(self) -> int:
        """Returns the largest resident size since `start`, in bytes."""
        return self._read("VmHWM")

    def _read(self, field: str) -> int:
        try:
            found = re.search(rf"{field}:\s*(\d+) kB", _STATUS.read_text())
        except OSError:
            found = None
        return int(found[1]) * 1024 if found else peak_memory() or 0


def _give_back() -> None:
    """Gives unused memory back to the system; otherwise what follows could use it and would seem to need less."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


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
