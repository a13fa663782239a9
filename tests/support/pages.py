"""The documentation as text: its pages, code blocks, links and headings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = "<!-- not run:"
"""Begins the line before a block of Python that cannot run, with the reason."""

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the word behind the fence, or "".
        text: its lines.
        runs: whether it can run: it is not marked otherwise.
    """

    language: str
    text: str
    runs: bool


def pages() -> list[Path]:
    """Lists README, CONTRIBUTING and every page of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """Returns the path of a page below the root, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """Yields the fenced blocks of a page."""
    for found in _FENCE.finditer(text):
        before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        indent = found["indent"]
        lines = "\n".join(line.removeprefix(indent) for line in found["body"].splitlines())
        yield Block(found["language"], lines + "\n", not before.strip().startswith(NOT_RUN))


def prose(text: str) -> str:
    """Returns a page without its fenced blocks."""
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Lists the inline code of a page, each span in one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(text))]


def links(text: str) -> list[str]:
    """Lists the targets of links and pictures, except addresses on the web."""
    return [target for target in _LINK.findall(prose(text)) if not re.match(r"[a-z]+:", target)]


def headings(text: str) -> list[str]:
    """Lists the headings of a page."""
    return _HEADING.findall(prose(text))


def anchors(text: str) -> set[str]:
    """Lists the names that a link may have behind `#`: the headings whose anchor is the same on the site and in the
    repository."""
    plain = [re.sub(r"`|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings(text)]
    return {_on_the_site(heading) for heading in plain if _on_the_site(heading) == _in_the_repository(heading)}


def _on_the_site(heading: str) -> str:
    """Makes the anchor of a heading as Python-Markdown's toc does."""
    text = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def _in_the_repository(heading: str) -> str:
    """Makes the anchor of a heading as code hosts do."""
    return re.sub(r"[^\w\s-]", "", heading.strip().lower()).replace(" ", "-")


def lines_of(text: str) -> Iterator[str]:
    """Yields the lines of a shell block, with continuation lines joined."""
    yield from text.replace("\\\n", " ").splitlines()
