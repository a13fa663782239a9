"""A report that grows row by row."""

from __future__ import annotations

import pytest

from tools.benchmarking.report import UNFINISHED, Column, Report, Table, console, growing
from utils.errors import UserError

COLUMNS = [Column("backend"), Column("ms", True), Column("remark")]


def measuring(output, rows, during=lambda: None):
    """Measures three rows, one after the other."""
    table = Table(COLUMNS, rows, "Latency")
    with growing(console(), output, lambda: Report(["Machine: ours"], [table], ["ms: of a call"])) as row_done:
        for name, value in (("torch", "3.5"), ("triton", "-"), ("spconv", "1")):
            rows.append((name, value, ""))
            row_done()
            during()


def test_rows_are_shown_and_written_as_they_come(tmp_path, capsys):
    output, seen = tmp_path / "folder" / "table.md", []
    measuring(output, [], lambda: seen.append((capsys.readouterr().out, output.read_text())))
    assert seen[0][0].splitlines() == ["Machine: ours", "Latency: backend torch, ms 3.5"]
    assert seen[1][0].splitlines() == ["Latency: backend triton"]
    assert [text.count("\n| ") for _, text in seen] == [3, 4, 5]  # heading and rule among them
    printed = capsys.readouterr().out
    assert printed.index("Latency") < printed.index("spconv") < printed.index("ms: of a call") < printed.index("wrote")
    assert output.read_text().startswith(
        "Machine: ours\n\n**Latency**\n\n| backend | ms | remark |\n| --- | ---: | ---"
    )
    assert all(UNFINISHED in text for _, text in seen)  # if it is killed now
    assert UNFINISHED not in printed + output.read_text()


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError])
def test_whatever_ends_it_the_tables_come_last(tmp_path, capsys, end):
    rows = []

    def stop():
        if len(rows) == 2:
            raise end

    with pytest.raises(end):
        measuring(tmp_path / "table.md", rows, stop)
    printed, written = capsys.readouterr().out, (tmp_path / "table.md").read_text()
    assert UNFINISHED in printed and UNFINISHED in written
    assert printed.count("triton") == 2 and written.count("\n| ") == 4


def test_a_file_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path, capsys):
    rows = []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the table"):
        measuring(tmp_path / "file" / "table.md", rows)
    assert not rows and not capsys.readouterr().out


def test_a_report_of_before_stays_until_there_is_a_row(tmp_path, capsys):
    (tmp_path / "table.md").write_text("of before")
    with (
        pytest.raises(KeyboardInterrupt),
        growing(console(), tmp_path / "table.md", lambda: Report([], [Table(COLUMNS, [])], [])),
    ):
        raise KeyboardInterrupt
    assert (tmp_path / "table.md").read_text() == "of before" and not capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
