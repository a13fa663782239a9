"""Measurements in a process of their own: its memory is measured alone, and a crash does not end the benchmark.

The parent sends a job as JSON on stdin, the child answers with a line of JSON per measurement on stdout.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.command import stopping
from utils.command.process import run_program
from utils.errors import UserError, one_line
from utils.paths import REPOSITORY

Values = Mapping[str, Any]
"""The results of a measurement: numbers, texts and lists of them."""
_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory|bad_alloc|unable to allocate", re.I)
OUT_OF_MEMORY = "out of memory"


@dataclass
class Answer:
    """The results of a job.

    Attributes:
        values: the results of every measurement that succeeded.
        failures: the reason, in one line, for each that did not; "" stands for the job as a whole.
    """

    values: dict[str, Values] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def value(self, measurement: str, name: str) -> Any:
        """Returns one value of a measurement, or None if the measurement did not succeed."""
        values = self.values.get(measurement)
        return None if values is None else values[name]

    @staticmethod
    def of(performed: Iterable[tuple[str, Values | None, str | None]]) -> Answer:
        """Collects what `perform` yields."""
        answer = Answer()
        for name, values, failure in performed:
            if values is not None:
                answer.values[name] = values
            if failure is not None:
                answer.failures[name] = failure
        return answer


def run_job(module: str, job: Mapping[str, Any], limit: float | None = None) -> Answer:
    """Runs a module of this package on a job and waits for it. A failure of any kind is part of the answer.

    Args:
        module: such as "tools.benchmarking.growth.row"; it calls `serve`.
        job: values that JSON can hold.
        limit: seconds after which the process is ended; its answers until then count. None: no limit.
    """
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", module]
    try:
        with stopping.launching():  # it ends with this process, also where that is killed
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            text = json.dumps(job).encode()
            done = subprocess.run(command, input=text, capture_output=True, env=environment, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return _answer(late.stdout, f"not finished after {late.timeout:g} s (--limit)")
    failure = _why_it_ended(done.returncode, done.stderr.decode(errors="replace")) if done.returncode else None
    return _answer(done.stdout, failure)


def _answer(lines: bytes | None, failure: str | None) -> Answer:
    """Reads what a child has printed so far, and why it ended; an unfinished last line is ignored."""
    whole, _, _ = (lines or b"").rpartition(b"\n")
    answer = Answer.of(json.loads(line) for line in whole.splitlines())
    if failure is not None:
        answer.failures[""] = failure
    return answer


def _why_it_ended(code: int, errors: str) -> str:
    if code == -getattr(signal, "SIGKILL", 9):
        return f"killed: {OUT_OF_MEMORY}, as a rule"  # the kernel does not say why
    lines = [line for line in errors.splitlines() if line.strip()]
    if any(_NO_MEMORY.search(line) for line in lines):
        return OUT_OF_MEMORY
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return lines[-1].removeprefix("error: ") if lines else f"ended with code {code}"


def perform(
    measurements: Callable[[dict[str, Any]], Mapping[str, Callable[[], Values]]], job: dict[str, Any]
) -> Iterator[tuple[str, Values | None, str | None]]:
    """Runs a job's measurements in order; yields the name of each with its values, or with the reason why it has none.

    If one runs out of memory, this is reported and the next is tried. Any other failure ends the job: after an error on
    a CUDA device nothing that follows can be trusted.

    Args:
        measurements: job -> name -> measurement.
        job: the job, as `measurements` reads it.
    """
    for name, measure in measurements(job).items():
        try:
            values = measure()
        except Exception as error:
            failure = describe(error)
            yield name, None, failure
            if failure != OUT_OF_MEMORY:
                return
        else:
            yield name, values, None


def serve(
    measurements: Callable[[dict[str, Any]], Mapping[str, Callable[[], Values]]],
    run: Callable[[Callable[[], None]], int] = run_program,
) -> int:
    """Performs the job on stdin, answers on stdout, as a child does, and returns the exit code.

    Args:
        measurements: see `perform`.
        run: runs a program to its end.
    """
    # What libraries print must not get among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        stopping.begin()
        _be_the_one_to_be_killed()

        def main() -> None:
            for line in perform(measurements, json.load(sys.stdin)):
                print(json.dumps(line), file=answers, flush=True)

        return run(main)


def describe(error: Exception) -> str:
    """Describes a failure in one line."""
    # An extension that gets no memory and forgets to say so leaves Python with a SystemError.
    if isinstance(error, MemoryError | SystemError):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
        return OUT_OF_MEMORY
    if isinstance(error, UserError):
        return one_line(error)
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _be_the_one_to_be_killed() -> None:
    """Tells Linux to end this process first if memory runs out, before its parent and all others."""
    with suppress(OSError):  # on another system
        Path("/proc/self/oom_score_adj").write_text("1000")
