"""The page docs/reference/rooms.md: the folders of the code from the top down, and which imports which."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tools.documenting.markdown import code, page, table
from utils.paths import REPOSITORY

_INTRODUCTION = """\
Each row is a folder of the product, with the first sentence of its docstring. A folder imports only folders in rows
below its own: no two folders import each other, not even by way of others (`tests/test_imports.py`). The floor is the
number of imports on the longest way down. The tools stand beside the programs and import from all floors."""

_TOPS = ("commands", "dataloader", "network", "utils")
_PROGRAMS = ("main.py", "robust_test.py", "predict.py")


def rooms_page() -> str:
    """Returns the page."""
    arrows = imports_between_folders()

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, arrows[room]), default=-1)

    rows = [
        (
            str(floor(room)),
            code(room),
            _purpose(room),
            str(len(_files(room))),
            ", ".join(map(code, _direct(room, arrows))),
        )
        for room in sorted(arrows, key=lambda room: (-floor(room), room))
    ]
    header = ("floor", "folder", "what it is for", "files", "imports directly, and not by way of those")
    return page("Rooms", _INTRODUCTION, table(header, rows, right=(0, 3)))


def imports_between_folders() -> dict[str, set[str]]:
    """Returns, for each folder of the product, the other folders that its files import; "programs" is the root."""
    rooms = ["programs", *sorted({file.parent.relative_to(REPOSITORY).as_posix() for file in _product()})]
    arrows: dict[str, set[str]] = {}
    for room in rooms:
        found = {_room_of(module) for file in _files(room) for module in _modules(file)}
        arrows[room] = {other for other in found if other is not None} - {room}
    return arrows


def _direct(room: str, arrows: dict[str, set[str]]) -> list[str]:
    """Returns the imported folders that no other imported folder leads to."""

    def below(start: str) -> set[str]:
        return arrows[start].union(*map(below, arrows[start]))

    return sorted(arrows[room] - set().union(*map(below, arrows[room])))


def _product() -> list[Path]:
    return [file for top in _TOPS for file in (REPOSITORY / top).rglob("*.py")]


def _files(room: str) -> list[Path]:
    if room == "programs":
        return [REPOSITORY / name for name in _PROGRAMS]
    return sorted(file for file in (REPOSITORY / room).glob("*.py") if file.name != "__init__.py")


def _modules(file: Path) -> set[str]:
    """Returns the dotted names that a file may import, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _room_of(module: str) -> str | None:
    """Returns the folder of a module of the product; None: it is of another library, or a name in a module."""
    file = REPOSITORY / (module.replace(".", "/") + ".py")
    return file.parent.relative_to(REPOSITORY).as_posix() if module.split(".")[0] in _TOPS and file.is_file() else None


def _purpose(room: str) -> str:
    if room == "programs":
        return (
            "`main.py`, `robust_test.py` and `predict.py`: flags, an experiment or a list of scans, and what is done."
        )
    text = ast.get_docstring(ast.parse((REPOSITORY / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
