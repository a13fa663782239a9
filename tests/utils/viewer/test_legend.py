"""Texts from files are shown as text, whatever is in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.support.shown import MadeFrames, aged
from utils.viewer import legend
from utils.viewer.controls import distinct
from utils.viewer.palette import DARK
from utils.viewer.records import ShownScan

EVIL = '<script>alert(1)</script><img src=x onerror="alert(1)">&amp;\x1b[31m\n'


class Parsed(HTMLParser):
    """The elements and the text of a piece of HTML."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "content",
    [
        legend.heading(EVIL, 5),
        legend.heading("title", error=EVIL),
        legend.heading("title", 5, conditions=[EVIL]),
        legend.note([EVIL]),
        legend.classes([EVIL], np.zeros((1, 3), dtype=np.uint8)),
    ],
)
def test_text_from_a_file_is_text_on_the_page(content: str) -> None:
    page = Parsed(content)
    assert page.tags <= {"div", "b", "br", "span"} and page.attributes <= {"style"}
    assert '<script>alert(1)</script><img src=x onerror="alert(1)">&amp;' in page.text
    assert "\x1b" not in content and "\n" not in content


def test_the_key_says_how_many_points_are_right_and_between_what_numbers_the_colours_lie(scan: ShownScan) -> None:
    assert scan.labels is not None
    truth, ids = np.where(scan.labels == 4, 0, scan.labels), scan.predictions["first"]
    text = Parsed(legend.key(scan, "first", "errors", DARK, 4)).text
    right, wrong = int(((truth == ids) & (truth > 0)).sum()), int(((truth != ids) & (truth > 0)).sum())
    assert re.findall(r"(right|wrong|without truth): (\d+)", text) == [
        ("right", str(right)),
        ("wrong", str(wrong)),
        ("without truth", str(int((truth == 0).sum()))),
    ]
    assert Parsed(legend.key(aged(scan), "first", "age", DARK, 4)).text == "0 s0.2 s"
    assert legend.key(scan, "first", "prediction", DARK, 4) == ""
    different = int((ids != scan.predictions["second"]).sum())
    assert f"different: {different}" in Parsed(legend.key(scan, "first", "differences", DARK, 4)).text


def test_names_that_look_alike_are_told_apart() -> None:
    names = ["a", "a", "a (2)", "", "x" * 200, "x" * 201, "b\n"]
    shown = distinct(names)
    assert len(set(shown)) == len(names) and all(shown) and max(map(len, shown)) < 70
    assert shown[:2] == ["a", "a (2)"] and all(label.isprintable() for label in shown)
    assert distinct(MadeFrames.names) == list(MadeFrames.names)
