from __future__ import annotations

import errno
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from torch._utils import ExceptionWrapper

from utils.command.process import run_command
from utils.errors import UserError, one_line

ROOT = Path(__file__).parents[2]


def ending(error: BaseException):
    def command():
        raise error

    return command


def from_a_loader(error: BaseException) -> BaseException:
    """Returns an error as it arrives from a loader process: of the same class, but with its text alone."""
    try:
        raise error
    except BaseException:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    try:
        wrapped.reraise()
    except BaseException as arrived:
        return arrived
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.yaml: wrong"), 2, "error: a.yaml: wrong"),
        (UserError("Caught in worker 0.\n  File x\nutils.errors.UserError: b.bin: wrong"), 2, "error: b.bin: wrong"),
        (
            OSError(28, "No space left on device", "out.png"),
            2,
            "error: out.png: No space left on device; make room",
        ),
        (OSError(28, "No space left on device"), 2, "error: No space left on device; make room there"),
        (
            FileNotFoundError(2, "No such file or directory", b"a\x1b\xff"),
            2,
            r"error: a\x1b\udcff: No such file",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            2,
            "error: Disk quota exceeded; make room there, or",
        ),
        (
            from_a_loader(OSError(24, "Too many open files")),
            2,
            "error: Too many open files; raise the limit",
        ),
        (from_a_loader(OSError(5, "Input/output error", "a.bin")), 2, "error: a.bin: Input/output error; the disk or"),
        (from_a_loader(UserError("a\nb.bin: wrong")), 2, r"error: a\nb.bin: wrong"),
        (BrokenProcessPool("A process in the pool ended"), 2, "error: a worker process was ended from outside (as the"),
        (MemoryError(), 2, "error: the memory of this machine is used up; end other programs, or lower --workers"),
        (UserError("\x1b]0;title\x07\r"), 2, r"error: \x1b]0;title\x07\r"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error, code, line, capsys):
    assert run_command(ending(error)) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(line) and printed.err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(lambda: (tmp_path / "file" / "below").mkdir()) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file' / 'below'}: Not a directory; ")


@pytest.mark.parametrize(
    "error", [ValueError("a fault"), OSError("no file is to blame"), OSError(22, "Invalid argument"), SystemExit(3)]
)
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
