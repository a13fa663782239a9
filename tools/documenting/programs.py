"""The programs of the repository, and the parsers of their commands."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from functools import cache

from utils.paths import REPOSITORY

FORMER_NAMES = {"tools/visualize.py": "tools/view.py"}
"""Former names of programs -> present names; a former name only calls the present program."""


def programs() -> list[str]:
    """Returns the paths of all programs below the repository's root: those at the root first, then the tools."""
    tools = (path for path in (REPOSITORY / "tools").glob("*.py") if not path.name.startswith("_"))
    return [path.relative_to(REPOSITORY).as_posix() for path in (*sorted(REPOSITORY.glob("*.py")), *sorted(tools))]


@cache
def parser_of(path: str) -> argparse.ArgumentParser:
    """Returns the parser that the program at a path below the root parses its command line with.

    Every program has a function `build_parser`. The programs do not import each other, and nothing imports them by
    name; this one place does, since it describes them.
    """
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).build_parser()


def commands(path: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yields what is typed behind `python` and its parser: one for a program, one for each subcommand if it has any."""
    parser = parser_of(path)
    subcommands = {
        name: subparser
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, subparser in action.choices.items()
    }
    yield from ((f"{path} {name}", subparser) for name, subparser in subcommands.items())
    if not subcommands:
        yield path, parser
