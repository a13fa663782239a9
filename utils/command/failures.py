"""Plain messages for errors of torch: no memory left, a lost loader process, or a lost process of the run."""

from __future__ import annotations

import re
import sys
from typing import Any

_NO_MEMORY = re.compile("out of memory|can(?:'t|not) allocate memory|not enough memory|ALLOC_FAILED", re.I)
_AMOUNT = re.compile(r"(?:tried to allocate|you tried to allocate) ([\d.]+ ?\w*)", re.I)
_LOST_PEER = re.compile(
    "Connection closed by peer|Connection reset|Broken pipe|Connection refused|ncclRemoteError|NCCL.*abort", re.I
)
_SILENT_PEER = re.compile(r"timed out|timeout|no route to host|network is unreachable|host is unreachable", re.I)
_LOST_WORKER = re.compile(r"DataLoader worker .*(?:is killed by signal|exited unexpectedly)")
_SIGNAL = re.compile(r"is killed by signal: ([\w ]+?)\.")
_TOO_SMALL = re.compile(r"shared memory ?\(shm\)|shared memory object|torch_shm_manager")
_LESS = (
    "lower dataset_params.train_data_loader.batch_size (or that of val_data_loader), num_workers or "
    "model_params.hiden_size, or set --precision bf16"
)
_NO_SHARED_MEMORY = "shared memory (/dev/shm) is used up; give it more (docker run --shm-size=8g), or lower num_workers"


def _torch() -> Any:
    """Returns torch if it was imported: before that, no error is one of its own."""
    return sys.modules.get("torch")


def explain(error: BaseException) -> str | None:
    """Returns a line about an error of torch that is no fault of the program, with a remedy; None for any other."""
    if isinstance(error, MemoryError):
        return _shortage(error)
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if _is_out_of_memory(error) or _NO_MEMORY.search(text):
        return _shortage(error)
    if _LOST_WORKER.search(text):
        found = _SIGNAL.search(f"{text} {error.__cause__}")
        return _lost_worker(found[1] if found else None)
    if text.startswith("Too many open files"):
        return "too many open files; raise the limit of the shell (ulimit -n), or lower num_workers"
    if _TOO_SMALL.search(text):
        return _NO_SHARED_MEMORY
    return lost_peer(error)


def lost_peer(error: BaseException) -> str | None:
    """Returns a line about an exception that another process of the run has caused; None for any other."""
    torch = _torch()
    if torch is None or not isinstance(error, RuntimeError) or not torch.distributed.is_available():
        return None
    text = str(error)
    if torch.distributed.is_initialized() and _LOST_PEER.search(text):
        return "another process of this run ended; its message says why"
    if torch.distributed.is_initialized() and _SILENT_PEER.search(text):
        return (
            "another process of this run does not answer any more; see whether its machine and the network are up, and "
            "start again on all machines (--peer_timeout says how long to wait)"
        )
    if isinstance(error, torch.distributed.DistError):
        return (
            f"the processes of this run do not find each other ({text.partition(chr(10))[0]}); check MASTER_ADDR and "
            "MASTER_PORT, and that no other run has this port"
        )
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    return (torch := _torch()) is not None and isinstance(error, torch.OutOfMemoryError)


def _shortage(error: BaseException) -> str:
    """Returns a line that says which memory is used up, and how to need less."""
    text = str(error)
    on_gpu = _is_out_of_memory(error) or "CUDA" in text or "CUBLAS" in text
    where = "of the GPU" if on_gpu else "of this machine"
    amount = _AMOUNT.search(text)
    wanted = f" ({amount[1]} more were wanted)" if amount else ""
    return f"the memory {where} is used up{wanted}; {_LESS}"


def _lost_worker(signal: str | None) -> str:
    if signal == "Killed":
        return f"a loader process was killed, as the system does when the memory of this machine is used up; {_LESS}"
    if signal == "Bus error":
        return _NO_SHARED_MEMORY
    how = "ended unexpectedly" if signal is None else f"was ended by the signal {signal}"
    return f"a loader process {how}; start again, with num_workers 0 if it happens again"
