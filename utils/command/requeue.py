"""The return of a SLURM job to the queue, when its time is over before its training is."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

from utils.command import stopping
from utils.text import printable, shortened

_SECONDS = 60  # that SLURM's controller may take for an answer
_PENDING = "Job is pending execution"  # SLURM's answer where another process has asked before


def requeue_when_asked(speaks: bool) -> None:
    """Has SIGUSR1 put the SLURM job of this process back into the queue; outside of SLURM it only ends the command.

    SIGTERM does not: SLURM sends it when a user cancels a job as well, and requeues jobs itself that give way to
    others.

    Every process of a run asks before it ends, since `srun --kill-on-bad-exit` kills the others as soon as one has
    ended. What comes after the first question changes nothing: the job is in the queue, or on its way.

    Args:
        speaks: print what came of it; one process of the run does.
    """
    if (job := _job()) is not None:
        stopping.before_the_end(signal.SIGUSR1, lambda: _requeue(job, speaks))


def _job() -> str | None:
    """Returns the job's name for scontrol: of an array, this task alone, since its number may be that of the array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}", "") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array.isdecimal() and task.isdecimal() else os.environ.get("SLURM_JOB_ID")


def _requeue(job: str, speaks: bool) -> None:
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=_SECONDS)
        problem = (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
        problem = "" if _PENDING in problem else problem
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if not speaks:
        return
    line = f"job {job} is in the queue again"
    if problem:
        line = (
            f"error: scontrol requeue {job}: {shortened(' '.join(problem.split()), 200)}; start the job again yourself"
        )
    with suppress(OSError):  # not print: another thread may hold the lock of the stream
        os.write(2, f"\n{printable(line)}\n".encode(errors="backslashreplace"))
