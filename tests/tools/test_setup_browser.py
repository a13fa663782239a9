"""tools/setup_browser.sh with stand-ins for the programs of a machine; its real installation is part of .ci/run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import browser

ROOT = Path(__file__).resolve().parents[2]

APT = """#!/bin/sh
echo "apt-get $1" >> "$CALLS"
[ "$(grep -c update "$CALLS")" -gt "${REFUSALS:-0}" ] || exit 100
case "$*" in *install*) [ -z "$BROKEN" ] || exit 100; ln -s "$(command -v sh)" "$BIN/chromium" ;; esac
"""


class Machine:
    """A checkout whose .venv is there, and a PATH with only the programs that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.calls = folder / "checkout", folder / "bin", folder / "calls"
        (self.folder / "tools").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "tools" / "setup_browser.sh", self.folder / "tools")
        self.write(self.folder / "tools" / "setup.sh", "echo setup >> $CALLS")
        self.write(self.folder / ".venv" / "bin" / "python", 'echo "$@" >> $CALLS; exit ${PIP:-0}')
        for tool in ("bash", "sh", "dirname", "env", "grep", "ln", "sleep"):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.put("id", "echo ${USER_ID:-0}")

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def put(self, name: str, text: str = "exit 0") -> Path:
        return self.write(self.bin / name, text)

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(self.bin), "BIN": str(self.bin), "CALLS": str(self.calls), "PAUSE": "0", **environment}
        command = [str(self.bin / "bash"), "tools/setup_browser.sh"]
        return subprocess.run(command, cwd=self.folder, env=given, capture_output=True, text=True, timeout=60)

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("program", browser.PROGRAMS)
def test_a_chromium_that_is_there_is_taken(machine, program, monkeypatch):
    machine.put(program)
    machine.put("apt-get", APT)
    done = machine.setup()
    assert done.returncode == 0 and done.stdout == done.stderr == "" and len(machine.called) == 2
    assert machine.called[0] == "setup" and machine.called[1].endswith("-r requirements-browser.txt")
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert browser.chromium() == str(machine.bin / program)


def test_one_that_is_missing_is_installed(machine):
    machine.put("apt-get", APT)
    assert machine.setup().returncode == 0 and machine.called[2:] == ["apt-get update", "apt-get install"]
    assert machine.setup().returncode == 0 and len(machine.called) == 6, "the second time it is there"


def test_it_tries_again_and_asks_sudo(machine):
    machine.put("apt-get", APT)
    machine.put("sudo", 'echo sudo >> $CALLS; "$@"')
    done = machine.setup(USER_ID="1000", REFUSALS="2")
    assert done.returncode == 0 and [call for call in machine.called if call != "sudo"][2:] == [
        "apt-get update", "apt-get update", "apt-get update", "apt-get install",
    ]  # fmt: skip
    assert machine.called.count("sudo") == 4


@pytest.mark.parametrize(
    ("environment", "apt", "word"),
    [
        ({"CHROMIUM": "/nowhere/chromium"}, True, "CHROMIUM=/nowhere/chromium is no program"),
        ({}, False, "no apt-get to install it with: install Chromium or Google Chrome, or name one with CHROMIUM="),
        ({"USER_ID": "1000"}, True, "only root can install it: install Chromium"),
        ({"BROKEN": "yes"}, True, "apt-get could not install chromium and says why above: install Chromium"),
        ({"PIP": "1"}, True, "pip could not install requirements-browser.txt"),
    ],
)
def test_what_cannot_be_set_up_is_one_clear_line(machine, environment, apt, word):
    if apt:
        machine.put("apt-get", APT)
    done = machine.setup(**environment)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert word in done.stderr


@pytest.mark.parametrize("required", [True, False])
def test_without_a_browser_a_test_fails_where_one_is_required_and_else_says_what_is_missing(monkeypatch, required):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("TWODPASS_BROWSER", "required" if required else "")
    with pytest.raises(pytest.fail.Exception if required else pytest.skip.Exception, match="there is no Chromium"):
        browser.need_browser()
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    assert browser.missing() == "CHROMIUM=/nowhere/chromium is no program"
