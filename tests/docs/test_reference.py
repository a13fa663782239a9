"""docs/reference/ is what tools/make_docs.py writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tools.documenting.pages import PAGES
from tools.documenting.programs import parser_of, programs
from tools.make_docs import REFERENCE, main


@pytest.mark.parametrize(("name", "write"), PAGES.items(), ids=PAGES.keys())
def test_a_page_is_of_this_code(name: str, write: Callable[[], str]) -> None:
    committed = (REFERENCE / name).read_text(encoding="utf-8")
    assert committed == write(), f"docs/reference/{name} is not of this code: run `make docs` and commit it"


def test_there_are_no_other_pages() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


def test_every_program_shows_its_parser() -> None:
    """A flag of each appears on the page of commands."""
    page = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    for program in programs():
        assert f"`{program}" in page
        assert parser_of(program) is parser_of(program)


def test_the_tool_writes_only_what_has_changed(tmp_path, capsys) -> None:
    main(["--output", str(tmp_path)])
    page = tmp_path / "corruptions.md"
    first = page.stat().st_mtime_ns
    (tmp_path / "models.md").write_text("old")
    main(["--output", str(tmp_path)])
    assert page.stat().st_mtime_ns == first
    assert (tmp_path / "models.md").read_text(encoding="utf-8") == (REFERENCE / "models.md").read_text(encoding="utf-8")
    assert "models.md: written" in capsys.readouterr().out.rpartition("config.md")[2]
