"""Pieces of Markdown that read alike on the site and in the repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by tools/make_docs.py; `make docs` writes it again. -->"


def page(title: str, *blocks: str) -> str:
    """A whole page: its title, the note that it is generated, and blocks with an empty line between them."""
    return "\n\n".join([f"# {title}", NOTE, *(block.strip("\n") for block in blocks)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table; the columns whose numbers are in `right` are aligned to the right. A cell is Markdown in one line."""
    rules = ["---:" if column in right else "---" for column in range(len(header))]
    lines = [header, rules, *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: object) -> str:
    """Inline code; nothing for an empty text."""
    return f"`{text}`" if str(text) else ""


def _cell(text: str) -> str:
    """Text that stays within its cell, and in which <NAME> is no tag of HTML."""
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(piece if number % 2 else piece.replace("<", "&lt;") for number, piece in enumerate(pieces))
