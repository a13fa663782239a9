"""Pictures of the page, and scenes as files."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard
from PIL import Image

from tests.support.shown import POINTS, MadeFrames
from utils.errors import UserError
from utils.viewer.choice import Choice
from utils.viewer.palette import DARK, LIGHT
from utils.viewer.saving import png, save_html


def recording(path: Path) -> dict:
    """What viser has written into a page."""
    found = re.search(r'__VISER_EMBED_DATA__="([^"]+)"', path.read_text(encoding="utf-8"))
    assert found is not None
    raw = zstandard.ZstdDecompressor().decompress(base64.b64decode(found[1])[8:], max_output_size=1 << 28)
    size = int.from_bytes(raw[:8], "little")
    return msgspec.msgpack.decode(raw[8 : 8 + size])


def test_a_scene_is_one_file_with_a_title_that_is_only_text(tmp_path: Path, frames: MadeFrames) -> None:
    path = tmp_path / "new" / "scene.html"
    save_html(frames, [2], path)
    page = path.read_text(encoding="utf-8")
    assert "<title>&lt;i&gt;scan&lt;/i&gt; 2</title>" in page
    assert "<i>scan</i>" not in page and "<b>road" not in page and "&lt;b&gt;road" in page
    assert page.count("<html") == 1 and page.rstrip().endswith("</html>")
    assert not re.search(r'(?:src|href)="(?!data:)', page)  # nothing is fetched from elsewhere
    content = recording(path)
    assert content["durationSeconds"] == 0
    assert (POINTS - 1) * 3 * 2 in content["binaryBufferLengths"]  # float16
    assert [entry.name for entry in path.parent.iterdir()] == ["scene.html"]


def test_several_frames_follow_each_other_in_time(tmp_path: Path, frames: MadeFrames) -> None:
    save_html(frames, [0, 1, 3], tmp_path / "scene.html", seconds=0.5)
    content = recording(tmp_path / "scene.html")
    assert content["durationSeconds"] == 1.0
    texts = [message["updates"].get("text") for _, message in content["messages"] if "updates" in message]
    assert [text for text in texts if text and text.endswith("first")][-1] == "<i>scan</i> 3 first"


def test_what_is_chosen_is_what_is_saved(tmp_path: Path, frames: MadeFrames) -> None:
    choice = Choice(coloring="height", side_by_side=False, ground=LIGHT)
    save_html(frames, [0], tmp_path / "scene.html", choice)
    page = (tmp_path / "scene.html").read_text(encoding="utf-8")
    assert "linear-gradient" in page and "darkMode:false" in page
    save_html(frames, [0], tmp_path / "scene.html")
    assert "darkMode:true" in (tmp_path / "scene.html").read_text(encoding="utf-8")


def test_a_frame_that_cannot_be_read_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1\.bin"):
        save_html(MadeFrames(broken=(1,)), [0, 1], tmp_path / "scene.html")
    assert not list(tmp_path.iterdir())


def test_what_is_transparent_in_a_picture_has_the_colour_of_the_ground() -> None:
    drawn = np.zeros((2, 3, 4), dtype=np.uint8)
    drawn[0, 0] = (255, 0, 255, 255)
    image = np.asarray(Image.open(io.BytesIO(png(drawn, DARK))))
    assert image.shape == (2, 3, 3)
    assert tuple(image[0, 0]) == (255, 0, 255) and tuple(image[1, 2]) == DARK.color
