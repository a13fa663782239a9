"""The first steps of a program, before the imports that take seconds.

    if __name__ == "__main__":
        from utils.command.start import begin

        begin()

What can only be done after those imports (the loggers and warnings of the libraries, the exit codes) is in
`utils.command.process.run_program`.
"""

from __future__ import annotations

import importlib.util
import os

from utils.command import stopping
from utils.command.terminal import prepare_streams, say_error
from utils.native_switch import odd_switch

_NUMBERS = {
    **dict.fromkeys(("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "JSM_NAMESPACE_RANK"), "a launcher"),
    **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT", "STANDALONE_PORT"), "a launcher"),
    **dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID"), "SLURM"),
    **dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"), "SLURM"),
}
"""Variables of the environment that say which process of how many this is, and who sets them."""


def begin() -> None:
    """Prepares streams, signals and the environment variables that libraries read when they are imported.

    Ends the program with a line if variables of the environment have impossible values, or the packages of
    requirements.txt are not there, as outside the virtual environment.

    PyTorch Lightning reads the variables of launchers when it is imported, OpenMP its own when torch is.
    """
    prepare_streams()
    stopping.begin()
    # Threads of torch that wait for each other release their cores after some microseconds. By default they hold them
    # for milliseconds, and another process on the machine makes a step take ten to fifty times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files; a notebook's backend, or none, would fail the import
    problem = odd_variable()
    if problem is None and importlib.util.find_spec("torch") is None:
        problem = "this Python has no torch; type `source .venv/bin/activate` (after `make setup`) and try again"
    if problem is not None:
        say_error(f"error: {problem}")
        raise SystemExit(2)


def odd_variable() -> str | None:
    """Describes in a line what is wrong with the variables of a launcher and our own; None if nothing is."""
    for name, setter in _NUMBERS.items():
        value = os.environ.get(name)
        if value is None:
            continue
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            return f"the environment variable {name} is {value!r}, no whole number; unset it ({setter} sets it)"
        if name.endswith("_PORT") and not 0 < int(value) < 65536:
            return f"the environment variable {name} is {value}, no port from 1 to 65535; unset or correct it"
    for rank, size in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if {rank, size} <= os.environ.keys() and int(os.environ[rank]) >= int(os.environ[size]):
            return f"the environment variable {rank} is {os.environ[rank]}, of {size} {os.environ[size]}; correct one"
    return odd_switch()
