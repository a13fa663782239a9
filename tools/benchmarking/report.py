"""Tables of results, for the terminal and as Markdown."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as Drawing

from utils.errors import UserError
from utils.files import whole_file, write_text

NONE = "-"
"""The cell of a number that was not measured."""


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand below it."""

    name: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: the headings.
        rows: one cell for each column.
        title: the line above the table, or None.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str | None = None

    @staticmethod
    def with_remarks(
        columns: Sequence[Column], rows: Sequence[Sequence[str]], remarks: Sequence[str], title: str | None = None
    ) -> Table:
        """Makes a table; its last column holds the remarks on the rows, if there are any."""
        if not any(remarks):
            return Table(columns, rows, title)
        both = [[*row, remark] for row, remark in zip(rows, remarks, strict=True)]
        return Table([*columns, Column("remark")], both, title)

    def draw(self) -> Drawing:
        """Draws the table for the terminal."""
        drawn = Drawing(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            # Headings and texts may be broken between words, numbers not at all.
            longest = max((len(row[number]) for row in self.rows), default=0)
            least = max(longest if column.is_number else min(longest, 24), *map(len, column.name.split()))
            drawn.add_column(column.name, justify="right" if column.is_number else "left", min_width=least)
        for row in self.rows:
            drawn.add_row(*row)
        return drawn

    def line(self, row: Sequence[str]) -> str:
        """Writes one row as a line of text, to show it before the table is complete."""
        cells = zip(self.columns, row, strict=True)
        said = ", ".join(f"{column.name} {cell}" for column, cell in cells if cell not in ("", NONE))
        return f"{self.title}: {said}" if self.title else said

    def markdown(self) -> str:
        """Writes the table as Markdown."""
        rule = ["---:" if column.is_number else "---" for column in self.columns]
        rows = [[column.name for column in self.columns], rule, *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        return "\n".join([*([f"**{self.title}**", ""] if self.title else []), *lines])


@dataclass(frozen=True)
class Report:
    """The text and tables of a benchmark's results.

    Attributes:
        facts: lines before the tables, about the machine and the input.
        tables: the rows that were measured so far.
        closing: lines after the tables, which explain them.
    """

    facts: Sequence[str]
    tables: Sequence[Table]
    closing: Sequence[str]

    def markdown(self) -> str:
        """Writes the report as Markdown."""
        return "\n\n".join(["  \n".join(self.facts), *(t.markdown() for t in self.tables), "  \n".join(self.closing)])


UNFINISHED = "Not finished: rows that are missing were not measured."
"""Closes a report while it grows, and one that was stopped."""


def console() -> Console:
    """Opens the terminal; output to a file or a pipe is wide enough for a whole table."""
    return Console(width=None if sys.stdout.isatty() else 160)


@contextmanager
def growing(terminal: Console, output: Path | None, report: Callable[[], Report]) -> Iterator[Callable[[], None]]:
    """Shows and writes a report while it grows; however the block ends, the tables of the finished rows come last.

    Args:
        terminal: receives the facts at once, each row as soon as it is finished, and the tables at the end.
        output: a file that is written whole after each row, as Markdown; or None.
        report: makes the report of the rows that are finished.

    Yields:
        A function to call after each row.

    Raises:
        UserError: `output` cannot be written; this is found before the block begins.
    """
    shown: Counter[int] = Counter()

    def row_done() -> None:
        now = report()
        for number, table in enumerate(now.tables):
            for row in table.rows[shown[number] :]:
                _print(terminal, table.line(row))
            shown[number] = len(table.rows)
        _write(output, _unfinished(now))

    _require_writable(output)
    _print(terminal, *report().facts)
    is_whole = False
    try:
        yield row_done
        is_whole = True
    finally:
        if shown.total():
            last = report() if is_whole else _unfinished(report())
            _print(terminal, *(table.draw() for table in last.tables), *last.closing)
            _write(output, last)
            if output is not None:
                _print(terminal, f"wrote {output}")


def _unfinished(report: Report) -> Report:
    return replace(report, closing=[UNFINISHED, *report.closing])


def _print(terminal: Console, *parts: str | Drawing) -> None:
    for part in parts:
        terminal.print(part, soft_wrap=isinstance(part, str), highlight=False, markup=False)


class _Undone(Exception):
    """Nothing is to be written after all."""


def _require_writable(output: Path | None) -> None:
    """Refuses an output file that cannot be written, before hours are spent; an existing file stays as it is."""
    if output is not None:
        with _naming(output), suppress(_Undone), whole_file(output):
            raise _Undone


def _write(output: Path | None, report: Report) -> None:
    if output is not None:
        with _naming(output):
            write_text(output, report.markdown() + "\n")


@contextmanager
def _naming(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{output}: cannot write the table ({error.strerror}); choose another --output") from error


def milliseconds(seconds: float) -> str:
    """Writes seconds as milliseconds, with three digits or more."""
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
