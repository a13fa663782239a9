"""The agreement of the processes of a run to stop after the same step, whichever of them has been asked to."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import Work

from utils.command import stopping

_RANKED = (0, signal.SIGTERM, signal.SIGUSR1)
"""The signals; where processes have got different ones, the later counts."""


class Agreement:
    """The signal that asked processes of a run to end, as all of them know it.

    The processes tell each other after every step, and look at the answer after the next one, when it has long arrived:
    nobody waits, and all stop after the same step. They use a group of their own on the host, since what is done on a
    GPU is not done yet when the host goes on.

    Args:
        processes: number of processes of the run.
        timeout: of the process group, in seconds.
    """

    def __init__(self, processes: int, timeout: float) -> None:
        self._group: Any = None  # a ProcessGroup; None: there is one process
        if processes > 1:
            self._group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._told: tuple[Work, torch.Tensor] | None = None

    def after_a_step(self) -> int:
        """Returns the signal that asked a process up to the step before; 0: none did. All processes call this."""
        if self._group is None:
            return stopping.requested()
        known = self._heard()
        self._tell()
        return known

    def now(self) -> int:
        """Returns the signal that has asked a process so far; 0: none did. All processes call this, and wait."""
        if self._group is None:
            return stopping.requested()
        before = self._heard()
        self._tell()
        return before or self._heard()

    def _tell(self) -> None:
        own = torch.tensor(_RANKED.index(stopping.requested()))
        work = distributed.all_reduce(own, distributed.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None
        self._told = (work, own)

    def _heard(self) -> int:
        if self._told is None:
            return 0
        work, highest = self._told
        self._told = None
        work.wait()
        return int(_RANKED[int(highest)])
