"""What pages name is there: links, anchors, files, names of the code, messages; Python on them runs."""

from __future__ import annotations

import ast
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.conftest import TREE
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.pages import ROOT, anchors, blocks, headings, links, name_of, pages, prose, spans
from tools.documenting.models_page import QUOTED, QUOTED_RECIPES

README = ROOT / "README.md"
ROOMS = ("config", "dataloader", "network", "utils", "tools", "tests", "docs")
ABOUT_CODE = [
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "add").glob("*.md")),
    *sorted((ROOT / "docs" / "architecture").glob("*.md")),
]


def broken_links(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    broken = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        known = (
            anchors(text if target == page else target.read_text(encoding="utf-8")) if target.suffix == ".md" else {""}
        )
        if not target.exists() or (anchor and anchor not in known):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_and_anchors_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not broken_links(page, text)
    if page.is_relative_to(ROOT / "docs"):  # the site has nothing beside docs/
        outside = [link for link in links(text) if not (page.parent / link).resolve().is_relative_to(ROOT / "docs")]
        assert not outside


def test_a_broken_link_is_found() -> None:
    text = "# A\n[x](#a) [y](#b) ![z](no.png) [v](docs/help.md#no-such-heading)\n```\n# B\n```\n"
    with pytest.raises(FileNotFoundError):
        broken_links(README, "[w](docs/none.md)")
    assert broken_links(README, text) == ["#b", "no.png", "docs/help.md#no-such-heading"]


def missing_files(text: str) -> list[str]:
    """The files and folders of the repository that a page names and that are not there."""
    found = [span for span in spans(text) if re.fullmatch(rf"(?:{'|'.join(ROOMS)})/[\w./*-]*", span)]
    return [name for name in found if not any(ROOT.glob(name.rstrip("/")))]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_named_files_exist(page: Path) -> None:
    assert not missing_files(page.read_text(encoding="utf-8"))
    assert missing_files("`utils/no_such.py` and `docs/`, `dataset/x`") == ["utils/no_such.py"]


@cache
def sources() -> dict[str, str]:
    """Path below the root -> text, of all code but the tests of the documentation."""
    files = [*ROOT.glob("*.py"), *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    return {name_of(file): file.read_text(encoding="utf-8") for file in files if file.parent != Path(__file__).parent}


@cache
def words_of_the_code() -> set[str]:
    """Every name that occurs in code, configs or the Makefile, and the names of the files."""
    texts = [*sources().values(), *((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "mkdocs.yml"))]
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / "config").rglob("*.yaml")]
    files = [file.name for room in ROOMS for file in (ROOT / room).rglob("*.*")] + [
        file.name for file in ROOT.glob("*")
    ]
    return set(re.findall(r"\w+", "\n".join([*texts, *files])))


def unknown_names(text: str) -> set[str]:
    """Names of the code, in inline code, that occur nowhere in it."""
    named = [re.match(r"([A-Za-z_][\w.]*)(?:\(.*\))?$", span) for span in spans(text)]
    return {part for found in named if found for part in found[1].split(".")} - words_of_the_code()


@pytest.mark.parametrize("page", ABOUT_CODE, ids=name_of)
def test_named_parts_of_the_code_exist(page: Path) -> None:
    assert not unknown_names(page.read_text(encoding="utf-8"))


def test_an_unknown_name_is_found() -> None:
    assert unknown_names("`Scan.select`, `no_such_function(x)`, `SegmentationDataset`") == {"no_such_function"}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_python_on_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "python" and block.runs:
            _put_files(block.text)
            exec(compile(block.text, str(page), "exec"), {"__name__": "page"})


def _put_files(example: str) -> None:
    """Writes the checkpoint and the scan that an example opens."""
    if "best.ckpt" in example:
        write_checkpoint(Path("best.ckpt"), small_config())
    if "checkpoint/demo" in example:
        Path("checkpoint").symlink_to(ROOT / "checkpoint")
    if "scan.bin" in example:
        shutil.copy(TREE / "08" / "velodyne" / "000000.bin", "scan.bin")


def test_a_block_is_marked_as_not_to_be_run() -> None:
    text = "<!-- not run: needs a GPU -->\n```python\n1 / 0\n```\n\n```python\nx = 1\n```\n"
    assert [(block.runs, block.text) for block in blocks(text)] == [(False, "1 / 0\n"), (True, "x = 1\n")]


def test_readme_is_read_in_three_minutes() -> None:
    assert 150 <= len(README.read_text(encoding="utf-8").splitlines()) <= 180


def test_readme_has_the_figures_of_the_models_page() -> None:
    """Parameters counted on the page, figures quoted once."""
    page = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")

    def rows(text: str) -> dict[str, list[str]]:
        cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
        return {
            name[0]: row[-4:]
            for row in cells
            if (name := re.findall(r"`(\S+)\.yaml`", " ".join(row))) and len(row) == 7
        }

    shown, counted = rows(README.read_text(encoding="utf-8")), rows(page)
    assert set(QUOTED) <= set(shown) <= set(QUOTED | QUOTED_RECIPES)
    assert shown == {name: counted[name] for name in shown}


def test_the_site_has_every_page_once() -> None:
    """mkdocs.yml is plain YAML, so that mkdocs-material can build the same site."""

    def files(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [file for part in (entry.values() if isinstance(entry, dict) else entry) for file in files(part)]  # type: ignore[union-attr]

    listed = files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(
        file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")
    )


def test_named_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages():
        text = page.read_text(encoding="utf-8")
        lines = [*spans(text), *(line for block in blocks(text) for line in block.text.splitlines())]
        named = {found[1] for line in lines if (found := re.match(r"(?:TWODPASS\S* |\$ )?make ([a-z]+)\b", line))}
        assert named <= targets, page


@cache
def messages() -> list[str]:
    """Every text of the programs, `\\0` for what is filled in."""
    texts = []
    for path, source in sources().items():
        for node in ast.walk(ast.parse(source)) if not path.startswith("tests/") else ():
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def is_printed(message: str) -> bool:
    """Whether a program has a text like this; `...` stands for anything."""
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
    return any(pattern.search(text) for text in messages())


def test_messages_of_the_help_page_are_printed_by_the_programs() -> None:
    quoted = [heading.strip("`") for heading in headings((ROOT / "docs" / "help.md").read_text()) if heading[0] == "`"]
    assert len(quoted) > 15
    assert not [message for message in quoted if not is_printed(message)]
    assert not is_printed("the moon ... is made of cheese")


def test_ours_is_the_only_place_for_generated_pages() -> None:
    """The pages of docs/reference/ say that they are written by the tool, and no other page does."""
    generated = {page for page in pages() if "tools/make_docs.py;" in page.read_text(encoding="utf-8")}
    assert generated == set((ROOT / "docs" / "reference").glob("*.md"))
    assert prose("a\n```\nb\n```\n").strip() == "a"


def test_pages_that_messages_name_exist() -> None:
    named = {name for path, text in sources().items() for name in re.findall(r"docs/[\w/-]+\.md", text)}
    assert "docs/data/nuscenes.md" in named
    assert not [name for name in named if not (ROOT / name).is_file()]
