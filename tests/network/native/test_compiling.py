"""The compilation of the library, with a compiler that is watched, slow or broken, and caches in every state."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from network.native import cache, compiling, cpu, toolchain
from network.native.compiling import CompilationError, compiled
from tests.support.processes import ROOT, start, until

pytestmark = pytest.mark.skipif(
    not cpu.levels() or shutil.which("g++") is None, reason="a g++ and a CPU with AVX2 are wanted here"
)
NATIVE = compiling.SOURCE.parent
SMALL = ("isa.h", "isa.cpp", "parallel.h", "pool.cpp")


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A few files of the source, which compile in a moment."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in SMALL:
        shutil.copy(compiling.SOURCE / name, folder)
    monkeypatch.setattr(compiling, "SOURCE", folder)
    return folder


@pytest.fixture
def kept(tmp_path, monkeypatch, source) -> Path:
    """The folder of libraries, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "cache" / "2dpass" / "native"


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Makes $CXX a script that notes its calls, runs a line of shell, and then is g++; returns what reads the notes."""
    notes, script = tmp_path / "calls", tmp_path / "a folder" / "compiler"
    script.parent.mkdir()

    def make(line: str = "", before: str = "") -> Path:
        body = f'#!/bin/sh\n{before}\necho "$*" >> {notes}\n{line}\nexec g++ "$@"\n'
        script.write_text(body)
        script.chmod(0o755)
        monkeypatch.setenv("CXX", f"'{script}'")
        return notes

    return make


def made(notes: Path) -> int:
    """How many libraries were linked."""
    return sum("library.so" in line for line in notes.read_text().splitlines())


def works(path: Path) -> bool:
    return ctypes.CDLL(str(path)).native_isa() == 1


def test_compiled_once(kept, calls) -> None:
    notes = calls()
    with compiled() as path:
        assert path.parent == kept and works(path)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    notes.write_text("")
    with compiled() as again:
        assert again == path
    assert notes.read_text() == "--version\n"
    assert [file.name for file in kept.iterdir()] == [path.name], "nothing else is left"


@pytest.mark.parametrize("change", ["source", "flags", "compiler", "features"])
def test_compiled_again_where_something_has_changed(change, kept, calls, source, monkeypatch) -> None:
    calls()
    with compiled() as path:
        pass
    if change == "source":
        (source / "isa.h").write_bytes((source / "isa.h").read_bytes() + b"\n")
    elif change == "compiler":
        calls('[ "$1" = --version ] && echo "of today"')
    elif change == "features":
        monkeypatch.setattr(cpu, "features", lambda: frozenset({"avx2"}))
        monkeypatch.setattr(cpu, "levels", lambda: ("avx2",))
    with compiled(["-DOTHER"] if change == "flags" else []) as other:
        assert other != path and works(other)
    assert path.exists()


PROCESS = """
import sys, time
from pathlib import Path
from network.native import compiling
compiling.SOURCE = Path(sys.argv[1])
with compiling.compiled() as path:
    print(path, flush=True)
