"""The command make_corruptions: it reads a clean tree and writes corrupted trees and a note. The corruptions themselves
are tested elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dataloader.catalogue import DATA_SETS
from dataloader.corruptions.families import CORRUPTED_SETS
from dataloader.corruptions.fog import ALPHAS
from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.semantickitti.corrupted import CorruptedKITTI
from tests.support.demo import file_bytes
from tools import make_corruptions
from tools.corrupting.frame import FrameResult
from tools.corrupting.ledger import Ledger
from utils.corruptions import CLEAN_FOLDER
from utils.labels import LabelMap

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "semantickitti_tree" / "sequences"


@pytest.fixture
def clean(tmp_path):
    """Copies the golden sequences: two scans of sequence 08."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "sequences"))


@pytest.fixture(scope="module")
def label_map():
    return LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")


def run(data_path, *flags, family="yan", workers=1):
    return make_corruptions.main(
        ["--family", family, "--data_path", str(data_path), "--workers", str(workers), *map(str, flags)]
    )


def note_of(folder):
    return json.loads((folder / "corruptions.json").read_text())


def points(path, columns=4):
    return np.fromfile(path, "<f4").reshape(-1, columns)


def entries(path, kind="<u4"):
    return np.fromfile(path, kind)


def test_yan_in_full(demo_trees, tmp_path, capsys, label_map):
    """The command writes every subset of the demo street, in the published layout, beside the source by default."""
    data = tmp_path / "sequences"
    data.symlink_to(demo_trees["SemanticKITTI"])
    assert run(data) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["clean_data", *(subset.name for subset in CORRUPTED_SETS["yan"]["SemanticKITTI"])]
    assert lines[0] == f"{tmp_path / 'SemanticKITTI-C'}:"
    assert [line.split()[0] for line in lines[1:]] == names
    output = tmp_path / "SemanticKITTI-C"
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    expected = {f"{name}/{part}" for name in names for part in ("velodyne/000000.bin", "labels/000000.label")}
    assert found == expected | {"corruptions.json"}

    source = demo_trees["SemanticKITTI"] / "08"
    raw = entries(source / "labels" / "000000.label")
    scan = points(source / "velodyne" / "000000.bin")
    assert (output / "clean_data/velodyne/000000.bin").read_bytes() == scan.tobytes()
    assert (output / "clean_data/labels/000000.label").read_bytes() == raw.tobytes()
    for name in names:
        source = CorruptedKITTI(output / name, name, label_map)
        assert len(source) == 1 and len(source.read(0).labels) > 50

    moved, labels = (
        points(output / "local_heavy/velodyne/000000.bin"),
        entries(output / "local_heavy/labels/000000.label"),
    )
    hit = (moved[:, :3] != scan[:, :3]).any(axis=1)
    assert hit.sum() == int(0.2 * len(scan)) and (labels[hit] == 1).all()
    assert np.array_equal(labels[~hit], raw[~hit]) and (raw >> 16).any()  # instances stay
    added = points(output / "global_heavy/velodyne/000000.bin")
    assert len(added) == len(scan) + len(scan) // 2 and np.array_equal(added[: len(scan)], scan)
    assert (entries(output / "global_heavy/labels/000000.label")[len(scan) :] == 1).all()


def test_robo3d_semantickitti(clean, tmp_path):
    assert run(clean, "--subsets", "crosstalk", "beam_missing/heavy", "fog", family="robo3d") == 0
    output = tmp_path / "Robo3D" / "SemanticKITTI-C"
    names = {path.parent.relative_to(output).as_posix() for path in output.rglob("labels")}
    assert names == {f"{name}/{s}" for name in ("crosstalk", "fog") for s in ("light", "moderate", "heavy")} | {
        "beam_missing/heavy"
    }
    for frame in ("000000", "000001"):
        scan = points(clean / "08" / "velodyne" / f"{frame}.bin")
        raw = entries(clean / "08" / "labels" / f"{frame}.label")
        assert (raw >> 16).any()
        noisy = entries(output / f"crosstalk/heavy/labels/{frame}.label")
        hit = (points(output / f"crosstalk/heavy/velodyne/{frame}.bin") != scan).any(axis=1)
        assert hit.sum() == int(0.01 * len(scan)) and (noisy[hit] == 23).all()
        assert np.array_equal(noisy[~hit], raw[~hit] & 0xFFFF)  # without instances, as published
        fewer = entries(output / f"beam_missing/heavy/labels/{frame}.label")
        assert 0 < len(fewer) < len(raw) and (fewer >> 16).any()
        foggy = entries(output / f"fog/heavy/labels/{frame}.label")
        assert set(np.unique(foggy)) <= {*np.unique(raw & 0xFFFF), 21} and (foggy == 21).any()


