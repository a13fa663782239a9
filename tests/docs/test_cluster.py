"""Scripts on pages are what their shells and launchers understand; the Dockerfiles are sound."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks, lines_of, name_of, pages

SBATCH = frozenset(
    [
        "account",
        "array",
        "begin",
        "chdir",
        "comment",
        "constraint",
        "cpus-per-gpu",
        "cpus-per-task",
        "dependency",
        "error",
        "exclude",
        "exclusive",
        "gpus",
        "gpus-per-node",
        "gpus-per-task",
        "gres",
        "hint",
        "input",
        "job-name",
        "licenses",
        "mail-type",
        "mail-user",
        "mem",
        "mem-per-cpu",
        "mem-per-gpu",
        "nodelist",
        "nodes",
        "no-requeue",
        "ntasks",
        "ntasks-per-gpu",
        "ntasks-per-node",
        "open-mode",
        "output",
        "partition",
        "qos",
        "requeue",
        "reservation",
        "signal",
        "time",
        "time-min",
        "wait",
    ]
)
"""Options of sbatch, from its manual."""
SRUN = {"kill-on-bad-exit", "ntasks", "ntasks-per-node", "nodes", "cpu-bind", "gpu-bind", "label", "output"}
SCRIPTS = [
    (page, block.text)
    for page in pages()
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.text.startswith("#!/bin/bash\n")
]


def faults(script: str) -> list[str]:
    """What bash, sbatch, srun and torchrun would not understand of a script."""
    plain = re.sub(r"<[\w-]+>", "name", script)
    checked = subprocess.run(["bash", "-n"], input=plain, capture_output=True, text=True)
    found = [checked.stderr] if checked.returncode else []
    found += [f"sbatch: {n}" for n in re.findall(r"^#SBATCH +(?:--)?([\w-]*)", script, re.M) if n not in SBATCH]
    for line in lines_of(plain):
        words = shlex.split(line, comments=True)
        if words[:1] == ["srun"]:
            program = next(i for i, word in enumerate(words) if i and not word.startswith("--"))
            found += [f"srun: {w}" for w in words[1:program] if w[2:].partition("=")[0] not in SRUN]
            words = words[program:]
        if words[:1] == ["torchrun"]:
            found += _refused_by_torchrun(words[1:])
    return found


def _refused_by_torchrun(words: list[str]) -> list[str]:
    from torch.distributed.run import get_args_parser

    numbers = [re.sub(r"^\$1$", "0", word) for word in words]
    try:
        flags = get_args_parser().parse_args(numbers)
    except SystemExit:
        return [f"torchrun: {' '.join(words)}"]
    return [] if flags.training_script == "main.py" else [f"torchrun: starts {flags.training_script}"]


@pytest.mark.parametrize(("page", "script"), SCRIPTS, ids=[f"{name_of(page)}" for page, _ in SCRIPTS])
def test_scripts_are_understood(page: Path, script: str) -> None:
    assert not faults(script)
    assert "#SBATCH" not in script or {"--requeue", "--signal=USR1@120"} <= set(script.split())


@pytest.mark.parametrize(
    "wrong",
    ["if true; then", "#SBATCH --node=2", "#SBATCH -N 2", "srun --kill python main.py", "torchrun --nodes 2 main.py",
     "torchrun --nnodes 2 --no_such main.py", "torchrun --nnodes 2 other.py"],
)  # fmt: skip
def test_a_wrong_script_is_found(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SCRIPTS) >= 3 and faults(f"#!/bin/bash\n{wrong}\n")
    capsys.readouterr()


DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=name_of)
def test_dockerfiles_copy_what_is_there_and_end_as_an_ordinary_user(file: Path) -> None:
    text = file.read_text()
    lines = [line.split() for line in lines_of(text) if line and not line.startswith("#")]
    copied = [name for line in lines if line[0] == "COPY" for name in line[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    programs = {path.name for path in ROOT.glob("*.py")}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert programs | rooms | {"config", "checkpoint", "requirements.txt"} <= set(copied)
    users = [line[1] for line in lines if line[0] == "USER"]
    assert users[-1:] == ["${UID}"] and "ARG UID=1000" in text
    assert "pip install --requirement /tmp/requirements.txt" in text
    kept = (ROOT / "requirements.txt").read_text().partition("\n# Checks run by")[0]  # what follows is not installed
    assert "sed -i '/^# Checks run by/,$d' /tmp/requirements.txt" in text
    assert "\ntorch==" in kept and "\nfsspec==" in kept and "pytest" not in kept and "nuscenes-devkit==" not in kept
    assert copied[0] == "requirements.txt" and text.index("pip install --requirement") < text.index("COPY main.py")
    assert all(
        "latest" not in line[1] and ":" in line[1] for line in lines if line[:1] == ["ARG"] and "BASE=" in line[1]
    )
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{name}" for name in copied} <= set(ignored) and "*" in ignored


def test_the_dockerfiles_pass_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.is_file():
        pytest.skip("hadolint is not installed: pip install -r requirements-test.txt")
    done = subprocess.run([program, *DOCKERFILES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
