"""Every command of the documentation is understood by the program that it calls."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks, lines_of, name_of, pages, spans
from tools.documenting.programs import parser_of, programs
from utils.config.loading import load_config

PROGRAMS = set(programs())
FOREIGN = {"pytest", "nuscenes"}
"""Modules of others that pages call with `python -m`."""


def commands(text: str) -> list[str]:
    """The shell lines of a page that start a program of ours, or a module."""
    shell = [line for block in blocks(text) if block.language != "python" for line in lines_of(block.text)]
    inline = [span for span in spans(text) if re.match(r"(\S*python|torchrun|srun) ", span)]
    return [line for line in (*shell, *inline) if re.search(r"\b(python|torchrun)\b", line) and "<!--" not in line]


def words_of(command: str) -> list[str]:
    """The words of the first command of a line."""
    words = shlex.split(command, comments=True)
    ends = [number for number, word in enumerate(words) if word in ("&&", "||", "|", ";", "&")]
    return words[: ends[0]] if ends else words


def check(command: str) -> str:
    """Parse a command; return what it calls, or "" for a line that calls nothing.

    Raises:
        ValueError: it calls no program or module that there is.
        SystemExit: its program refuses it.
    """
    words = words_of(command)
    if not any(re.search(r"python$|torchrun$", word) for word in words) or "-c" in words:
        return ""
    program = next((word for word in words if word in PROGRAMS), None)
    if program is None:
        if "-m" not in words:
            raise ValueError(f"no program: {command}")
        module = words[words.index("-m") + 1]
        path = ROOT / (module.replace(".", "/") + ".py")
        if module.partition(".")[0] not in FOREIGN and not path.is_file():
            raise ValueError(f"no module: {command}")
        return module
    arguments = words[words.index(program) + 1 :]
    try:
        flags = parser_of(program).parse_args(arguments)
    except SystemExit as end:
        if end.code:
            raise
        return program
    config = getattr(flags, "config", None)
    if config and not str(config).startswith("checkpoint/"):
        load_config(ROOT / config, getattr(flags, "set", []))
    return program


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_are_understood(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        check(command)


def test_every_program_is_called_somewhere() -> None:
    called = {check(command) for page in pages() for command in commands(page.read_text(encoding="utf-8"))}
    assert called >= PROGRAMS - {"tools/demo_summary.py", "tools/visualize.py"}  # of `make demo`; a former name


@pytest.mark.parametrize(
    "text",
    [
        "```\npython main.py --no_such_flag\n```",
        "```\npython main.py --config config/2DPASS-demo.yaml \\\n    --num_vote none\n```",
        "```\npython main.py --config config/2DPASS-demo.yaml --set train_params.max_num_epoch=1\n```",
        "```\npython main.py --config config/no-such.yaml\n```",
        "Run `python robust_test.py --family none`.",
        "```\ntorchrun --nnodes 2 main.py --gpus 0\n```",
        "```\nsource x && python tools/no_such_tool.py\n```",
        "```\npython -m tests.no_such_module\n```",
    ],
)
def test_a_wrong_command_is_found(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError, Exception)):
        for command in commands(text):
            check(command)
    capsys.readouterr()
