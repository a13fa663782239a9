from __future__ import annotations

import os

import pytest

from tools.benchmarking.child import OUT_OF_MEMORY, run_job

SERVING = """
import os, sys
from tools.benchmarking.child import serve
from utils.errors import UserError

def large(job):
    print("noise on stdout")
    raise MemoryError

def refused():
    raise UserError("no such backend; choose another")

def measurements(job):
    return {
        "first": lambda: {"sum": job["a"] + job["b"]},
        "large": lambda: large(job),
        "second": lambda: {"number": 1.5},
        "refused": refused,
        "never": lambda: {},
    }

sys.exit(serve(measurements))
"""


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Runs a program as a child."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(program, limit=None):
        (tmp_path / "a_program.py").write_text(program)
        return run_job("a_program", {"a": 1, "b": 2}, limit)

    return run


def test_a_child_answers_what_it_can(answer):
    found = answer(SERVING)
    assert found.values == {"first": {"sum": 3}, "second": {"number": 1.5}}
    assert found.failures == {"large": OUT_OF_MEMORY, "refused": "no such backend; choose another"}


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", f"killed: {OUT_OF_MEMORY}, as a rule"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        (
            "import os, sys; print('terminate called: std::bad_alloc', file=sys.stderr, flush=True); os.abort()",
            OUT_OF_MEMORY,
        ),
        ("raise MemoryError('Unable to allocate 3 GiB')", OUT_OF_MEMORY),
        ("import sys; print('error: --set: no such key', file=sys.stderr); sys.exit(2)", "--set: no such key"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "ended with code 3"),
    ],
)
def test_how_a_child_ended_is_one_line(answer, program, failure):
    found = answer(program)
    assert (found.values, found.failures) == ({}, {"": failure})


def test_a_child_that_takes_too_long_is_ended(answer):
    """The answers until then count; an unfinished line does not."""
    said = '["a", {"seconds": 1}, null]\n["b", {"sec'
    found = answer(f"import time; print({said!r}, end='', flush=True); time.sleep(600)", limit=2)
    assert found.values == {"a": {"seconds": 1}}
    assert found.failures == {"": "not finished after 2 s (--limit)"}


def test_a_child_knows_whom_it_ends_with(answer):
    found = answer("import json, os; print(json.dumps(['a', {'parent': os.environ['TWODPASS_LAUNCHER']}, None]))")
    assert found.values["a"] == {"parent": str(os.getpid())}


def test_what_came_before_the_end_counts(answer):
    found = answer('print(\'["a", {"seconds": 1}, null]\', flush=True)\nimport os; os.kill(os.getpid(), 9)')
    assert found.values == {"a": {"seconds": 1}}
    assert "killed" in found.failures[""]
