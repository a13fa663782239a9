"""The library in a process: when it is used, what is said where it is not, its threads, and processes that fork."""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch

from network.native import checks, cpu
from network.native import library as native
from tests.support.processes import start
from utils.errors import UserError
from utils.native_switch import LEVELS, SWITCH

LOADED = native.library()
wants_native = pytest.mark.skipif(LOADED is None, reason="native code is switched off or cannot be compiled here")


@pytest.fixture(autouse=True)
def not_tried(monkeypatch) -> Iterator[None]:
    """As in a process that has not asked for the library yet, and whose environment does not speak of it."""
    monkeypatch.setattr(native, "_library", None)
    monkeypatch.setattr(native, "_tried", False)
    for name in (SWITCH, "RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    yield
    if LOADED is not None:
        LOADED.allow(LOADED.levels[-1])


@pytest.fixture
def no_compiler(monkeypatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")


def test_a_line_and_plain_pytorch_without_a_compiler(no_compiler) -> None:
    said = r"^plain PyTorch is used instead of native code, .*: the compiler of \$CXX, /nowhere/g\+\+, does not run$"
    with pytest.warns(RuntimeWarning, match=said) as lines:
        assert native.library() is None
    assert native.library() is None and len(lines) == 1


@pytest.mark.parametrize("silent", ["loader", "RANK", "SLURM_PROCID", "LOCAL_RANK", "off"])
def test_the_line_comes_once_in_a_run(silent, no_compiler, monkeypatch, recwarn) -> None:
    if silent == "loader":
        monkeypatch.setattr(multiprocessing, "parent_process", object)
    else:
        monkeypatch.setenv(*((SWITCH, "off") if silent == "off" else (silent, "1")))
    assert native.library() is None and not recwarn


def test_required(no_compiler, monkeypatch) -> None:
    monkeypatch.setenv(SWITCH, "required")
    for _ in range(2):
        with pytest.raises(UserError, match=r"^TWODPASS_NATIVE=required, but native code .*: the compiler of \$CXX"):
            native.library()


def test_a_typing_error(monkeypatch) -> None:
    monkeypatch.setenv(SWITCH, "Off")
    with pytest.raises(UserError, match=r"^the environment variable TWODPASS_NATIVE is 'Off'; it is auto, off"):
        native.library()


@wants_native
@pytest.mark.parametrize("level", LEVELS)
def test_the_instructions_can_be_limited(level, monkeypatch) -> None:
    monkeypatch.setenv(SWITCH, level)
    if LOADED is not None and level in LOADED.levels:
        found = native.library()
        assert found is not None and found.level == level
    else:
        with pytest.raises(UserError, match=f"^TWODPASS_NATIVE={level}: this CPU and its compiler have avx2"):
            native.library()


def test_flags_of_the_compiler_that_are_no_list(monkeypatch) -> None:
    monkeypatch.setenv(native.FLAGS, '"')
    with pytest.raises(UserError, match=r"^the environment variable TWODPASS_NATIVE_FLAGS is no list of flags: "):
        native.library()


@wants_native
def test_switched_off_for_a_while() -> None:
    found = native.library()
    with native.switched_off():
        assert native.library() is None
        with native.switched_off():
            pass
        assert native.library() is None
    assert found is not None and native.library() is found


@pytest.fixture
def forgetful(monkeypatch) -> set[tuple[str, str]]:
    """The library remembers what was found right in this set alone."""
    notes: set[tuple[str, str]] = set()
    monkeypatch.setattr(native.Library, "remembers", lambda self, what: (self.level, what) in notes)
    monkeypatch.setattr(native.Library, "remember", lambda self, what: notes.add((self.level, what)))
    return notes


@wants_native
@pytest.mark.parametrize("fault", ["wrong ranks", "ZeroDivisionError"])
def test_a_library_that_is_wrong_is_not_used(fault, forgetful, monkeypatch) -> None:
    def is_right() -> bool:
        assert native.library() is not None, "the check computes with the library"
        return fault == "ZeroDivisionError" and 1 // 0 == 0

    monkeypatch.setitem(checks._CHECKS, "ranks", is_right)
    with pytest.warns(RuntimeWarning, match=f"plain PyTorch is used instead .*{fault}"):
        assert native.library() is None
    assert not forgetful


@wants_native
def test_checked_once_per_machine(forgetful, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(checks, "first_wrong", lambda: calls.append(1))
    for _ in range(2):
        monkeypatch.setattr(native, "_tried", False)
        monkeypatch.setattr(native, "_library", None)
        assert native.library() is not None
    assert len(calls) == 1


NOISE = {
    "ranks": ("rank", lambda found: [found[0]._replace(order=found[0].order.flip(0))]),
    "neighbours": ("neighbour_pairs", lambda found: found._replace(inputs=found.inputs.roll(1))),
    "sums of rows": ("sum_rows", lambda found: found + 0.05 * found.abs().max()),
    "gradients of weights": ("weight_gradient", lambda found: (found[0], found[1] * 1.001)),
    "linear layers": ("linear", lambda found: (found[0].clone().index_fill_(0, torch.tensor([3]), 0), None)),
    "classes": ("best_classes", lambda found: (found[0].roll(1), found[1])),
    "voxel keys": ("halved_keys", lambda found: found + 1),
    "tuples": ("tuples", lambda found: found._replace(order=found.order.flip(0))),
}


@wants_native
@pytest.mark.parametrize("what", NOISE)
def test_what_is_wrong_is_found(what, monkeypatch) -> None:
    assert list(checks._CHECKS) == list(NOISE)
    assert native.library() is not None and checks.first_wrong() is None
    name, spoil = NOISE[what]
    right = getattr(checks, name)
    monkeypatch.setattr(checks, name, lambda *arguments, **more: spoil(right(*arguments, **more)))
    assert checks.first_wrong() == what


@wants_native
def test_what_was_found_right_is_remembered_for_the_instructions_in_use(monkeypatch, tmp_path) -> None:
    assert LOADED is not None
    monkeypatch.setattr(LOADED, "_marker", tmp_path / "library.so")
    assert not LOADED.remembers("sums")
    LOADED.remember("sums")
    assert LOADED.remembers("sums") and not LOADED.remembers("products")
    LOADED.allow("avx2")
    assert LOADED.remembers("sums") == (LOADED.levels == ("avx2",))
    monkeypatch.setattr(LOADED, "_identity", "that of a library that was made anew, in the same place")
    assert not LOADED.remembers("sums")
    monkeypatch.setattr(LOADED, "_marker", tmp_path / "is not there" / "library.so")
    LOADED.remember("sums")


@wants_native
def test_another_thread_waits_for_the_check(forgetful, monkeypatch) -> None:
    """It would compute with a library of which nobody knows yet whether it is right."""
    found: list[native.Library | None] = []

    def is_right() -> bool:
        assert native.library() is not None
        other.start()
        other.join(0.2)
        return bool(found)

    other = threading.Thread(target=lambda: found.append(native.library()))
    monkeypatch.setitem(checks._CHECKS, "ranks", is_right)
    with pytest.warns(RuntimeWarning, match="it computes wrong ranks"):
        assert native.library() is None
    other.join()
    assert found == [None]


def test_what_a_cpu_has() -> None:
    assert cpu.levels() == LEVELS[: len(cpu.levels())]
    assert cpu.usable_levels() in (cpu.levels(), cpu.levels()[:-1])


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        ("", 0),
        ("avx2 fma", 0),
        ("avx2 fma f16c bmi1 bmi2 abm", 1),
        ("avx2 fma f16c bmi1 bmi2 abm avx512f", 1),
        ("avx2 fma f16c bmi1 bmi2 abm avx512_bf16 amx_tile amx_bf16", 1),
        ("avx2 fma f16c bmi1 bmi2 abm avx512f avx512bw avx512dq avx512vl amx_tile amx_bf16", 2),
        ("avx2 fma f16c bmi1 bmi2 abm avx512f avx512bw avx512dq avx512vl avx512_bf16 amx_tile amx_bf16", 4),
    ],
)
def test_levels_contain_each_other(flags, levels, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "features", lambda: frozenset(flags.split()))
    assert cpu.levels() == LEVELS[:levels]


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
import network.assemble
from network.native import library as native
assert not native._tried, "importing compiles nothing"
found = native.library()
threads = lambda: found.function("native_threads", native.ctypes.c_int32, returns=native.ctypes.c_int32)(2)
torch.set_num_threads(2)
torch.ones(1 << 20).add(1)  # PyTorch's threads run
print(threads(), flush=True)

class Items(torch.utils.data.Dataset):
    __len__ = lambda self: 4
    __getitem__ = lambda self, index: threads()

for batch in torch.utils.data.DataLoader(Items(), 2, num_workers=2, multiprocessing_context="fork"):
    print(*batch.tolist(), flush=True)
if not os.fork():
    print(threads(), flush=True)  # a fork that PyTorch does not know of
    os._exit(0)
os.wait()
print(threads(), flush=True)
"""


@wants_native
def test_threads_and_forks() -> None:
    """A forked process would wait for ever for the threads of its parent."""
    process = start(FORK)
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert out.split() == ["2", "1", "1", "1", "1", "1", "2"]


@wants_native
def test_as_many_threads_as_are_asked_for() -> None:
    assert LOADED is not None
    threads = LOADED.function("native_threads", ctypes.c_int32, returns=ctypes.c_int32)
    assert [threads(n) for n in (-1, 0, 1, 2, 3)] == [1, 1, 1, 2, 3]


def test_a_warning_of_a_program_is_one_line(monkeypatch, capsys) -> None:
    from utils.command.process import _quiet_libraries

    monkeypatch.setattr(warnings, "filters", list(warnings.filters))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    _quiet_libraries()
    assert warnings.formatwarning("plain\x1b[31m", RuntimeWarning, __file__, 1) == "warning: plain\\x1b[31m\n"
