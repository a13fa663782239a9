"""Tables of results, for the terminal and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as Drawing

from utils.errors import UserError
from utils.files import write_text


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand below it."""

    name: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: its headings.
        rows: as many cells each.
        title: above it, or none.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str | None = None

    def draw(self) -> Drawing:
        """For the terminal."""
        drawn = Drawing(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            # Headings and texts may be broken between words, numbers not at all.
            longest = max((len(row[number]) for row in self.rows), default=0)
            least = max(longest if column.is_number else min(longest, 24), *map(len, column.name.split()))
            drawn.add_column(column.name, justify="right" if column.is_number else "left", min_width=least)
        for row in self.rows:
            drawn.add_row(*row)
        return drawn

    def markdown(self) -> str:
        """The same as Markdown."""
        rule = ["---:" if column.is_number else "---" for column in self.columns]
        rows = [[column.name for column in self.columns], rule, *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        return "\n".join([*([f"**{self.title}**", ""] if self.title else []), *lines])


def console() -> Console:
    """The terminal; a file or a pipe has room for a whole table."""
    return Console(width=None if sys.stdout.isatty() else 160)


def show(
    terminal: Console, facts: Sequence[str], tables: Sequence[Table], closing: Sequence[str], output: Path | None
) -> None:
    """Prints the lines before, the tables and the lines after; writes them as Markdown, too, if `output` is given.

    Raises:
        UserError: `output` cannot be written.
    """
    for part in (*facts, *(table.draw() for table in tables), *closing):
        terminal.print(part, soft_wrap=isinstance(part, str), highlight=False, markup=False)
    if output is not None:
        parts = ["  \n".join(facts), *(table.markdown() for table in tables), "  \n".join(closing)]
        _write(output, "\n\n".join(parts) + "\n")
        terminal.print(f"wrote {output}", soft_wrap=True)


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot write the table ({error.strerror}); choose another --output") from error


def milliseconds(seconds: float) -> str:
    """Three digits or more."""
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
