"""The data base of objects: which scans it is of, and that it is whole whatever happens to those who build it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from dataloader.catalogue import load_label_map
from dataloader.datamodule import DataModule
from dataloader.object_base import ObjectBase, chosen
from dataloader.objects.boxes import box_around, inside, lattice, turned, turned_box
from dataloader.objects.cutting import Cut
from dataloader.objects.files import read_objects, write_objects
from dataloader.objects.records import FACTS, Objects
from tests.support.full_disk import files_of_at_most
from tests.support.scenes import CAR, PERSON, ROAD, SIDEWALK, Street, street_scan, write_streets
from utils.config.loading import load_config
from utils.errors import UserError
from utils.scan.records import Scan

CUT = Cut((CAR, PERSON), (ROAD, SIDEWALK), 20)
ROOT = Path(__file__).parents[2]


def base(folder: Path, processes: int = 0, most: int = 100) -> ObjectBase:
    return ObjectBase(folder, "made-up", CUT, most, processes)


def same(one: Objects, other: Objects) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("points", "facts", "class_points"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_objects_are_cut_out_whole_and_once(tmp_path, monkeypatch) -> None:
    objects = base(tmp_path).open(Street(), 4)
    assert len(objects) == 4 * 7 and (objects.facts["count"] == 60).all()
    for row, start in enumerate(objects.starts[:-1].tolist()):
        facts, scan = objects.facts[row], street_scan(int(objects.facts["scan"][row]))
        expected = scan.select(scan.instances == facts["instance"])
        assert np.array_equal(objects.points[start : start + 60, :3], expected.xyz)
        assert np.array_equal(objects.points[start : start + 60, 3], expected.intensity)
        assert facts["label"] == expected.labels[0] and facts["surface"] == (
            ROAD if facts["label"] == CAR else SIDEWALK
        )
    monkeypatch.setattr(Cut, "objects", None)  # nothing is cut out again
    assert same(base(tmp_path).open(Street(), 4), objects)


def test_several_processes_cut_the_same(tmp_path) -> None:
    assert same(base(tmp_path / "a", processes=2).open(Street(), 4), base(tmp_path / "b").open(Street(), 4))


def test_other_scans_labels_or_numbers_are_another_data_base(tmp_path, monkeypatch) -> None:
    opened = [
        base(tmp_path).open(Street(), 4),
        base(tmp_path).open(Street(), 2),
        base(tmp_path, most=3).open(Street(), 4),
    ]
    assert [len(objects) for objects in opened] == [28, 14, 6]
    assert set(opened[1].facts["scan"]) == {0, 1}
    monkeypatch.setattr("tests.support.scenes.LIFT", {CAR: 0.3, PERSON: 0.1})  # the scans have been replaced
    assert not same(base(tmp_path).open(Street(), 4), opened[0])
    assert len(files(tmp_path)) == 4


def test_objects_without_instance_ids_are_found_by_their_nearness() -> None:
    scan = street_scan(0)
    by_id = CUT.objects(scan, 0)
    nameless = Scan(**{**vars(scan), "instances": np.zeros_like(scan.instances)})
    found = CUT.objects(nameless, 0)
    assert len(found) == 7 and {frozenset(p) for p in _points(found)} == {frozenset(p) for p in _points(by_id)}


def _points(objects: Objects) -> list[list[float]]:
    return [part[:, 3].tolist() for part in np.split(objects.points, objects.starts[1:-1])]


def test_the_choice_does_not_depend_on_earlier_choices() -> None:
    parts = [CUT.objects(street_scan(number), number) for number in range(8)]
    at_once = chosen(Objects.joined(parts), 5)
    first = chosen(Objects.joined(parts[:3]), 5)
    assert same(chosen(Objects.joined([first, *parts[3:]]), 5), at_once)
    assert len(set(at_once.facts["scan"])) > 3  # not those of the first scans


def _large(number: int, counts: list[int], first: int = 1) -> Objects:
    """Objects of so many points, with the instance ids from `first` on."""
    facts = np.zeros(len(counts), FACTS)
    facts["scan"], facts["label"], facts["count"] = number, CAR, counts
    facts["instance"] = np.arange(first, first + len(counts))
    return Objects(np.zeros((sum(counts), 4), np.float32), facts, np.zeros(20, np.int64))


def test_the_choice_does_not_depend_on_earlier_choices_where_points_are_many() -> None:
    """One object too many for the points is left out, and what comes after it is, too, however small."""
    large = _large(0, [19_990] * 21)
    for instance in range(1, 60):
        part = _large(1, [20], instance)
        at_once = chosen(Objects.joined([large, part]), 500)
        in_parts = chosen(Objects.joined([chosen(large, 500), part]), 500)
        assert np.array_equal(in_parts.facts, at_once.facts)


class _Slow(Street):
    """Scans of which the last one is written down when it is read; the file `stop` makes that last for ever."""

    def __init__(self, folder: Path) -> None:
        super().__init__(4)
        self._folder = folder

    def read(self, index: int, camera: int | None = 0) -> Scan:
        if index == 3:
            with open(self._folder / "read", "a") as file:
                file.write("x")
            while (self._folder / "stop").exists():
                time.sleep(0.01)
        return super().read(index)


def _open(folder: Path, log: Path) -> None:
    base(folder).open(_Slow(log), 4)


def test_a_killed_build_leaves_nothing_and_of_several_one_builds(tmp_path, monkeypatch) -> None:
    folder, log = tmp_path / "base", tmp_path
    monkeypatch.setattr("dataloader.object_base._LOOKED_AT", 1)  # the fingerprint reads scan 0 alone
    fork = multiprocessing.get_context("fork")
    (log / "stop").touch()
    first = fork.Process(target=_open, args=(folder, log))
    first.start()
    while not (log / "read").exists():
        time.sleep(0.01)
    assert first.pid is not None
    others = [fork.Process(target=_open, args=(folder, log)) for _ in range(2)]
    for process in others:
        process.start()
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert not list(folder.rglob("*.npz"))
    (log / "stop").unlink()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0]
    assert (log / "read").read_text() == "xx"  # the killed one, and one of the others
    assert files(folder) == ["objects.npz"]
    assert same(base(folder).open(_Slow(log), 4), base(tmp_path / "alone").open(Street(), 4))


def _with(objects: Objects, **columns) -> Objects:
    facts = objects.facts.copy()
    for name, value in columns.items():
        facts[name][0] = value
    return Objects(objects.points, facts, objects.class_points)


def test_a_spoilt_file_is_refused_in_one_line(tmp_path) -> None:
    objects = base(tmp_path).open(Street(), 4)
    (path,) = tmp_path.rglob("objects.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    spoilt = [whole[:middle], b"", b"PK" + bytes(100), whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]]
    bad = [{"label": 3}, {"surface": 1}, {"count": 59}, {"scan": -1}, {"ground": np.nan}, {"box": np.inf}]
    bad += [{"box": (5, 5, 0, 0, 0)}, {"box": (40, 40, 2, 1, 0)}]
    for columns in bad:
        write_objects(tmp_path / "bad.npz", _with(objects, **columns))
        spoilt.append((tmp_path / "bad.npz").read_bytes())
    np.savez(tmp_path / "pickled.npz", points=np.array([{}], dtype=object))
    spoilt.append((tmp_path / "pickled.npz").read_bytes())
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(UserError, match="remove it, and it is built again") as caught:
            base(tmp_path).open(Street(), 4)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert same(read_objects(path, CUT), objects)


@pytest.mark.filterwarnings("error")  # also about what is raised while objects are removed from memory
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path) -> None:
    with files_of_at_most(3000), pytest.raises(UserError, match=r"objects\.npz: .*be written \(File too large\)"):
        base(tmp_path).open(Street(), 4)
    gc.collect()
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.*cannot be made.*instance_paste\.database"):
        base(tmp_path / "file").open(Street(), 4)
    with pytest.raises(UserError, match=r"cannot be made \(File name too long\).*instance_paste\.database"):
        base(tmp_path / ("a" * 300)).open(Street(), 4)


def test_boxes() -> None:
    rng = np.random.default_rng(0)
    box = np.array([5.0, -3.0, 2.0, 0.8, 0.7])
    turn = np.array([[np.cos(0.7), np.sin(0.7)], [-np.sin(0.7), np.cos(0.7)]])
    xy = (rng.uniform(-1, 1, (4000, 2)) * box[2:4]) @ turn + box[:2]
    assert inside(box, xy).all() and not inside(box, xy + 3).any()
    found = box_around(xy.astype(np.float32))
    assert inside(found, xy, 1e-4).all() and found[2] * found[3] < 1.15 * 1.6
    points = lattice(box)
    apart = np.linalg.norm(points[None, :] - xy[:200, None], axis=2).min(axis=1)
    assert inside(box, points, 1e-9).all() and apart.max() < 0.09
    assert np.allclose(turned(points, np.array([0.0, 1.1]))[1], lattice(turned_box(box, 1.1)))


def opened(streets: Path, database: Path, *settings: str) -> DataModule:
    mixing = f"{{instance_paste: {{chance: 1, database: {database}}}}}"
    data = [f"dataset_params.{part}_data_loader.data_path={streets}" for part in ("train", "val")]
    config = load_config(
        ROOT / "config" / "MinkowskiNet-demo.yaml", [*data, f"dataset_params.mixing={mixing}", *settings]
    )
    return DataModule(config, load_label_map(config), fit=True)


def intensities(data: DataModule) -> set[float]:
    assert data.training_set is not None and data.training_set.augment is not None
    mixing = data.training_set.augment.mixing
    assert mixing is not None
    ((kind, _),) = mixing.kinds
    (paste,) = kind.pairs
    return set(np.floor(paste.objects.points[:, 3] / 100).tolist())  # type: ignore[attr-defined]


def test_only_scans_that_are_trained_on_give_objects(tmp_path) -> None:
    """Scans of validation have numbers from 0 as well, but other objects."""
    streets = write_streets(tmp_path / "sequences")
    data = opened(streets, tmp_path / "base")
    validation = {float(value) for n in range(2) for value in street_scan(n, "08").xyz[-420:, 0]}
    assert data.training_set is not None and data.training_set.augment is not None
    assert intensities(data) == {0, 1, 2, 3}
    (path,) = (tmp_path / "base").rglob("objects.npz")
    with np.load(path) as archive:
        assert not validation & set(archive["points"][:, 0].tolist())
    assert intensities(opened(streets, tmp_path / "base", "dataset_params.label_fraction=0.5")) < {0, 1, 2, 3}
    opened(streets, tmp_path / "base", "train_params.trainval=true")
    assert len(files(tmp_path / "base")) == 3
    pasted = data.training_set[0].scan
    assert (pasted.index == -1).any()
    for key, words in (("[tree]", "tree is no countable thing"), ("[truck]", "no truck could be cut out of the 4")):
        with pytest.raises(UserError, match=words):
            opened(streets, tmp_path / "base", f"dataset_params.mixing.instance_paste.classes={key}")


def _column(scan: Scan, row: int, **values: float) -> Scan:
    """Changes the coordinates or the intensity of a row."""
    xyz, intensity = scan.xyz.copy(), scan.intensity.copy()
    for name, value in values.items():
        if name == "intensity":
            intensity[row] = value
        else:
            xyz[row, "xyz".index(name)] = value
    return Scan(**{**vars(scan), "xyz": xyz, "intensity": intensity})


class _Odd(Street):
    """Scans of which one has a point as no sensor measures it, on a car or on the ground."""

    def __init__(self, label: int, values: dict[str, float], instances: bool) -> None:
        super().__init__(2)
        self._label, self._values, self._instances = label, values, instances

    def read(self, index: int, camera: int | None = 0) -> Scan:
        scan = super().read(index)
        if not self._instances:
            scan = Scan(**{**vars(scan), "instances": np.zeros_like(scan.instances)})
        return _column(scan, int(np.flatnonzero(scan.labels == self._label)[0]), **self._values) if index else scan


ODD = {
    "a return from the sky": {"z": 150.0},
    "a huge number": {"x": 1e30, "y": -1e30},
    "no place": {"x": np.nan},
    "no intensity": {"intensity": np.nan},
    "an endless intensity": {"intensity": np.inf},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("instances", [True, False])
@pytest.mark.parametrize("label", [CAR, ROAD])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_point_is_left_out_and_the_file_can_be_read(tmp_path, name, label, instances) -> None:
    objects = base(tmp_path).open(_Odd(label, ODD[name], instances), 2)
    assert sorted(objects.facts["count"].tolist()) == ([59] if label == CAR else [60]) + [60] * 13
    counts = sum(np.bincount(street_scan(number).labels, minlength=20) for number in range(2))
    assert np.array_equal(objects.class_points, counts)
