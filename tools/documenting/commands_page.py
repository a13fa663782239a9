"""The page docs/reference/commands.md: every flag of every program, and the exit codes."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from tools.documenting.markdown import code, page, table
from tools.documenting.programs import FORMER_NAMES, commands, programs
from utils.paths import REPOSITORY

_INTRODUCTION = """\
Every command is run from the root of the repository, in the environment that `make setup` makes. `--help` prints
the flags of a program as well. Three dots behind a value: several of them may be given."""

_EXIT_CODES = (
    ("0", "The command has done what it was asked for."),
    ("2", "Something outside of the program is wrong: a flag, a key, a file, the disk. One line on stderr that begins "
     "with `error:` names it and says what to do."),
    (str(128 + signal.SIGHUP), "The terminal was closed (SIGHUP)."),
    (str(128 + signal.SIGINT), "Ctrl-C (SIGINT). The line says how to go on, if the command can."),
    (str(128 + signal.SIGPIPE), "Nobody reads the output any more (`| head -1`)."),
    (str(128 + signal.SIGTERM), "The command was ended from outside (SIGTERM), as by `kill` or by SLURM."),
    ("1", "A fault of the program, with its traceback: please report it."),
)  # fmt: skip


def commands_page() -> str:
    """Returns the page."""
    blocks = [_INTRODUCTION]
    for path in programs():
        if path in FORMER_NAMES:
            continue
        former = "".join(f" Its former name is `{old}`." for old, new in FORMER_NAMES.items() if new == path)
        for command, parser in commands(path):
            blocks.append(f"## {command.removeprefix('tools/')}")
            blocks.append(f"`{command}`: {_sentence(parser.description)}{former}")
            blocks += _flags(parser)
    blocks += ["## Exit codes", table(("code", "meaning"), _EXIT_CODES)]
    return page("Commands and exit codes", *blocks)


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").partition("\n\n")[0].split())
    return words if words.endswith(".") else f"{words}."


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the table of the flags, then a table for each group of flags with a title of its own."""
    general, special = parser._action_groups[:2], parser._action_groups[2:]
    header = ("flag", "default", "meaning")
    if rows := [_row(action, parser) for group in general for action in _shown(group)]:
        yield table(header, rows)
    for group in special:
        yield f"{str(group.title)[:1].upper()}{str(group.title)[1:]}:"
        yield table(header, [_row(action, parser) for action in _shown(group)])


def _shown(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    return [action for action in group._group_actions
            if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS]  # fmt: skip


def _row(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str, str]:
    meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
    default = _default(action)
    bracket = meaning.rpartition("(")[2] if meaning.endswith(")") else ""
    # Some tools name their defaults in brackets; the number of processors differs between machines.
    said = default and (default.strip("`") in bracket or "processor" in bracket)
    return _flag(action), "" if said else default, _with_choices(meaning, action)


def _flag(action: argparse.Action) -> str:
    """Returns the spellings of a flag with its value; for a positional argument the value alone."""
    if action.nargs == 0:
        return ", ".join(map(code, action.option_strings))
    names = [action.metavar] if isinstance(action.metavar, str) else list(action.metavar or ())
    value = " ".join(names) or ("NAME" if action.choices else action.dest.upper())
    if isinstance(action.nargs, int) and len(names) == 1:
        value = " ".join(names * action.nargs)
    value = {"?": f"[{value}]", "+": f"{value}...", "*": f"[{value}...]"}.get(str(action.nargs), value)
    spelled = [*action.option_strings[:-1], f"{' '.join([*action.option_strings[-1:], value])}"]
    return ", ".join(map(code, spelled))


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    value = action.default
    if value is None or value is False or value == []:
        return ""
    several = isinstance(value, list | tuple) and action.nargs is not None
    return code(" ".join(map(_plain, value)) if several else _plain(value))


def _plain(value: object) -> str:
    """Returns a default as one would type it; a path in this repository is relative to its root."""
    if isinstance(value, tuple):  # beams and steps of a sweep
        return "x".join(map(_plain, value))
    if isinstance(value, PurePath):
        return (value.relative_to(REPOSITORY) if value.is_relative_to(REPOSITORY) else value).as_posix()
    return f"{value:g}" if isinstance(value, float) else str(value).removeprefix(f"{REPOSITORY}/")


def _with_choices(meaning: str, action: argparse.Action) -> str:
    choices: Sequence[object] = list(action.choices or ())
    if not choices:
        return meaning
    listed = ", ".join(code(choice) for choice in choices)
    return f"{meaning}; one of {listed}" if meaning else f"one of {listed}"