"""


def test_two_processes_at_once(kept, calls, source) -> None:
    notes = calls(before="sleep 0.1")
    both = [start(PROCESS, source) for _ in range(2)]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(paths) == 1
    assert works(Path(paths.pop())) and made(notes) == 1


def test_killed_in_between(kept, calls, source) -> None:
    calls('case "$*" in *probe*) ;; *-c*) echo 1 > "${0%/*}/compiles"; sleep 20;; esac')
    marker = source.parent / "a folder" / "compiles"
    process = start(PROCESS, source, start_new_session=True)
    try:
        assert until(marker.exists)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    (left,) = kept.glob(".compiling-*")
    notes = calls()
    long_ago = time.time() - 2 * cache._ABANDONED
    os.utime(left, (long_ago, long_ago))
    (kept / ".library.so.1.12345678.partial").touch()
    (kept / "old.so").touch()
    os.utime(kept / "old.so", (1, 1))
    with compiled() as path:
        assert works(path) and made(notes) >= 1
    assert [file.name for file in kept.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "missing", "pipe"])
def test_a_damaged_library_is_made_anew(damage, kept) -> None:
    with compiled() as path:
        pass
    content = path.read_bytes()
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    elif damage != "missing":
        changed = {"cut": content[:-5000], "empty": b"", "changed": content[:3000] + b"?" + content[3001:]}
        path.write_bytes(changed[damage])
    with compiled() as again:
        assert works(again)
        assert damage == "pipe" or (again.read_bytes() == content and again == path)


def spoil_cache(kind: str, kept: Path, monkeypatch) -> None:
    """Makes the cache one from which nothing may be loaded, or to which nothing can be written."""
    if kind == "no home":
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", "relative")
    elif kind == "a file":
        kept.parents[1].write_text("")
    elif kind == "full":

        def refuse(path: Path, content: bytes) -> None:
            if path.parent == kept:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            path.write_bytes(content)

        monkeypatch.setattr(cache, "keep", refuse)
    else:
        with compiled():
            pass
        if kind == "of another":
            os.chown(kept, 12345, 12345)
        elif kind == "below another's":
            os.chown(kept.parent, 12345, 12345)
        elif kind == "a link":
            (kept.parent / "elsewhere").mkdir()
            kept.rename(kept.parent / "elsewhere" / "native")
            (kept.parent / "elsewhere").chmod(0o777)
            kept.symlink_to(kept.parent / "elsewhere" / "native")
        else:
            modes = {"writable by all": 0o777, "by the group": 0o770}
            kept.chmod(modes.get(kind, 0o700))
            if kind == "below one for all":
                kept.parents[1].chmod(0o777)


KINDS = ["no home", "a file", "full", "writable by all", "by the group", "below one for all", "a link"]
KINDS_FOR_ROOT = ["of another", "below another's"]


@pytest.mark.parametrize("kind", KINDS + KINDS_FOR_ROOT)
def test_a_cache_that_cannot_be_trusted_or_used(kind, kept, monkeypatch, tmp_path) -> None:
    if kind in KINDS_FOR_ROOT and os.geteuid() != 0:
        pytest.skip("only the superuser can give a folder away")
    monkeypatch.chdir(tmp_path)
    spoil_cache(kind, kept, monkeypatch)
    with compiled() as path:
        assert not path.resolve().is_relative_to(tmp_path / "cache") and works(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


def failure() -> tuple[str, str]:
    """What a compilation that fails says, and what stands in the file that it names."""
    with pytest.raises(CompilationError) as caught, compiled():
        pass
    said, _, rest = str(caught.value).partition("; ")
    log = Path(rest.removesuffix(" says why"))
    content = log.read_text()
    log.unlink()
    return said, content


def test_source_that_does_not_compile(kept, source) -> None:
    (source / "wrong.cpp").write_text("int f() { return nonsense; }\n")
    said, log = failure()
    assert said == "the C++ compiler does not accept the source" and "nonsense" in log and "wrong.cpp" in log
    assert not list(kept.glob("*.so"))


@pytest.mark.parametrize("place", ["PATH", "CXX"])
def test_no_compiler(place, kept, monkeypatch) -> None:
    monkeypatch.setenv(place, "/nowhere/g++")
    with pytest.raises(OSError, match=r"CXX, /nowhere/g\+\+, does not run|no g\+\+ or clang\+\+ runs here"), compiled():
        pass


def test_a_compiler_that_does_not_answer(kept, calls, monkeypatch) -> None:
    """Every start asks for its version."""
    monkeypatch.setattr(toolchain, "_PATIENCE_FOR_VERSION", 0.2)
    calls("exec sleep 20")
    with pytest.raises(OSError, match=r"^the compiler of \$CXX, .* does not run"), compiled():
        pass


def test_a_compiler_that_cannot_compile(kept, calls) -> None:
    calls('case "$*" in --version) ;; *) echo "no licence"; exit 1;; esac')
    said, log = failure()
    assert said == "the C++ compiler does not work" and "no licence" in log


def test_the_next_compiler_where_the_first_is_broken(kept, tmp_path, monkeypatch) -> None:
    places = tmp_path / "bin"
    places.mkdir()
    (places / "g++").write_text('#!/bin/sh\n[ "$1" = --version ]\n')
    (places / "clang++").write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}" exec g++ "$@"\n')
    for script in places.iterdir():
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(places))
    with compiled() as path:
        assert works(path)


def test_another_cpu(kept, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "levels", tuple)
    with pytest.raises(OSError, match="for Linux on x86-64 CPUs with AVX2"), compiled():
        pass


@pytest.mark.parametrize(("unknown", "known"), [("-mamx-tile", 3), ("-mavx512bf16", 2), ("-mavx512f", 1)])
def test_instructions_that_the_compiler_does_not_know_are_left_out(
    unknown, known, kept, source, calls, monkeypatch
) -> None:
    """A file for them may hold anything; the highest level that was compiled is what the library allows."""
    notes = calls(f'case "$*" in *{unknown}*) echo unknown; exit 1;; esac')
    monkeypatch.setattr(cpu, "levels", lambda: ("avx2", "avx512", "avx512bf16", "amx"))
    for level in list(toolchain.ISA_FLAGS)[known - 1 :]:
        (source / f"multiply_{level}.cpp").write_text("nonsense\n")
    with compiled() as path:
        assert ctypes.CDLL(str(path)).native_allow_isa(4) == known
    assert "nonsense" not in notes.read_text()


def test_files_for_more_instructions_share_nothing(tmp_path) -> None:
    """All files compile for all instructions, and those for more than the floor define no symbol that others may use.

    Of a function in several files the linker keeps one copy, perhaps one that most CPUs cannot run.
    """
    nm = shutil.which("nm")
    compiler = next(toolchain.compilers())
    if nm is None:
        pytest.skip("nm is wanted here")
    chosen = [file for file in compiling.SOURCE.glob("*.cpp") if compiling._level(file)]
    assert chosen
    levels = compiler.known(tmp_path, list(toolchain.ISA_FLAGS))
    compiling.compile_objects(tmp_path, [file for file in chosen if compiling._level(file) in levels], compiler, levels)
    for file in tmp_path.glob("*.o"):
        symbols = subprocess.run([nm, "-C", str(file)], capture_output=True, text=True, check=True).stdout.splitlines()
        assert symbols and not [symbol for symbol in symbols if symbol[17:18] in "WVu"], file.name


def test_a_wheel_holds_the_source() -> None:
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    held = {file for pattern in settings["package-data"]["network.native"] for file in NATIVE.glob(pattern)}
    assert held == {file for file in (NATIVE / "source").rglob("*") if file.is_file()} != set()
