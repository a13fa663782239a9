"""The compilation of `source/` into a library: once per machine, a matter of seconds.

A library is kept in the user's cache under a hash of everything that it depends on. Where there is no such folder that
is safe to load code from, it is compiled into a temporary folder at each start.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from network.native import cache, cpu
from network.native.toolchain import FLAGS, FLOOR, ISA_FLAGS, Compiler, compilers
from utils.locks import locked

SOURCE = Path(__file__).parent / "source"


class CompilationError(Exception):
    """The compiler fails; what it said is in a file that the message names."""

    def __init__(self, problem: str, said: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix="2dpass-native-", suffix=".log")
        with open(descriptor, "w", encoding="utf-8") as file, suppress(OSError):
            file.write(said)
        super().__init__(f"{problem}; {name} says why")


@contextmanager
def compiled(extra: Sequence[str] = (), begins: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """Compiles the library, if it is not kept from an earlier time.

    Args:
        extra: further flags of the compiler.
        begins: called before a compilation.

    Yields:
        The library. It may be in a temporary folder, which is removed after the block; once it is loaded, that does
        not matter.

    Raises:
        OSError: there is no compiler, or no room; the message says why.
        CompilationError: the compiler fails.
    """
    if not cpu.levels():
        raise OSError("it is for Linux on x86-64 CPUs with AVX2")
    try:
        folder = cache.private_folder()
        kept = _kept(folder, extra, begins)
    except OSError:  # no such folder, or it is full
        kept = None
    if kept is not None:
        yield kept
    else:
        with tempfile.TemporaryDirectory(prefix="2dpass-") as temporary:
            yield _kept(Path(temporary), extra, begins)


def _kept(folder: Path, extra: Sequence[str], begins: Callable[[], object]) -> Path:
    """Returns the library in `folder`, compiled by the first compiler that works."""
    faults = []
    for compiler in compilers():
        path = folder / f"{_key(compiler, extra)}.so"
        if cache.is_kept(path):
            return path
        with cache.workspace(folder) as workspace:
            fault = compiler.fault(workspace)
        if fault is None:
            with locked(folder / ".lock"):
                if not cache.is_kept(path):  # another process may have made it meanwhile
                    begins()
                    cache.tidy(folder)
                    _make(path, compiler, extra)
            return path
        faults.append(fault)
    raise CompilationError("the C++ compiler does not work", "\n".join(faults))


def _make(path: Path, compiler: Compiler, extra: Sequence[str]) -> None:
    with cache.workspace(path.parent) as workspace:
        compile_into(workspace / "library.so", compiler, compiler.known(workspace, cpu.levels()), extra)
        cache.keep(path, (workspace / "library.so").read_bytes())


def _key(compiler: Compiler, extra: Sequence[str]) -> str:
    """Hashes everything that the library depends on."""
    about = (FLAGS, FLOOR, ISA_FLAGS, tuple(extra), compiler, sorted(cpu.features()), os.confstr("CS_GNU_LIBC_VERSION"))
    digest = hashlib.sha256(repr(about).encode())
    for file in sorted(SOURCE.iterdir()):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:32]


def compile_into(target: Path, compiler: Compiler, levels: Sequence[str], extra: Sequence[str] = ()) -> None:
    """Compiles the files of the floor and of the levels of instructions, two at a time, and links them.

    Args:
        target: the library; objects are written beside it.
        compiler: the compiler.
        levels: of `ISA_FLAGS`; files for others are left out.
        extra: further flags of the compiler.

    Raises:
        CompilationError: the compiler does not accept a file.
    """
    files = [file for file in sorted(SOURCE.glob("*.cpp")) if _level(file) in ("", *levels)]
    objects = compile_objects(target.parent, files, compiler, levels, extra)
    fault = compiler.run("-shared", "-pthread", *extra, *objects, "-o", target)
    if fault is not None:
        raise CompilationError("the C++ compiler cannot link the library", fault)


def compile_objects(
    folder: Path, files: Sequence[Path], compiler: Compiler, levels: Sequence[str], extra: Sequence[str] = ()
) -> list[Path]:
    """Compiles files into a folder; see `compile_into`. Returns the objects."""
    defined = [f"-DNATIVE_{level.upper()}" for level in levels]

    def compile_file(file: Path) -> str | None:
        flags = (*FLAGS, *FLOOR, *ISA_FLAGS.get(_level(file), ()), *defined, *extra)
        return compiler.run(*flags, "-c", file, "-o", folder / f"{file.stem}.o")

    with ThreadPoolExecutor(2) as pool:
        faults = [fault for fault in pool.map(compile_file, files) if fault is not None]
    if faults:
        raise CompilationError("the C++ compiler does not accept the source", "\n".join(faults))
    return [folder / f"{file.stem}.o" for file in files]


def _level(file: Path) -> str:
    """Returns the level of instructions that a file is for; "" is the floor."""
    ending = file.stem.rpartition("_")[2]
    return ending if ending in ISA_FLAGS else ""
