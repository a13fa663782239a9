"""The drawings of corruptions: a picture of each, and a table with the figures of the files that make_corruptions
writes."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataloader.corruptions.families import CORRUPTED_SETS, yan
from dataloader.corruptions.sweep import Sweep
from tools import draw_corruptions, make_corruptions
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED, paint, paint_altered, range_view
from utils.scan.sensor import SEMANTICKITTI

ROOT = Path(__file__).resolve().parents[2]
LABELS = LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")

ABOVE = slice(98, 610)
"""Rows of a picture with the views from above."""


@pytest.fixture(scope="module")
def tree(demo_trees):
    return demo_trees["SemanticKITTI"]


def draw(tree, output, *flags, family="yan", sequence="08"):
    flags = ("--family", family, "--data_path", tree, "--sequence", sequence, "--output", output, *flags)
    return draw_corruptions.main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def drawn(tree, tmp_path_factory):
    """Draws both families at seed 3, one as a script from another folder; returns the folder of the pictures and the
    printed text."""
    folder, said = tmp_path_factory.mktemp("pictures"), io.StringIO()
    script = str(ROOT / "tools" / "draw_corruptions.py")
    flags = ["--family", "yan", "--data_path", str(tree), "--sequence", "08", "--seed", "3", "--output", folder.name]
    done = subprocess.run([sys.executable, script, *flags], cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with redirect_stdout(said):
        assert draw(tree, folder, "--seed", 3, family="robo3d") == 0
    return folder, {"yan": done.stdout, "robo3d": said.getvalue()}


@pytest.fixture
def undrawn(monkeypatch) -> dict[str, list]:
    """The scans of each picture, by the name of its file, instead of the picture."""
    scans: dict[str, list] = {}
    monkeypatch.setattr(
        draw_corruptions, "draw", lambda columns, label_map, title, path: scans.update({path.name: columns})
    )
    return scans


def figures(printed):
    """Reads the cells of the printed table, by subset."""
    rows = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    return {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows[1:]}


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("family", CORRUPTED_SETS)
def test_the_table_is_that_of_the_made_data(family, drawn, tree, tmp_path):
    """Points, change and ignored share agree with files that the other tool has written with the same seed."""
    made = tmp_path / "made"
    flags = ["--family", family, "--data_path", tree, "--output", made, "--seed", 3, "--workers", 1]
    assert make_corruptions.main([str(flag) for flag in flags]) == 0
    rows = figures(drawn[1][family])
    subsets = CORRUPTED_SETS[family]["SemanticKITTI"]
    assert list(rows) == ["clean_data", *(subset.name for subset in subsets)]
    before = (tree / "08" / "velodyne" / "000000.bin").stat().st_size // 16
    assert rows["clean_data"][1:4] == [f"{before:,}", "+0.00", "0.00"]
    for subset in subsets:
        raw = np.fromfile(made / subset.name / "labels" / "000000.label", "<u4") & 0xFFFF
        _, points, change, altered, ignored = rows[subset.name]
        assert points == f"{len(raw):,}"
        assert float(change) == pytest.approx(100 * (len(raw) - before) / before, abs=0.006)
        ids = raw.astype(int)
        learning = np.array([LABELS.to_learning[i] if i in LABELS.raw_names else 0 for i in ids])
        assert float(ignored) == pytest.approx(100 * np.mean(learning == 0), abs=0.006)
        if subset.label > 1:  # an id that only altered points have
            assert float(altered) == pytest.approx(100 * np.mean(ids == subset.label), abs=0.006)


def test_parameters_are_those_that_grade_and_those_that_are_drawn(drawn):
    yan, robo3d = (figures(drawn[1][family]) for family in ("yan", "robo3d"))
    assert yan["local_heavy"][0] == "sigma 0.2"
    assert yan["snowfall_moderate"][0] == "rate 1.5, velocity 0.6"
    assert robo3d["beam_missing/light"][0] == "draws 16"
    assert re.fullmatch(r"beta 0\.05, alpha 0\.\d+", robo3d["fog/moderate"][0])


@pytest.mark.parametrize("family", CORRUPTED_SETS)
def test_one_picture_for_each_corruption(family, drawn):
    folder, _ = drawn
    types = {subset.type for subset in CORRUPTED_SETS[family]["SemanticKITTI"]}
    assert {path.name for path in folder.glob(f"{family}_*")} == {f"{family}_{name}.png" for name in types}
    for path in folder.glob(f"{family}_*"):
        with Image.open(path) as picture:
            assert picture.mode == "P"  # colours of classes survive: below


def test_altered_points_are_white_and_classes_keep_their_colours(drawn):
    folder, _ = drawn
    count = {}
    for name in ("global", "32beam"):
        picture = pixels(folder / f"yan_{name}.png")[ABOVE]
        panels = [picture[:, left : left + 512] for left in (28, 556, 1084, 1612) if left + 512 <= picture.shape[1]]
        assert len(panels) == {"global": 4, "32beam": 3}[name]
        count[name] = [int((panel == ALTERED).all(axis=2).sum()) for panel in panels]
        assert (panels[0] == LABELS.colors[9]).all(axis=2).sum() > 20  # road
        roads = [int((panel == LABELS.colors[9]).all(axis=2).sum()) for panel in panels]
        assert name == "global" or roads[0] > roads[1] > roads[2]
    # The clean panel is the first; outliers are added in growing number, all inside the view of 50 m.
    assert count["32beam"] == [0, 0, 0]
    assert count["global"][0] == 0 and 0 < count["global"][2] < count["global"][3]


def test_a_second_run_draws_the_same_and_another_seed_does_not(drawn, tree, tmp_path, capsys, monkeypatch):
    """Of two corruptions: with and without numbers drawn at random."""
    subsets = [subset for subset in yan("physical") if subset.type in ("global", "32beam")]
    monkeypatch.setattr(draw_corruptions, "yan", lambda mode: subsets)
    folder, printed = drawn
    assert draw(tree, tmp_path / "same", "--seed", 3) == 0
    assert figures(capsys.readouterr().out).items() < figures(printed["yan"]).items()
    found = sorted((tmp_path / "same").glob("*.png"))
    assert [path.name for path in found] == ["yan_32beam.png", "yan_global.png"]
    assert all(path.read_bytes() == (folder / path.name).read_bytes() for path in found)
    assert draw(tree, tmp_path / "other", "--seed", 4) == 0
    same = [
        path.read_bytes() == (folder / path.name).read_bytes() for path in sorted((tmp_path / "other").glob("*.png"))
    ]
    assert same == [True, False]


def test_modes_differ_in_weather_alone(undrawn, tree, tmp_path, capsys):
    of_mode = {}
    for mode in ("physical", "reference"):
        assert draw(tree, tmp_path, "--seed", 3, "--mode", mode, family="robo3d") == 0
        assert "| fog/light |" in capsys.readouterr().out
        of_mode[mode] = {name: [column.sweep for column in columns] for name, columns in undrawn.items()}
        undrawn.clear()
    same = {
        name.removeprefix("robo3d_").removesuffix(".png")
        for name, sweeps in of_mode["physical"].items()
        if all(map(same_sweep, sweeps, of_mode["reference"][name]))
    }
    assert {"crosstalk", "beam_missing", "motion_blur", "cross_sensor"} <= same
    assert not {"snow", "fog"} & same


def same_sweep(one: Sweep, other: Sweep) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Sweep))


def test_a_scan_that_is_not_there_is_one_line(tree, tmp_path, capsys):
    assert draw(tree, tmp_path / "none", "--frame", "000099") == 2
    error = capsys.readouterr().err
    assert re.search(r"--frame 000099: no such scan .* 000000", error) and error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_missing_and_damaged_scans_are_one_line(tree, tmp_path, capsys):
    assert draw(tree, tmp_path / "none", sequence="77") == 2
    assert re.search(r"77: no scans of sequence 77", capsys.readouterr().err)
    shutil.copytree(tree / "08", tmp_path / "data" / "08")
    (tmp_path / "data" / "08" / "labels" / "000000.label").write_bytes(bytes(12))
    assert draw(tmp_path / "data", tmp_path / "none") == 2
    error = capsys.readouterr().err
    assert re.search(r"000000\.label: 3 labels for", error) and error.count("\n") == 1


def test_altered_paint():
    labels = np.array([0, 1, 9, 9])
    altered = np.array([True, False, True, False])
    rgb = paint_altered(labels, altered, LABELS.colors)
    assert rgb.dtype == np.uint8
    assert (rgb[altered] == ALTERED).all()
    assert np.array_equal(rgb[~altered], paint(labels, LABELS.colors)[~altered])
    assert not (LABELS.colors[1:] == ALTERED).all(axis=1).any()


def test_a_finer_range_view_tells_neighbours_apart():
    """Two points lie 0.2 degrees apart, straight ahead: one pixel of 1024 to the turn, two of 2048 or more."""
    angles = np.radians([0.05, 0.25])
    xyz = np.stack([10 * np.cos(angles), 10 * np.sin(angles), [0, 0]], axis=1).astype(np.float32)
    rgb = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    for columns, pixels_hit in ((1024, 1), (2048, 2), (3600, 2)):
        view = range_view(xyz, SEMANTICKITTI, rgb, columns)
        assert view.shape == (64, columns, 3)
        assert ((view == rgb[0]).all(axis=2) | (view == rgb[1]).all(axis=2)).sum() == pixels_hit
