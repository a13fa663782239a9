"""Pieces of Markdown that read alike on the site and in the repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by tools/make_docs.py; `make docs` writes it again. -->"


def page(title: str, *blocks: str) -> str:
    """Returns a whole page: its title, the note that it is generated, and blocks with an empty line between them."""
    return "\n\n".join([f"# {title}", NOTE, *(block.strip("\n") for block in blocks)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Returns a table of cells in Markdown; the columns whose numbers are in `right` are aligned to the right."""
    rules = ["---:" if column in right else "---" for column in range(len(header))]
    lines = [header, rules, *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: object) -> str:
    """Returns a text as inline code; "" for an empty text."""
    return f"`{text}`" if str(text) else ""


def _cell(text: str) -> str:
    """Escapes a text so that it stays within its cell and <NAME> is no tag of HTML."""
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(piece if number % 2 else piece.replace("<", "&lt;") for number, piece in enumerate(pieces))
