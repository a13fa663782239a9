"""The C++ compiler of this machine: where it is, whether it works, and which instructions it knows."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
)
"""A product and a sum are fused only where the source says so: geometry is that of PyTorch to the last bit."""
FLOOR = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt")
"""Nearly every x86-64 CPU since 2015 has these; files without a suffix are compiled for them."""

_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
ISA_FLAGS = {
    "avx512": _AVX512,
    "avx512bf16": (*_AVX512, "-mavx512bf16"),
    "amx": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
}
"""Level of instructions -> further flags, for the files whose names end in _<level>. These are called only on CPUs that
have the instructions, so they must not instantiate templates or inline functions of the standard library or of a
header: the linker keeps one copy for all files."""

_PROBES = {
    "": "#include <new>\nint* f() { return new (std::nothrow) int; }",
    "avx512": 'void f() { asm("vpermw %zmm0, %zmm1, %zmm2"); }',
    "avx512bf16": 'void f() { asm("vdpbf16ps %zmm0, %zmm1, %zmm2"); }',
    "amx": 'void f() { asm("tdpbf16ps %tmm0, %tmm1, %tmm2"); }',
}
"""A line of each level that only an assembler which knows it accepts; a compiler that does not, refuses the flags."""

_PATIENCE = 600  # seconds; a file takes a few
_PATIENCE_FOR_VERSION = 30  # seconds; every start waits for it


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        command: how it is called: its path, and arguments of $CXX.
        version: the text that it prints about itself.
    """

    command: tuple[str, ...]
    version: str

    def run(self, *arguments: str | Path) -> str | None:
        """Runs the compiler; returns the call and what it said if that failed, else None.

        Raises:
            OSError: it does not start, or does not end.
        """
        command = [*self.command, *map(str, arguments)]
        code, said = _called(command)
        return f"{shlex.join(command)}\n{said}\n(exit code {code})\n" if code else None

    def fault(self, workspace: Path, level: str = "") -> str | None:
        """Compiles a few lines, with the instructions of a level; returns what went wrong, None if nothing did."""
        source, result = workspace / f"probe_{level}.cpp", workspace / f"probe_{level}.so"
        source.write_text(_PROBES[level] + "\n", encoding="utf-8")
        return self.run(*FLAGS, *FLOOR, *ISA_FLAGS.get(level, ()), "-shared", source, "-o", result)

    def known(self, workspace: Path, levels: Sequence[str]) -> tuple[str, ...]:
        """Returns those of the levels above the floor whose instructions the compiler knows."""
        wanted = [level for level in levels if level in ISA_FLAGS]
        with ThreadPoolExecutor(2) as pool:
            faults = list(pool.map(lambda level: self.fault(workspace, level), wanted))
        count = next((i for i, fault in enumerate(faults) if fault is not None), len(wanted))
        return tuple(wanted[:count])


def compilers() -> Iterator[Compiler]:
    """Yields the compilers of this machine: that of $CXX if it is set, else g++ and clang++.

    Raises:
        OSError: there is none.
    """
    named = os.environ.get("CXX", "").strip()
    found = False
    for command in [named] if named else ["g++", "clang++"]:
        try:
            name, *arguments = shlex.split(command)
            path = shutil.which(name)
            if path is None:
                continue
            code, version = _called([path, *arguments, "--version"], _PATIENCE_FOR_VERSION)
        except (OSError, ValueError):
            continue
        if code == 0:
            found = True
            yield Compiler((path, *arguments), version)
    if not found:
        raise OSError(f"the compiler of $CXX, {named}, does not run" if named else "no g++ or clang++ runs here")


def _called(command: Sequence[str], patience: float = _PATIENCE) -> tuple[int, str]:
    """Runs a command; returns its exit code and what it said."""
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=patience
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} does not end") from error
    return process.returncode, process.stdout.decode("utf-8", "replace")
