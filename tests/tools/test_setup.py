"""tools/setup.sh with stand-ins for the Pythons of a machine; its real installation is part of every `make test`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# It looks like Python 3.x to what asks for its version, and "makes" environments whose pip notes that it was called.
STAND_IN = r"""#!/bin/sh
case "$1 $2" in
  "-c "*) exec {python} -c \
    "import sys; sys.version_info = ({version}); sys.modules.update({hidden}); exec(sys.argv[1])" "$2" ;;
  "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip") echo "$6" >> calls; exit {pip} ;;
  *) echo "Python {version}" ;;
esac
"""


class Machine:
    """A checkout, and a PATH with only the programs that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "checkout", folder / "bin"
        (self.folder / "tools").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "tools" / "setup.sh", self.folder / "tools")
        (self.folder / "requirements.txt").write_text("")
        for tool in ("bash", "sh", "dirname", "cat", "cp", "mkdir", "rm", "touch"):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def python(self, name: str, version: str, without_venv: bool = False, pip: int = 0) -> Path:
        hidden = "ensurepip=None" if without_venv else ""
        text = STAND_IN.format(python=sys.executable, version=version.replace(".", ","), hidden=hidden, pip=pip)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)
        return self.bin / name

    def setup(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [shutil.which("bash") or "bash", "tools/setup.sh", *words]
        environment = {"PATH": str(self.bin), **environment}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60)

    @property
    def installed(self) -> list[str]:
        """The files of requirements that pip was called with."""
        calls = self.folder / "calls"
        return calls.read_text().split() if calls.exists() else []

    @property
    def installations(self) -> int:
        return len(self.installed)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("version", ["3.10.0", "3.13.5", "3.14.8"])
def test_it_takes_the_machines_python_and_then_does_nothing(machine, version):
    machine.python("python3", version)
    first, second = machine.setup(), machine.setup()
    assert first.returncode == second.returncode == 0 and "setting up .venv with Python" in first.stdout
    assert second.stdout == second.stderr == "" and machine.installations == 1


def test_it_finds_another_python_beside_one_that_does_not_fit(machine):
    machine.python("python3", "3.9.2")
    machine.python("python3.14", "3.14.0", without_venv=True)
    machine.python("python3.11", "3.11.7")
    assert "with Python 3,11,7" in machine.setup().stdout


@pytest.mark.parametrize(
    ("pythons", "word"),
    [
        ([], "python3 is not there (on Debian and Ubuntu: sudo apt install python3-venv)"),
        ([("python3", "3.9.2", False)], "python3 is Python 3.9, not 3.10 to 3.14"),
        ([("python3", "3.15.0", False)], "python3 is Python 3.15, not 3.10 to 3.14"),
        (
            [("python3", "3.13.5", True)],
            "lacks the venv module (on Debian and Ubuntu: sudo apt install python3.13-",
        ),
        ([("python3", "2.7.18", False), ("python3.12", "3.12.1", True)], "sudo apt install python3.12-venv"),
    ],
)
def test_no_python_that_fits_is_one_clear_line(machine, pythons, word):
    for name, version, without_venv in pythons:
        machine.python(name, version, without_venv)
    done = machine.setup()
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: no Python 3.10 to 3.14")
    assert done.stderr.count("\n") == 1 and word in done.stderr and not (machine.folder / ".venv").exists()


def test_the_python_that_is_named_is_taken_or_refused(machine):
    machine.python("python3", "3.11.7")
    assert "with Python 3,12,1" in machine.setup(PYTHON3=str(machine.python("mine", "3.12.1"))).stdout
    shutil.rmtree(machine.folder / ".venv")
    done = machine.setup(PYTHON3=str(machine.python("mine", "3.8.0")))
    assert done.returncode == 2 and "mine is Python 3.8" in done.stderr
    assert "/nowhere/python3 is not there" in machine.setup(PYTHON3="/nowhere/python3").stderr


def test_a_set_up_that_was_stopped_begins_anew(machine):
    machine.python("python3", "3.11.7", pip=1)
    done = machine.setup()
    assert done.returncode == 2 and done.stderr == (
        "error: pip could not install requirements.txt into .venv and says why above; correct it and run make again\n"
    )
    (machine.folder / ".venv" / "half").mkdir()
    machine.python("python3", "3.11.7")
    assert machine.setup().returncode == 0 and not (machine.folder / ".venv" / "half").exists()


def test_a_python_that_is_gone_is_replaced(machine):
    machine.python("python3", "3.11.7")
    machine.setup()
    (machine.folder / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 127\n")
    assert machine.setup().returncode == 0 and machine.installations == 2 and machine.setup().stdout == ""


def test_other_requirements_are_added_to_what_is_there(machine):
    machine.python("python3", "3.11.7")
    machine.setup()
    (machine.folder / ".venv" / "kept").mkdir()
    for place in (".venv/installed", "tools/setup.sh"):
        os.utime(machine.folder / place, (1, 1))
    assert machine.setup().returncode == 0 and machine.installations == 2
    assert (machine.folder / ".venv" / "kept").exists()


FOR_TESTS = "requirements-test.txt"


@pytest.fixture
def tested(machine) -> Machine:
    """A machine that is set up for tests."""
    for name in ("test", "export", "trackers"):
        (machine.folder / f"requirements-{name}.txt").write_text("")
    machine.python("python3", "3.11.7")
    assert machine.setup("test").returncode == 0 and machine.installed == ["requirements.txt", FOR_TESTS]
    return machine


def test_what_tests_need_is_installed_once(tested):
    for words in (("test",), (), ("test",)):
        done = tested.setup(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert tested.installations == 2


@pytest.mark.parametrize("name", ["requirements-test.txt", "requirements-export.txt", "requirements-trackers.txt"])
def test_newer_requirements_of_tests_are_installed_by_tests_alone(tested, name):
    os.utime(tested.folder / ".venv" / "installed_for_tests", (1, 1))
    for file in tested.folder.glob("requirements*.txt"):
        os.utime(file, (0, 0))
    os.utime(tested.folder / "tools" / "setup.sh", (0, 0))
    (tested.folder / name).touch()
    assert tested.setup().returncode == 0 and tested.installations == 2
    assert tested.setup("test").returncode == 0 and tested.installed[2:] == [FOR_TESTS]
    assert tested.setup("test").returncode == 0 and tested.installations == 3


def test_other_requirements_of_the_programs_are_installed_for_tests_as_well(tested):
    """They may change the version of a package that the tests need."""
    for stamp in ("installed", "installed_for_tests"):
        os.utime(tested.folder / ".venv" / stamp, (1, 1))
    assert tested.setup("test").returncode == 0 and tested.installed[2:] == ["requirements.txt", FOR_TESTS]


def test_packages_of_tests_that_pip_cannot_install_are_one_line_each_time(tested):
    (tested.folder / ".venv" / "installed_for_tests").unlink()
    working = (tested.folder / ".venv" / "bin" / "python").read_text()
    tested.python("python3", "3.11.7", pip=1)
    shutil.copy(tested.bin / "python3", tested.folder / ".venv" / "bin" / "python")
    for _ in range(2):
        done = tested.setup("test")
        assert done.returncode == 2 and done.stderr == (
            "error: pip could not install requirements-test.txt into .venv and says why above; correct it and run "
            "make again\n"
        )
    assert tested.setup().returncode == 0  # the programs go on
    (tested.folder / ".venv" / "bin" / "python").write_text(working)
    assert tested.setup("test").returncode == 0 and (tested.folder / ".venv" / "installed_for_tests").exists()
