"""Signals and lost processes end a command soon, with a line and a code, whatever its main thread does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import is_alive, start, until

COMMAND = """
import ctypes, os, signal, subprocess, sys, time
from utils.command import stopping, watching
from utils.command.process import run_command
from utils.command.start import begin
watching.GRACE = 0.3
begin()
def command():
    print("runs", flush=True)
    {body}
sys.exit(run_command(command, "go on so"))
"""
SLEEP = "time.sleep(60)"
# A mutex of C that is locked twice: no signal ends the wait, as of processes that wait for each other.
STUCK = "m = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(m) for _ in range(2)]"
SWALLOWS = "\n    ".join(["try: time.sleep(60)", "except BaseException: time.sleep(60)"])

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


def running(body: str, before: str = ""):
    process = start(before + COMMAND.format(body=body))
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("body", [SLEEP, STUCK, SWALLOWS], ids=["sleeps", "stuck", "swallows"])
def test_a_signal_ends_a_command(number, body) -> None:
    # What starts the tests may ignore some of them, and children inherit that.
    process = running(body, f"import signal; signal.signal({int(number)}, signal.default_int_handler)\n")
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert errors.strip() == "interrupted; go on so"


def test_before_and_after_the_command_a_signal_ends_the_process_at_once() -> None:
    for place in ("begin()", "run_command(lambda: None)"):
        imports = "import time\nfrom utils.command.start import begin\nfrom utils.command.process import run_command\n"
        process = start(f"{imports}begin()\n{place}\nprint('there', flush=True)\ntime.sleep(60)")
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors.strip()) == (143, "interrupted")


def test_what_the_starter_ignores_stays_ignored() -> None:
    body = "[os.kill(os.getpid(), n) for n in (signal.SIGINT, signal.SIGHUP)]"
    before = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGHUP)]\n"
    process = running(body, before)
    assert process.communicate(timeout=20)[1] == "" and process.returncode == 0


PARENT = """
    with stopping.launching():
        children = [subprocess.Popen([sys.executable, "-c", text]) for text in sys.argv[1:]]
    stopping.watch(children)
    print(*(child.pid for child in children), flush=True)
    WAIT"""
CHILD = COMMAND.format(body=SLEEP)


def family(*children: str, wait: str = STUCK):
    process = start(COMMAND.format(body=PARENT.replace("WAIT", wait)), *children)
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    # Each child may say that it runs before its parent names it.
    lines = (process.stdout.readline() for _ in range(10))
    pids = next(line for line in lines if line != "runs\n")
    return process, [int(pid) for pid in pids.split()]


@needs_proc
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, 2, "error: process 1 of this run was ended by SIGKILL (the system does so where memory runs"),
        (signal.SIGTERM, 143, "interrupted, as process 1 of this run was; go on so"),
    ],
)
def test_one_process_of_a_run_that_is_ended_ends_all(number, code, said) -> None:
    process, pids = family(CHILD, CHILD)
    os.kill(pids[0], number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors.strip().startswith(said), errors
    assert until(lambda: not any(map(is_alive, pids)))


@needs_proc
def test_a_process_whose_command_fails_ends_the_others() -> None:
    process, pids = family("raise SystemExit(2)", CHILD)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.strip() == "error: another process of this run ended; its message says why"
    assert until(lambda: not any(map(is_alive, pids)))


@needs_proc
@pytest.mark.parametrize("wait", ["raise SystemError('a fault')", "raise UserError('the end')"])
def test_a_command_that_fails_ends_the_processes_that_it_has_started(wait) -> None:
    process, pids = family(CHILD, CHILD, wait=f"from utils.errors import UserError; {wait}")
    _, errors = process.communicate(timeout=20)
    assert process.returncode in (1, 2) and "interrupted" not in errors
    assert until(lambda: not any(map(is_alive, pids)))


def ignores_sigterm(pid: int) -> bool:
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


@needs_proc
def test_a_process_that_does_not_end_is_ended_without_another_line() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    process, pids = family(deaf, wait=SLEEP)
    assert until(lambda: ignores_sigterm(pids[0]))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (143, "interrupted; go on so\n")
    assert until(lambda: not is_alive(pids[0]))


@needs_proc
def test_processes_end_with_the_one_that_started_them() -> None:
    process, pids = family(CHILD, COMMAND.format(body=STUCK))
    process.kill()
    assert until(lambda: not any(map(is_alive, pids)))
    process.communicate(timeout=20)


def test_a_forked_worker_takes_no_part() -> None:
    """It gets Ctrl-C when its parent does, and must not tell it of signals of its own."""
    body = """
    import warnings; warnings.simplefilter("ignore")  # Python 3.12 and later do not like forks beside threads
    worker = os.fork() or time.sleep(60)
    time.sleep(0.3)
    os.kill(worker, signal.SIGINT)
    os.kill(worker, signal.SIGTERM)
    assert os.waitpid(worker, 0)[1] == signal.SIGTERM"""
    process = running(body)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_the_interpreter_has_no_say() -> None:
    """A thread that does not end keeps the interpreter from ending: not after a failure."""
    body = "import threading; threading.Thread(target=time.sleep, args=(60,)).start(); raise MemoryError"
    process = running(body)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2 and errors.startswith("error: the memory of this machine is used up")


def test_an_echo_of_a_request_to_save_is_no_second_one() -> None:
    """`timeout` and schedulers send a signal to a process and to its group."""
    body = """
    watching.ECHO = 1.0; stopping.saving_first(True)
    for wait in (0.1, 0.1, 1.2, 60):
        os.kill(os.getpid(), signal.SIGUSR1); time.sleep(wait)
        print(stopping.requested() == signal.SIGUSR1, flush=True)"""
    output, errors = (process := running(body)).communicate(timeout=20)
    assert (process.returncode, output, errors.strip()) == (138, "True\n" * 3, "interrupted; go on so")
