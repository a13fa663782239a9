from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError, one_line, run_command

ROOT = Path(__file__).parents[2]


def ending(error: BaseException):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.yaml: wrong"), 2, "error: a.yaml: wrong"),
        (UserError("Caught in worker 0.\n  File x\nutils.errors.UserError: b.bin: wrong"), 2, "error: b.bin: wrong"),
        (OSError(28, "No space left on device", "out.png"), 2, "error: out.png: No space left on device"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error, code, line, capsys):
    assert run_command(ending(error)) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line + "\n")


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(lambda: (tmp_path / "file" / "below").mkdir()) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'file' / 'below'}: Not a directory\n"


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError("no file is to blame"), SystemExit(3)])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_command(ending(error))


def test_success_is_0(capsys):
    assert run_command(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_the_message_alone():
    assert one_line(UserError("plain")) == "plain"


def test_needs_no_torch():
    program = "import sys, utils.errors; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
