"""What a program meets at its start: odd variables of launchers, and streams that cannot be printed to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import start
from utils.command.start import odd_variable
from utils.native_switch import SWITCH
from utils.text import printable


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc'"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK is ''"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "9" * 5000}, "RANK is "),
        ({"SLURM_NTASKS": "\u0663"}, "SLURM_NTASKS is "),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT is 65536, no port"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, of WORLD_SIZE 2"),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_PORT": "29500"}, None),
        ({"TWODPASS_NATIVE": "required"}, None),
        ({"TWODPASS_NATIVE": ""}, None),
        ({"TWODPASS_NATIVE": "Off"}, "TWODPASS_NATIVE is 'Off'; it is auto, off, required, avx2"),
        ({}, None),
    ],
)
def test_variables_of_launchers(variables, named, monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "SLURM_NTASKS", "SLURM_PROCID", SWITCH):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    problem = odd_variable()
    assert problem is None if named is None else named in str(problem)


PROGRAM = """
import os, sys
from utils.command.start import begin
begin()
from utils.command.process import run_command
from utils.errors import UserError
from utils.command.terminal import say
def command():
    {}
sys.exit(run_command(command))
"""


def ends(body: str, shell: str, **environment: str) -> tuple[int, str, str]:
    """Run a program by the shell, which has it as "$@"; exit code, stdout and stderr."""
    script = 'import os, sys; os.execvp("bash", ["bash", "-c", sys.argv[1], "bash", sys.executable, "-c", sys.argv[2]])'
    process = start("import os; os.environ.update(" + repr(environment) + ")\n" + script, shell, PROGRAM.format(body))
    out, errors = process.communicate(timeout=20)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    ("body", "shell", "code", "said"),
    [
        ("say('x' * 100000)", '"$@" | true; exit ${PIPESTATUS[0]}', 141, "stopped: nobody reads the output any more"),
        ("say('x' * 100000)", '"$@" 2>&1 | true; exit ${PIPESTATUS[0]}', 141, ""),
        ("say('one')", '"$@" >/dev/full', 2, "error: standard output: No space left on device; make room there"),
        ("say('one'); file = open(os.devnull); assert file.fileno() > 2", '"$@" >&- 2>&- <&-', 0, ""),
        ("raise UserError('\\x1b[31m\\n\\udcff')", '"$@"', 2, "error: \\x1b[31m\\n\\udcff"),
    ],
)
def test_streams(body, shell, code, said) -> None:
    if "/dev/full" in shell and not Path("/dev/full").is_char_device():
        pytest.skip("/dev/full is no device here")
    found, _, errors = ends(body, shell)
    assert (found, errors.strip()) == (code, said)


def test_a_terminal_that_knows_ascii_only() -> None:
    code, out, _ = ends("say('caf\\xe9 \\x1b[31m')", '"$@"', PYTHONIOENCODING="ascii")
    assert (code, out) == (0, "caf\\xe9 \\x1b[31m\n")


def test_printable() -> None:
    assert printable("plain, größer, 点") == "plain, größer, 点"
    assert printable("\x1b[2J\r\n\x7f\u202e\udc80") == r"\x1b[2J\r\n\x7f\u202e\udc80"


@pytest.mark.parametrize(("given", "expected"), [(None, "10000"), ("5", "5")])
def test_waiting_threads_give_way_unless_the_environment_says_otherwise(given, expected, monkeypatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    code, out, _ = ends(
        "say(os.environ['GOMP_SPINCOUNT'])", '"$@"', **({} if given is None else {"GOMP_SPINCOUNT": given})
    )
    assert (code, out) == (0, expected + "\n")
