"""Paths and URLs: `memory://` and `file://` stand for all stores of fsspec."""

from __future__ import annotations

import uuid

import pytest

from tests.support.networks import refusal
from utils import locations


@pytest.fixture(params=["path", "file", "memory"])
def base(request, tmp_path) -> str:
    """An empty place of each kind."""
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}[
        request.param
    ]


def test_what_is_written_is_read_listed_and_found(base):
    names = ["b/2.bin", "a.bin", "b/1.bin", "b/c/3.txt", ".hidden/4.bin", "b/.5.bin"]
    for name in names:
        locations.write(locations.join(base, name), name.encode())
    visible = sorted(locations.join(base, name) for name in names if "." not in (name[0], name.split("/")[-1][0]))
    assert locations.files_below(base) == visible
    for location in visible:
        assert locations.exists(location) and not locations.is_folder(location)
        assert base + "/" + locations.read(location).decode() == location
        with locations.on_disk(location) as path:
            assert path.read_bytes() == locations.read(location) and path.name == location.rpartition("/")[2]
    assert locations.is_folder(base + "/b") and not locations.exists(base + "/b")
    assert locations.matches(base + "/b/*.bin") == [base + "/b/1.bin", base + "/b/2.bin"]
    assert locations.matches(base + "/a.bin") == [base + "/a.bin"]
    assert locations.matches(base + "/nothing*") == [] and not locations.exists(base + "/none.bin")


def test_a_file_is_replaced(base):
    place = locations.join(base, "x/y.label")
    locations.write(place, b"old, and longer")
    locations.write(place, b"new")
    assert locations.read(place) == b"new"


def test_a_copy_of_a_folder_at_a_url_goes_with_its_block():
    base = f"memory://{uuid.uuid4().hex}/bag"
    locations.write(base + "/metadata.yaml", b"1")
    locations.write(base + "/x.db3", b"2")
    with locations.on_disk(base) as path:
        assert sorted(file.name for file in path.iterdir()) == ["metadata.yaml", "x.db3"]
    assert not path.exists()


@pytest.mark.parametrize(
    "name, url",
    [("scan.bin", False), ("/a/b", False), ("C:/x.bin", False), ("a:b", False), ("s3://b/k", True), ("gs://b", True)],
)
def test_urls_are_told_from_paths(name, url):
    assert locations.is_url(name) is url


@pytest.mark.parametrize("url", ["nosuchscheme://x/y.bin", "memory://nowhere/at/all.bin"])
def test_a_url_that_cannot_be_read_is_one_line(url):
    assert url in refusal(locations.read, url)
    assert url in refusal(locations.on_disk(url).__enter__)