def test_nuscenes(demo_trees, tmp_path):
    flags = ("--dataset", "nuscenes", "--output", tmp_path / "c", "--subsets", "crosstalk/light", "cross_sensor")
    tree = demo_trees["nuScenes"]
    assert run(tree, *flags, family="robo3d") == 0
    label_map = LabelMap.load(ROOT / "config" / "label_mapping" / "nuscenes.yaml")
    source = NuScenes(tree, "v1.0-mini", "mini_val", label_map)
    for index in range(len(source)):
        frame = source.frame(index)
        name = Path(frame.path).name
        scan = points(frame.path, 5)
        raw = entries(tree / "lidarseg" / "v1.0-mini" / f"{frame.name}_lidarseg.bin", "u1")
        for subset in ("crosstalk/light", "cross_sensor/heavy"):
            found = points(tmp_path / "c" / subset / "samples" / "LIDAR_TOP" / name, 5)
            labels = entries(tmp_path / "c" / subset / "lidarseg" / "v1.0-mini" / f"{frame.name}_lidarseg.bin", "u1")
            assert len(found) == len(labels)
            if subset == "crosstalk/light":
                hit = (found != scan).any(axis=1)
                assert hit.sum() == int(0.03 * len(scan)) and (labels[hit] == 43).all()
                assert np.array_equal(labels[~hit], raw[~hit])
                assert np.array_equal(found[:, 4], scan[:, 4])  # the ring stays
            else:
                gone = [1 + 133 * k // 100 for k in range(24)]
                kept = np.flatnonzero(~np.isin(scan[:, 4], gone))[::2]
                assert np.array_equal(found, scan[kept]) and np.array_equal(labels, raw[kept])
    clean = NuScenes(tree, "v1.0-mini", "mini_val", label_map)
    assert len(CorruptedNuScenes(tmp_path / "c" / "crosstalk/light", "crosstalk/light", clean, "v1.0-mini")) == len(
        clean
    )
    assert note_of(tmp_path / "c")["options"]["clean"]["split"] == "mini_val"


def test_workers_and_order_do_not_matter(clean, tmp_path):
    names = ["crosstalk/light", "incomplete_echo/light", "fog/moderate"]
    assert run(clean, "--output", tmp_path / "a", "--subsets", *names, family="robo3d") == 0
    assert run(clean, "--output", tmp_path / "b", "--subsets", *names, family="robo3d", workers=2) == 0
    assert file_bytes(tmp_path / "a") == file_bytes(tmp_path / "b")
    for name in reversed(names):
        assert run(clean, "--output", tmp_path / "c", "--subsets", name, family="robo3d") == 0
    one, other = file_bytes(tmp_path / "a"), file_bytes(tmp_path / "c")
    assert {**one, "corruptions.json": b""} == {**other, "corruptions.json": b""}
    assert run(clean, "--output", tmp_path / "d", "--subsets", *names, "--seed", 1, family="robo3d") == 0
    seeded = file_bytes(tmp_path / "d")
    assert all(one[name] != seeded[name] for name in one if name.startswith("crosstalk/light/velodyne"))
    first, second = (one[f"crosstalk/light/velodyne/00000{frame}.bin"] for frame in (0, 1))
    assert first != second


def test_a_run_is_taken_up(clean, tmp_path, capsys):
    output = tmp_path / "c"
    flags = ("--output", output, "--subsets", "global", "local_light")
    assert run(clean, *flags) == 0
    complete, said = file_bytes(output), capsys.readouterr().out
    for path in output.rglob("*"):
        os.utime(path, ns=(0, 0))
    # As if it had been killed: a frame without labels, one half written, one not begun, and the note behind.
    (output / "global_heavy/labels/000001.label").unlink()
    (output / "local_light/labels/000000.label").unlink()
    (output / "local_light/velodyne/000000.bin").rename(output / "local_light/velodyne/.000000.bin.7.partial")
    for part in ("velodyne/000001.bin", "labels/000001.label"):
        (output / "global_light" / part).unlink()
    note = note_of(output)
    for name in ("global_light", "local_light"):
        del note["subsets"][name]
    (output / "corruptions.json").write_text(json.dumps(note))

    assert run(clean, *flags) == 0
    assert capsys.readouterr().out == said
    again = file_bytes(output)
    again.pop("local_light/velodyne/.000000.bin.7.partial", None)
    assert {name: data for name, data in again.items() if name != "corruptions.json"} == {
        name: data for name, data in complete.items() if name != "corruptions.json"
    }
    assert note_of(output)["subsets"] == json.loads(complete["corruptions.json"])["subsets"]
    fresh = {path.relative_to(output).as_posix() for path in output.rglob("*.*") if path.stat().st_mtime_ns > 0}
    redone = [("global_heavy", "000001"), ("global_light", "000001"), ("local_light", "000000")]
    expected = {f"{name}/{part}" for name, f in redone for part in (f"velodyne/{f}.bin", f"labels/{f}.label")}
    assert fresh == expected | {"corruptions.json"}


def test_a_finished_run_reads_nothing(clean, tmp_path, monkeypatch):
    flags = ("--output", tmp_path / "c", "--subsets", "dense_32beam")
    assert run(clean, *flags) == 0
    monkeypatch.setattr(make_corruptions.Corruptor, "__call__", lambda *args: pytest.fail("nothing is left to do"))
    assert run(clean, *flags) == 0


def test_the_note(clean, tmp_path):
    output = tmp_path / "c"
    assert run(clean, "--output", output, "--subsets", "fog", "beam_missing/heavy", "--seed", 7, family="robo3d") == 0
    note = note_of(output)
    options = note["options"]
    assert (options["family"], options["dataset"], options["seed"]) == ("robo3d", "SemanticKITTI", 7)
    assert options["mode"] == "physical" and isinstance(options["generator"], int)
    assert options["clean"]["frames"] == 2 and options["clean"]["sequence"] == "08"
    assert set(note["subsets"]) == {"fog/light", "fog/moderate", "fog/heavy", "beam_missing/heavy"}
    fog = note["subsets"]["fog/heavy"]
    assert fog["parameters"]["beta"] == 0.2
    assert set(fog["drawn"]) == {"000000", "000001"}
    assert all(frame["alpha"] in ALPHAS for frame in fog["drawn"].values())
    beams = note["subsets"]["beam_missing/heavy"]
    sizes = [
        len(entries(output / f"beam_missing/heavy/labels/{frame}.label"))
        / len(entries(clean / "08" / "labels" / f"{frame}.label"))
        for frame in ("000000", "000001")
    ]
    assert beams["points_change_percent"] == pytest.approx(100 * (np.mean(sizes) - 1))
    assert beams["ignored_percent"] > 0 and "drawn" not in beams


def test_alpha_of_the_note_is_that_of_the_scan(clean, tmp_path):
    """The intensity of points that did not turn to fog fades by exp(-2 alpha R)."""
    assert run(clean, "--output", tmp_path, "--subsets", "fog/light", family="robo3d") == 0
    for frame, drawn in note_of(tmp_path)["subsets"]["fog/light"]["drawn"].items():
        before = points(clean / "08" / "velodyne" / f"{frame}.bin")
        after = points(tmp_path / "fog" / "light" / "velodyne" / f"{frame}.bin")
        clear = entries(tmp_path / "fog" / "light" / "labels" / f"{frame}.label") != 21
        clear &= before[:, 3] > 0
        faded = before[:, 3] * np.exp(-2 * drawn["alpha"] * np.linalg.norm(before[:, :3], axis=1))
        assert np.allclose(after[clear, 3], faded[clear], rtol=1e-4)


def test_choices_reach_the_files(clean, tmp_path):
    flags = ("--outlier_volume", 1, 2, 3, 4, 5, 6, "--altered_label", 0, "--outlier_intensity", "zero")
    assert run(clean, "--output", tmp_path / "c", "--subsets", "global_heavy", *flags) == 0
    count = len(points(clean / "08" / "velodyne" / "000000.bin"))
    added = points(tmp_path / "c" / "global_heavy" / "velodyne" / "000000.bin")[count:]
    assert (added[:, :3] >= [1, 2, 3]).all() and (added[:, :3] <= [4, 5, 6]).all() and (added[:, 3] == 0).all()
    assert (entries(tmp_path / "c" / "global_heavy" / "labels" / "000000.label")[count:] == 0).all()
    assert note_of(tmp_path / "c")["options"]["choices"]["outlier_volume"] == [1, 2, 3, 4, 5, 6]


def test_unknown_label_ids_are_ignored(clean, tmp_path):
    path = clean / "08" / "labels" / "000000.label"
    raw = entries(path)
    raw[:5] = 777
    raw.tofile(path)
    assert run(clean, "--output", tmp_path / "c", "--subsets", "local_light") == 0
    assert (entries(tmp_path / "c" / "clean_data" / "labels" / "000000.label")[:5] == 0).all()
    assert set(entries(tmp_path / "c" / "local_light" / "labels" / "000000.label")[:5]) <= {0, 1}


def test_points_without_a_place_are_left_out(clean, tmp_path):
    path = clean / "08" / "velodyne" / "000000.bin"
    scan = points(path)
    scan[3, 1] = np.nan
    scan.tofile(path)
    assert run(clean, "--output", tmp_path / "c", "--subsets", "motion_blur/light", family="robo3d") == 0
    assert len(points(tmp_path / "c" / "motion_blur/light/velodyne/000000.bin")) == len(scan) - 1
    raw = np.delete(entries(clean / "08" / "labels" / "000000.label"), 3) & 0xFFFF
    assert np.array_equal(entries(tmp_path / "c" / "motion_blur/light/labels/000000.label"), raw)


def complaint(capsys):
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    return error.removeprefix("error: ")


@pytest.mark.parametrize(
    ("family", "flags", "words"),
    [
        ("yan", ["--subsets", "fog_lite"], "--subsets fog_lite: no such subset of yan, did you mean fog_light?"),
        ("yan", ["--subsets", "xyz"], "--subsets xyz: no such subset of yan, they are fog_light, "),
        (
            "robo3d",
            ["--subsets", "fog_light"],
            "--subsets fog_light: no such subset of robo3d, did you mean fog/light?",
        ),
        ("yan", ["--dataset", "nuscenes"], "--family yan has no corruptions of nuScenes; take --family robo3d"),
        ("yan", ["--sequence", "09"], "sequences/09: no scans of sequence 09 there"),
        ("yan", ["--sequence", "11"], "sequences/11/labels/000000.label: missing"),
        ("robo3d", ["--dataset", "nuscenes"], "sequences: neither v1.0-trainval nor v1.0-mini there"),
        ("yan", ["--version", "v1.0-mini"], "--version means nothing for --dataset semantickitti; remove it"),
        (
            "robo3d",
            ["--dataset", "nuscenes", "--sequence", "08"],
            "--sequence means nothing for --dataset nuscenes; remove it",
        ),
        ("robo3d", ["--half", "random"], "--half means nothing for --family robo3d --dataset semantickitti"),
        ("robo3d", ["--nuscenes_blur", "1", "2", "3"], "--nuscenes_blur means nothing for"),
        ("yan", ["--beam_offset", "9"], "--beam_offset has to be 0 or 1, not 9"),
        ("yan", ["--snow_velocity", "1", "0", "2"], "--snow_velocity has to be above 0"),
        ("robo3d", ["--subsets", "clean_data"], "--subsets clean_data: no such subset of robo3d"),
        ("robo3d", ["--subsets", "clean"], "--subsets clean: no such subset of robo3d"),
        ("yan", ["--outlier_volume", "0", "0", "0", "1", "1", "inf"], "--outlier_volume 0 0 0 1 1 inf: give low"),
        ("yan", ["--outlier_volume", "1", "2"], "--outlier_volume 1 2: give low x y z and high x y z"),
        ("yan", ["--outlier_volume", "0", "0", "0", "1", "1", "x"], "--outlier_volume 0 0 0 1 1 x: give low"),
        ("yan", ["--outlier_volume", "0", "0", "0", "1", "1", "-1"], "--outlier_volume 0 0 0 1 1 -1: give low"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(clean, tmp_path, capsys, monkeypatch, family, flags, words):
    monkeypatch.chdir(tmp_path)
    assert run("sequences", *flags, family=family) == 2
    assert complaint(capsys).startswith(words)
    assert [path.name for path in tmp_path.iterdir()] == ["sequences"]


@pytest.mark.parametrize("flags", [["--seed", "-1"], ["--workers", "0"], ["--workers", "two"]])
def test_numbers_that_make_no_sense(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        run("nowhere", *flags)
    assert (
        ended.value.code == 2 and f"argument {flags[0]}: '{flags[1]}' is not a whole number" in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["clean", "clean_data"])
def test_the_clean_scans_alone(clean, tmp_path, name):
    assert run(clean, "--output", tmp_path / "c", "--subsets", name) == 0
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"clean_data", "corruptions.json"}
    assert (tmp_path / "c/clean_data/velodyne/000001.bin").is_file()


@pytest.mark.parametrize("below", ["", "a/b"])
def test_an_output_that_is_a_file(clean, tmp_path, capsys, below):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert run(clean, "--output", taken / below) == 2
    assert complaint(capsys) == f"--output {taken / below}: {taken} is a file, not a folder; choose another --output"
    assert taken.read_text() == "mine"


def test_a_truncated_scan_is_named_before_anything_is_made(clean, tmp_path, capsys):
    path = clean / "08" / "velodyne" / "000001.bin"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    assert run(clean, "--output", tmp_path / "c", "--subsets", "crosstalk/light", family="robo3d") == 2
    assert f"{path}: {size - 2} bytes are no multiple of 16 (truncated)" in complaint(capsys)
    assert not (tmp_path / "c").exists()


def test_a_scan_that_cannot_be_read_is_named_and_what_is_finished_stays(clean, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "dataloader.datasets.semantickitti.source.look_at_scans", lambda *_: None
    )  # as if it were another scan
    path = clean / "08" / "velodyne" / "000001.bin"
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    assert run(clean, "--output", tmp_path / "c", "--subsets", "crosstalk/light", family="robo3d") == 2
    assert f"{path}: holds numbers such as" in complaint(capsys)
    assert (tmp_path / "c" / "crosstalk/light/labels/000000.label").is_file()
    assert not list((tmp_path / "c" / "crosstalk/light").rglob("*000001*"))


def test_labels_of_another_scan(clean, tmp_path, capsys):
    path = clean / "08" / "labels" / "000001.label"
    path.write_bytes(path.read_bytes()[:-4])
    assert run(clean, "--output", tmp_path / "c", "--subsets", "local_light", workers=2) == 2
    assert complaint(capsys).startswith(f"{path}: ")


def test_other_options_are_refused(clean, tmp_path, capsys):
    flags = ("--output", tmp_path / "c", "--subsets", "local_light")
    assert run(clean, *flags) == 0
    before = file_bytes(tmp_path / "c")
    for change, words in (
        (("--seed", "3"), "seed 0, now 3"),
        (("--altered_label", "0"), "choices.altered_label 1, now 0"),
        (("--mode", "reference"), "mode physical, now reference"),
    ):
        assert run(clean, *flags, *change) == 2
        assert f"made with other options ({words}); choose another --output" in complaint(capsys)
    assert run(clean, *flags, family="robo3d") == 2  # no subset of that name, and not its folder either
    capsys.readouterr()
    assert run(clean, "--output", tmp_path / "c", family="robo3d") == 2
    assert "made with other options" in complaint(capsys)
    path = clean / "08" / "velodyne" / "000001.bin"
    labels = clean / "08" / "labels" / "000001.label"
    for file, point in ((path, bytes(16)), (labels, bytes(4))):  # one more point
        file.write_bytes(file.read_bytes() + point)
    assert run(clean, *flags) == 2
    assert "clean.fingerprint" in complaint(capsys)
    assert file_bytes(tmp_path / "c") == before


def test_what_is_not_its_own_stays(clean, tmp_path, capsys):
    (tmp_path / "SemanticKITTI-C" / "fog_heavy" / "velodyne").mkdir(parents=True)
    assert run(clean, "--subsets", "local_light") == 2
    assert complaint(capsys).startswith(f"{tmp_path / 'SemanticKITTI-C' / 'fog_heavy'}: not made by this tool")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "corruptions.json").write_text("[]")
    assert run(clean, "--output", tmp_path / "d") == 2
    assert "not readable as this tool's note" in complaint(capsys)


def test_a_scan_of_which_nothing_is_left(clean, tmp_path, capsys, monkeypatch):
    for name, size in (("velodyne/000000.bin", 16), ("labels/000000.label", 4)):
        path = clean / "08" / name
        path.write_bytes(path.read_bytes()[:size])
    monkeypatch.setattr("tools.corrupting.clean.rings_of", lambda xyz, sensor: np.full(len(xyz), 1, np.int32))
    assert run(clean, "--output", tmp_path / "c", "--subsets", "dense_16beam") == 2
    assert "000000.bin: no point is left of it in dense_16beam" in complaint(capsys)


def test_the_sensors_are_those_of_the_data_sets():
    assert {dataset for sets in CORRUPTED_SETS.values() for dataset in sets} == set(DATA_SETS)


def test_side_by_side_no_subset_is_lost_from_the_note(tmp_path):
    """Two runs began at the same time, each with subsets of its own."""
    ledgers = [Ledger(tmp_path / "out", {"seed": 0}, ["fog_light", "snow", CLEAN_FOLDER]) for _ in range(2)]
    for ledger, name in zip((*ledgers, ledgers[0]), ("fog_light", "snow", CLEAN_FOLDER), strict=True):
        ledger.complete(name, None, {"000000": FrameResult(0.0, 0.5, {})})
    assert set(note_of(tmp_path / "out")["subsets"]) == {"fog_light", "snow", CLEAN_FOLDER}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["corruptions.json"]
