"""Output folders that are not empty: with the tool's own data set, another one, or somebody's files."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.support.demo import TINY, file_bytes
from tools.demo_world import semantickitti
from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import write_tree
from utils.errors import UserError


@pytest.fixture
def copy(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "sequences")
    return tmp_path / "sequences"


CHANGED = DemoOptions(**{**vars(TINY), "train_frames": 1, "seed": 3})


def test_complete_set_is_left_alone(copy, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    monkeypatch.setattr(semantickitti, "_write_frame", lambda *_: pytest.fail("wrote a frame"))
    summary = write_tree(copy, TINY)
    assert not summary.fresh
    assert summary.frames == 4
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_incomplete_set_is_made_again(copy, tiny):
    (copy / "08" / "image_2" / "000000.png").unlink()
    (copy / "08" / "velodyne" / ".000000.bin.7.partial").touch()  # of a run that was killed
    assert write_tree(copy, TINY).fresh
    assert file_bytes(copy) == file_bytes(tiny)


def test_other_options_need_overwrite_which_spares_foreign_files(copy):
    before = file_bytes(copy)
    with pytest.raises(UserError, match="--overwrite"):
        write_tree(copy, CHANGED)
    assert file_bytes(copy) == before
    (copy / "notes.txt").write_text("mine")
    write_tree(copy, CHANGED, overwrite=True)
    after = file_bytes(copy)
    assert after["notes.txt"] == b"mine"
    assert "00/velodyne/000001.bin" not in after
    assert after["00/velodyne/000000.bin"] != before["00/velodyne/000000.bin"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_tree_stays(tmp_path, overwrite):
    foreign = tmp_path / "00" / "velodyne" / "000000.bin"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"real data")
    with pytest.raises(UserError, match="00"):
        write_tree(tmp_path, TINY, overwrite=overwrite)
    assert file_bytes(tmp_path) == {"00/velodyne/000000.bin": b"real data"}


@pytest.mark.parametrize(
    "names", [["../outside.txt"], ["link/outside.txt"], ["{tmp_path}/outside.txt"], "nothing", [3]]
)
def test_note_that_is_not_ours_removes_nothing(tmp_path, names):
    (tmp_path / "outside.txt").write_text("mine")
    output = tmp_path / "sequences"
    output.mkdir()
    (output / "link").symlink_to(tmp_path)
    names = (
        [name.format(tmp_path=tmp_path) for name in names]
        if isinstance(names, list) and isinstance(names[0], str)
        else names
    )
    note = {"options": {}, "format": 1, "complete": True, "files": names}
    (output / "demo_world.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match=r"demo_world\.json"):
        write_tree(output, TINY, overwrite=True)
    assert (tmp_path / "outside.txt").exists()
