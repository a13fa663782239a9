"""Every command of the documentation is understood by the program that it calls."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks, lines_of, name_of, pages, spans
from tools.documenting.programs import FORMER_NAMES, parser_of, programs
from tools.documenting.programs import commands as subcommands
from utils.config.loading import load_config
from utils.errors import UserError

PROGRAMS = set(programs())
FOREIGN = {"pytest", "nuscenes"}
"""Modules of others that pages call with `python -m`."""
RUNNER = "run_onnx.py"
"""Lies beside an exported model, wherever that is; its flags are those of the file that is copied there."""


def commands(text: str) -> list[str]:
    """The shell lines of a page that start a program of ours, or a module."""
    shell = [line for block in blocks(text) if block.language != "python" for line in lines_of(block.text)]
    inline = [span for span in spans(text) if re.match(r"(\S*python|torchrun|srun) |docker run .*\.py\b", span)]
    return [
        line
        for line in (*shell, *inline)
        if re.search(r"\b(python|torchrun)\b|docker run .*\.py\b", line) and "<!--" not in line
    ]


def commands_of(line: str) -> list[list[str]]:
    """The words of each command of a line."""
    found: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word in ("&&", "||", "|", ";", "&"):
            found.append([])
        else:
            found[-1].append(word)
    return found


def check(line: str) -> set[str]:
    """Parse the commands of a line; return what they call.

    Raises:
        ValueError: one calls no program or module that there is.
        SystemExit: a program refuses one.
    """
    return {called for words in commands_of(line) if (called := called_by(words))}


def called_by(words: Sequence[str]) -> str:
    """The program or module that a command calls, "" for none; its flags and its config are looked at."""
    starts = words[:2] == ["docker", "run"] or any(re.search(r"python$|torchrun$", word) for word in words)
    if not starts or "-c" in words:
        return ""
    program = next((word for word in words if word in PROGRAMS), None)
    if runner := next((word for word in words if word.endswith("/" + RUNNER)), None):
        source = (ROOT / "network" / "export" / "runner" / RUNNER).read_text(encoding="utf-8")
        if unknown := [word for word in words if word.startswith("--") and f'"{word}"' not in source]:
            raise ValueError(f"{runner} has no flag {unknown[0]}")
        return RUNNER
    if program is None:
        if "-m" not in words:
            raise ValueError(f"no program: {words}")
        module = words[words.index("-m") + 1]
        path = ROOT / (module.replace(".", "/") + ".py")
        if module.partition(".")[0] not in FOREIGN and not path.is_file():
            raise ValueError(f"no module: {words}")
        return module
    arguments = words[words.index(program) + 1 :]
    flags_of_it = {flag for _, parser in subcommands(program) for flag in parser._option_string_actions}
    if short := [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in flags_of_it]:
        raise ValueError(f"{program} has no flag {short[0]}, or it is not written out")
    try:
        flags = parser_of(program).parse_args(arguments)
    except SystemExit as end:
        if end.code:
            raise
        return program  # --help
    config = getattr(flags, "config", None)
    if config and not str(config).startswith("checkpoint/"):
        load_config(ROOT / config, getattr(flags, "set", None) or [])
    return program


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_are_understood(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        check(command)


def test_every_program_is_called_somewhere() -> None:
    lines = (line for page in pages() for line in commands(page.read_text(encoding="utf-8")))
    called = set().union(*map(check, lines))
    assert called >= PROGRAMS - {"tools/demo_summary.py", *FORMER_NAMES}  # the end of `make demo`


@pytest.mark.parametrize(
    "text",
    [
        "```\npython main.py --no_such_flag\n```",
        "```\npython main.py --config config/2DPASS-demo.yaml \\\n    --num_vote none\n```",
        "```\npython main.py --config config/2DPASS-demo.yaml --set train_params.max_num_epoch=1\n```",
        "```\npython main.py --config config/no-such.yaml\n```",
        "Run `python robust_test.py --family none`.",
        "```\ntorchrun --nnodes 2 main.py --gpus 0\n```",
        "```\nsrun python main.py --num_node 2\n```",
        "```\npython model/run_onnx.py scan.bin --no_such_flag\n```",
        "```\ndocker run --rm 2dpass main.py --no_such_flag\n```",
        "```\nsource x && python tools/no_such_tool.py\n```",
        "```\npython -m tests.no_such_module\n```",
    ],
)
def test_a_wrong_command_is_found(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError, UserError)):
        for command in commands(text):
            check(command)
    capsys.readouterr()
