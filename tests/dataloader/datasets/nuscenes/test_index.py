from __future__ import annotations

import builtins
import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dataloader.datasets.nuscenes import index as nuscenes_index
from dataloader.datasets.nuscenes.build import build_index
from dataloader.datasets.nuscenes.index import NuScenesIndex, open_index
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.nuscenes.tables import CAMERAS
from tests.support.nuscenes import IMAGE_SIZE, LABEL_MAPPING, ROOT, category_names, read_table, write_table, write_tree
from utils import locks
from utils.errors import UserError
from utils.labels import LabelMap

VERSION = "v1.0-mini"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, not to be changed, without an index."""
    return write_tree(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture
def tree(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change; the user's cache is a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(fresh, tmp_path / "data"))


class Build:
    """Builds the index in this process, and counts how often."""

    def __init__(self, root: Path) -> None:
        self.root, self.times = root, 0

    def __call__(self) -> NuScenesIndex:
        self.times += 1
        return build_index(self.root, VERSION)


def same(one: NuScenesIndex, other: NuScenesIndex) -> bool:
    parts = (one.categories, one.records.dtype) == (other.categories, other.records.dtype)
    return parts and np.array_equal(one.records, other.records)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if "2dpass" in path.name}


def test_the_records_are_the_tables(fresh):
    index = build_index(fresh, VERSION)
    tables = {name: {r["token"]: r for r in read_table(fresh, name)} for name in ("scene", "sample", "sample_data")}
    lidarseg = {r["sample_data_token"]: r["filename"] for r in read_table(fresh, "lidarseg")}
    frames = {(r["sample_token"], r["filename"].split("/")[1]): r for r in tables["sample_data"].values()
              if r["is_key_frame"]}  # fmt: skip
    by_time = [
        (tables["scene"][sample["scene_token"]]["name"], sample["timestamp"], token)
        for token, sample in tables["sample"].items()
    ]
    assert len(by_time) == len(index.records) == 6
    for record, (scene, _, sample) in zip(index.records, sorted(by_time), strict=True):
        lidar = frames[sample, "LIDAR_TOP"]
        assert record["scene"].decode() == scene and record["token"].decode() == lidar["token"]
        assert record["lidar"].decode() == lidar["filename"]
        assert record["lidarseg"].decode() == lidarseg[lidar["token"]]
        assert [name.decode() for name in record["images"]] == [frames[sample, c]["filename"] for c in CAMERAS]
        assert record["sizes"].tolist() == [list(IMAGE_SIZE)] * 6
        assert record["matrices"].dtype == np.float64
    assert index.categories == dict(enumerate(category_names()))


def test_a_tree_without_lidarseg(tmp_path):
    index = build_index(write_tree(tmp_path, "v1.0-test", {"scene-0077": 1}, categories=None), "v1.0-test")
    assert index.categories == {} and index.records["lidarseg"].tolist() == [b""]


def test_built_once_then_opened(tree, capsys):
    build = Build(tree)
    first = open_index(tree / VERSION, build)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tree / VERSION / "2dpass_index.npy") in said
    second = open_index(tree / VERSION, build)
    assert build.times == 1 and same(first, second) and same(first, build_index(tree, VERSION))
    assert capsys.readouterr().err == ""
    assert isinstance(second.records, np.memmap) and not second.records.flags.writeable
    assert files(tree / VERSION) == {"2dpass_index.npy", "2dpass_index.json"}


def test_no_devkit_is_needed(tree):
    program = (
        "import sys\n"
        "from dataloader.datasets.nuscenes.source import NuScenes\n"
        "from utils.labels import LabelMap\n"
        f"labels = LabelMap.load({str(LABEL_MAPPING)!r})\n"
        f"source = NuScenes({str(tree)!r}, {VERSION!r}, 'mini_val', labels, (48, 32))\n"
        "assert len(source) == 3 and len(source.read(2, 4)) == 600\n"
        "print(sorted({'nuscenes', 'cv2', 'matplotlib', 'pyquaternion'} & set(sys.modules)))\n"
    )
    # The first entry of the path has a module in its place that cannot be imported.
    (tree / "hidden").mkdir()
    (tree / "hidden" / "nuscenes.py").write_text("raise ImportError")
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'hidden'}:{ROOT}"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.stdout, result.returncode) == ("[]\n", 0)
    assert result.stderr.count("\n") == 1 and "reading the nuScenes tables" in result.stderr


def _touch(root):
    status = (root / VERSION / "map.json").stat()
    os.utime(root / VERSION / "map.json", ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def _rename_scene(root):
    records = read_table(root, "scene")
    next(record for record in records if record["name"] == "scene-0061")["name"] = "scene-0062"
    path = root / VERSION / "scene.json"
    status, size = path.stat(), path.stat().st_size
    write_table(root, "scene", records)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert path.stat().st_size == size


def _grow(root):
    path = root / VERSION / "log.json"
    status = path.stat()
    path.write_text(path.read_text() + "\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _add_table(root):
    (root / VERSION / "image_annotations.json").write_text("[]")


def _remove_table(root):
    (root / VERSION / "lidarseg.json").unlink()


@pytest.mark.parametrize("change", [_touch, _rename_scene, _grow, _add_table, _remove_table])
def test_other_tables_make_another_index(tree, change):
    build = Build(tree)
    open_index(tree / VERSION, build)
    change(tree)
    index = open_index(tree / VERSION, build)
    assert build.times == 2 and same(index, build_index(tree, VERSION))
    open_index(tree / VERSION, build)
    assert build.times == 2


def test_another_format_makes_another_index(tree, monkeypatch):
    build = Build(tree)
    open_index(tree / VERSION, build)
    monkeypatch.setattr(nuscenes_index, "_FORMAT", nuscenes_index._FORMAT + 1)
    open_index(tree / VERSION, build)
    assert build.times == 2


def _overwrite(content):
    return lambda path: path.write_bytes(content)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def _swap_names(path):
    path.write_text(path.read_text().replace('"vehicle.car"', '"vehicle.bus.bendy"'))


def _harmful(path):
    np.save(path, np.array([print], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("2dpass_index.npy", Path.unlink),
        ("2dpass_index.json", Path.unlink),
        ("2dpass_index.npy", _overwrite(b"")),
        ("2dpass_index.json", _overwrite(b"")),
        ("2dpass_index.json", _overwrite(b"[]")),
        ("2dpass_index.json", _overwrite(b"{}")),
        ("2dpass_index.json", _overwrite(b'{"tables": 3, "categories": 4, "format": 2, "checksum": 0}')),
        ("2dpass_index.json", _overwrite(b"\xff\xfe")),
        ("2dpass_index.json", _swap_names),
        ("2dpass_index.npy", lambda path: os.truncate(path, path.stat().st_size - 1)),
        ("2dpass_index.npy", lambda path: os.truncate(path, 40)),
        ("2dpass_index.npy", _flip),
        ("2dpass_index.npy", _harmful),
    ],
)
def test_a_damaged_index_is_built_anew(tree, name, damage):
    build = Build(tree)
    whole = open_index(tree / VERSION, build)
    whole = NuScenesIndex(np.array(whole.records), whole.categories)
    damage(tree / VERSION / name)
    assert same(open_index(tree / VERSION, build), whole) and build.times == 2
    assert same(open_index(tree / VERSION, build), whole) and build.times == 2


def _forge(tree, change):
    """Changes the records, and makes the header fit them again: an index may come with a data set."""
    folder = tree / VERSION
    records = change(np.load(folder / "2dpass_index.npy"))
    np.save(folder / "2dpass_index.npy", records)
    header = json.loads((folder / "2dpass_index.json").read_text())
    about = {key: header[key] for key in ("tables", "categories")}
    header["checksum"] = nuscenes_index._checksum(folder / "2dpass_index.npy", about)
    (folder / "2dpass_index.json").write_text(json.dumps(header))


def _set(column, value):
    def change(records):
        records[column] = value
        return records

    return change


@pytest.mark.parametrize("column", ["token", "lidar", "lidarseg", "images"])
@pytest.mark.parametrize("name", [b"../../x", b"/etc/x", b"a\nb", b"\xff", b"\x1b[0m"])
def test_a_forged_index_leads_nowhere(tree, column, name):
    open_index(tree / VERSION, Build(tree))
    _forge(tree, _set(column, name))
    with pytest.raises(UserError) as caught:
        NuScenes(tree, VERSION, "mini_val", LabelMap.load(LABEL_MAPPING), (48, 32))
    message = str(caught.value)
    assert f"2dpass_index.npy: {'token' if column == 'token' else 'filename'} " in message and message.isprintable()


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records[["scene", "token"]],
        lambda records: records.reshape(1, -1),
        lambda records: records["matrices"],
        lambda records: records.astype([(n, "U9" if n == "token" else records.dtype[n]) for n in records.dtype.names]),
        _set("sizes", 0),
    ],
)
def test_an_index_of_another_layout_is_built_anew(tree, change):
    build = Build(tree)
    whole = open_index(tree / VERSION, build)
    whole = NuScenesIndex(np.array(whole.records), whole.categories)
    _forge(tree, change)
    assert same(open_index(tree / VERSION, build), whole) and build.times == 2


def test_a_pipe_in_the_place_of_the_index_keeps_nobody_waiting(tree):
    build = Build(tree)
    for name in ("2dpass_index.npy", "2dpass_index.json"):
        open_index(tree / VERSION, build)
        (tree / VERSION / name).unlink()
        os.mkfifo(tree / VERSION / name)
        open_index(tree / VERSION, build)
    assert build.times == 4 and (tree / VERSION / "2dpass_index.npy").is_fifo()  # each time anew: a pipe stays


@pytest.fixture
def refuse_writing(monkeypatch: pytest.MonkeyPatch):
    """Nothing can be written below some folders; permissions alone do not stop root, who may run the tests."""

    def refuse(*folders):
        def guarded(file, mode="r", *args, **kwargs):
            if mode[0] in "wxa" and any(Path(file).is_relative_to(folder) for folder in folders):
                raise PermissionError(13, "Permission denied", str(file))
            return builtins.open(file, mode, *args, **kwargs)

        monkeypatch.setattr(nuscenes_index, "open", guarded, raising=False)

    return refuse


def test_what_cannot_be_written_is_kept_in_the_cache(tree, tmp_path, refuse_writing, capsys):
    refuse_writing(tree)
    build = Build(tree)
    first = open_index(tree / VERSION, build)
    kept = [path for path in (tmp_path / "cache" / "2dpass").rglob("*") if path.is_file()]
    assert sorted(path.name for path in kept) == ["2dpass_index.json", "2dpass_index.npy"]
    assert str(kept[0].parent) in capsys.readouterr().err
    assert same(open_index(tree / VERSION, build), first) and build.times == 1
    assert files(tree / VERSION) == set()
    _touch(tree)
    open_index(tree / VERSION, build)
    assert build.times == 2


def test_two_trees_do_not_share_a_place_in_the_cache(tree, tmp_path, refuse_writing):
    other = Path(shutil.copytree(tree, tmp_path / "other"))
    refuse_writing(tree, other)
    for root in (tree, other):
        open_index(root / VERSION, Build(root))
    assert len(list((tmp_path / "cache" / "2dpass").iterdir())) == 2


@pytest.mark.parametrize("cache", ["refused", "a file", "no home"])
def test_nothing_can_be_written_at_all(tree, tmp_path, refuse_writing, capsys, monkeypatch, cache):
    refuse_writing(tree, tmp_path / "cache")
    if cache == "a file":
        (tmp_path / "cache").write_text("")
    elif cache == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "nowhere")
    build = Build(tree)
    index = open_index(tree / VERSION, build)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not kept" in said and str(tree / VERSION) in said
    assert same(index, build_index(tree, VERSION)) and same(pickle.loads(pickle.dumps(index)), index)
    assert files(tree / VERSION) == set() and not Path("nowhere").exists()


def test_a_full_disk(tree, monkeypatch, capsys):
    def save(file, *args, **kwargs):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nuscenes_index.np, "save", save)
    index = open_index(tree / VERSION, Build(tree))
    assert len(index.records) == 6 and index.kept is None
    assert "No space left on device" in capsys.readouterr().err
    assert files(tree / VERSION) == set()


def _open_and_report(root, start, reports):
    start.wait()
    index = open_index(root / VERSION, partial(build_index, root, VERSION))
    reports.put((index.records.tobytes(), index.kept is not None))


def test_several_processes_at_once_build_once_and_agree(tree, capfd):
    context = multiprocessing.get_context("fork")
    start, reports = context.Event(), context.Queue()
    processes = [context.Process(target=_open_and_report, args=(tree, start, reports)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    content = [reports.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert set(content) == {(build_index(tree, VERSION).records.tobytes(), True)}
    assert capfd.readouterr().err.count("reading the nuScenes tables") == 1
    assert files(tree / VERSION) == {"2dpass_index.npy", "2dpass_index.json"}


def test_without_locks_each_builds_and_all_agree(tree, monkeypatch):
    """A second process writes its index while the first one is building."""

    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    inner = Build(tree)

    def build():
        open_index(tree / VERSION, inner)
        return build_index(tree, VERSION)

    index = open_index(tree / VERSION, build)
    assert inner.times == 1 and same(index, open_index(tree / VERSION, inner)) and inner.times == 1


def test_the_lock_is_one_that_nfs_gives(tree, monkeypatch):
    """NFS refuses an exclusive lock on what is open for reading only, a folder above all."""
    lock, given = fcntl.lockf, []

    def lockf(file, *args):
        if not fcntl.fcntl(file, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
            raise OSError(9, "Bad file descriptor")
        lock(file, *args)
        given.append(os.fstat(file).st_mode)

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    open_index(tree / VERSION, Build(tree))
    assert [stat.S_ISREG(mode) for mode in given] == [True]
    assert files(tree / VERSION) == {"2dpass_index.npy", "2dpass_index.json"}


def test_a_killed_start_keeps_nobody_waiting(tree, tmp_path):
    """Neither the lock nor the process that reads the tables outlives it."""
    program = (
        "import os, sys, time\n"
        "import dataloader.datasets.nuscenes.build as module\n"
        "from dataloader.datasets.nuscenes.source import NuScenes\n"
        "from utils.labels import LabelMap\n"
        "def build_index(root, version):\n"
        f"    open({str(tmp_path / 'reader')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "module.build_index = build_index\n"
        f"NuScenes({str(tree)!r}, {VERSION!r}, 'mini_val', LabelMap.load({str(LABEL_MAPPING)!r}))\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: (tmp_path / "reader").exists() and (tmp_path / "reader").read_text())
    killed.kill()
    killed.wait()
    reader = int((tmp_path / "reader").read_text())
    wait_for(lambda: not is_running(reader))
    build = Build(tree)
    open_index(tree / VERSION, build)
    assert build.times == 1 and files(tree / VERSION) == {"2dpass_index.npy", "2dpass_index.json"}


def wait_for(happened: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_started_afresh_gets_the_place_only(tree):
    index = open_index(tree / VERSION, Build(tree))
    content = pickle.dumps(index)
    assert len(content) < 500
    again = pickle.loads(content)
    assert same(again, index) and isinstance(again.records, np.memmap)
    header = json.loads((tree / VERSION / "2dpass_index.json").read_text())
    _rename_scene(tree)
    open_index(tree / VERSION, Build(tree))
    assert json.loads((tree / VERSION / "2dpass_index.json").read_text())["checksum"] != header["checksum"]
    with pytest.raises(UserError, match=r"2dpass_index\.npy: removed or replaced while the program ran"):
        pickle.loads(content)
    assert index.records["scene"][0] == b"scene-0061"  # who has it open keeps what it had


def test_a_killed_reader_is_one_clear_line(tree, monkeypatch):
    monkeypatch.setattr("dataloader.datasets.nuscenes.build.build_index", _die)
    with pytest.raises(UserError, match=r"v1\.0-mini: reading the tables was stopped, probably because memory ran out"):
        NuScenes(tree, VERSION, "mini_train", LabelMap.load(LABEL_MAPPING))


def _die(root, version):
    os._exit(9)
