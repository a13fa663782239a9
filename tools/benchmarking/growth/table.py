"""The rows of `benchmark.py growth` as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.benchmarking.child import OUT_OF_MEMORY
from tools.benchmarking.growth.cases import Question, Row
from tools.benchmarking.growth.row import EVALUATION
from tools.benchmarking.host import CROWDED
from tools.benchmarking.machine import GIB, device_of, total_memory
from tools.benchmarking.report import NONE, Column, Table, milliseconds

_MIB = 2**20


def table(question: Question, rows: Sequence[Row], remark: Callable[[str], str]) -> Table:
    """Makes the table of the rows; `remark` completes the text of a failure."""
    kinds = question.kinds
    columns = [Column(question.title), Column("points", True), Column("voxels", True)]
    for what in kinds:
        columns += [Column(f"{what}, ms", True), Column("x", True), Column("memory, MiB", True), Column("x", True)]
    columns += [Column("runs", True)]
    cells = []
    for row in rows:
        line = [row.label, f"{row.points:,}", _voxels(row)]
        for what in kinds:
            line += _number(rows, row, what, "seconds", milliseconds)
            line += _number(rows, row, what, "memory", lambda size: f"{size / _MIB:,.0f}")
        line.append(", ".join(str(_value(row, what, "runs") or NONE) for what in kinds))
        cells.append(line)
    return Table.with_remarks(columns, cells, [_remarks(row, remark) for row in rows])


def _number(rows: Sequence[Row], row: Row, what: str, name: str, text: Callable[[float], str]) -> list[str]:
    """Writes a number, and its ratio per unit to that of the first row that has one."""
    value = _value(row, what, name)
    if value is None:
        return [NONE, NONE]
    first, first_amount = next((v, r.amount) for r in rows if (v := _value(r, what, name)) is not None)
    growth = f"{value / row.amount / (first / first_amount):.2f}" if first else NONE
    return [text(value), growth]


def _value(row: Row, what: str, name: str) -> float | None:
    return row.answers[what].value(what, name)


def _voxels(row: Row) -> str:
    found = _value(row, EVALUATION, "voxels")
    return NONE if found is None else f"{found:,}"


def _remarks(row: Row, remark: Callable[[str], str]) -> str:
    """Says why a number is missing, and whether other programs ran at the same time."""
    said = {what: "; ".join(map(remark, dict.fromkeys(row.answers[what].failures.values()))) for what in row.answers}
    for what in row.answers:
        if (others := _value(row, what, "others") or 0.0) > CROWDED:
            said[what] = f"other processes took {others:.1f} cores"
    texts = set(said.values())
    return texts.pop() if len(texts) == 1 else "; ".join(f"{what}: {text}" for what, text in said.items() if text)


def memory_before(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Finds the least and the most memory (MiB) that a process had in use before it was measured."""
    found = [v / _MIB for row in rows for what in row.answers if (v := _value(row, what, "before")) is not None]
    return (min(found), max(found)) if found else None


def explain(failure: str, device: str, limit: float | None) -> str:
    """Adds the size of the memory to a failure that memory ran out; returns other failures as they are."""
    if OUT_OF_MEMORY not in failure:
        return failure
    if limit is not None:
        return f"{failure} (limit of {limit:g} GiB)"
    total = total_memory(device_of(device))
    return (
        failure if total is None else f"{failure} ({total / GIB:.0f} GiB {'machine' if device == 'cpu' else 'device'})"
    )
