from __future__ import annotations

from pathlib import Path

import pytest

from utils.errors import UserError
from utils.names import checked_name, checked_path, is_folder_name, shown

BAD = [
    *("", ".", "..", "/", "/etc/passwd", "a//b", "a/", "a/../b", "../a", "a/..", "./a", "a/./b", "~/\t"),
    *("a\0b", "a\nb", "\x1b[31m", "\x7f", "é", "\ud800", "\u202e", None, 5, b"a", ["a"]),
]


@pytest.mark.parametrize("value", [*BAD, "a" * 129, "a/b", "a.b", "a b", "-\n", "a+b", "٣"], ids=ascii)
def test_what_is_no_name(value):
    with pytest.raises(UserError, match=r"^x\.json: token .* must be made of letters, digits, _ and - only") as caught:
        checked_name(value, "token", "x.json")
    assert str(caught.value).isprintable() and str(caught.value).isascii()


@pytest.mark.parametrize("value", [*BAD, "a/b", "a b", "a+b", "~", "a" * 256], ids=ascii)
def test_what_is_no_name_of_a_folder(value):
    assert not is_folder_name(value)
    assert all(map(is_folder_name, ("night.2", "...", ".a", "08", "2013_05_28_drive_0000_sync")))


@pytest.mark.parametrize("value", [*BAD, "a" * 256, "a/" * 127 + "bb"], ids=ascii)
def test_what_is_no_path_below(value):
    with pytest.raises(UserError, match=r"^x\.json: filename .* must be a relative path .* \(no \.\.\)") as caught:
        checked_path(value, "filename", "x.json")
    assert str(caught.value).isprintable() and str(caught.value).isascii()


@pytest.mark.parametrize("value", ["scene-0061", "3a9f", "_", "00", "2013_05_28_drive_0000_sync", "a" * 128])
def test_names(value):
    assert checked_name(value, "", "") == checked_path(value, "", "") == value


@pytest.mark.parametrize("value", ["samples/LIDAR_TOP/n015-2018+0800__LIDAR_TOP__1.pcd.bin", "a/..b/c..", "...", " "])
def test_paths_stay_below(value, tmp_path):
    assert checked_path(value, "", "") == value
    assert (tmp_path / value).resolve().is_relative_to(tmp_path.resolve()) and Path(value).parts


def test_what_is_shown_fits_a_line():
    for value in ("x" * 10**6, ["\0" * 10**6], {"a": "\n"}, "\u2028", 10**4000):
        assert len(shown(value)) <= 60 and shown(value).isprintable()
    assert shown("scene-0061") == "scene-0061" and shown("a b") == "'a b'"
