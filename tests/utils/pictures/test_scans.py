from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils.metrics import ScoreCard
from utils.pictures import charts, raster
from utils.pictures import scans as drawing
from utils.pictures.charts import draw_confusion, draw_training_curve
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

NAMES = ("unlabeled", "car", "road", "building")
COLORS = np.array([(0, 0, 0), (100, 150, 245), (255, 0, 255), (255, 200, 0)], dtype=np.uint8)


def street():
    """Makes a road, two walls and a car, with their labels; some points are unlabelled."""
    rng = np.random.default_rng(0)
    road = np.stack([rng.uniform(-45, 45, 6000), rng.uniform(-5, 5, 6000), rng.normal(-1.7, 0.02, 6000)], 1)
    walls = np.stack([rng.uniform(-45, 45, 3000), rng.choice([-9, 9], 3000), rng.uniform(-1.7, 2, 3000)], 1)
    car = np.stack([rng.uniform(8, 12, 500), rng.uniform(1, 3, 500), rng.uniform(-1.7, -0.2, 500)], 1)
    xyz = np.concatenate([road, walls, car]).astype(np.float32)
    labels = np.repeat(np.array([2, 3, 1], dtype=np.uint8), [6000, 3000, 500])
    labels[::50] = 0
    return xyz, labels


def camera(xyz, height=60, width=200):
    """Makes a forward pinhole camera; pixels are NaN for points that it does not see."""
    depth = np.where(xyz[:, 0] > 0.5, xyz[:, 0], np.nan)
    rows = height / 2 - 80 * xyz[:, 2] / depth
    columns = width / 2 - 80 * xyz[:, 1] / depth
    pixels = np.stack([rows, columns], axis=1).astype(np.float32)
    seen = (rows > 0) & (rows < height) & (columns > 0) & (columns < width)
    pixels[~seen] = np.nan
    return CameraPicture("the camera", np.full((height, width, 3), 90, dtype=np.uint8), pixels)


def read_png(path):
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return np.asarray(Image.open(path).convert("RGB"))


def colors_in(picture):
    codes = np.unique(picture.astype(np.int64) @ [1 << 16, 1 << 8, 1])
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


def classes_in(picture):
    found = colors_in(picture)
    return {c for c, color in enumerate(COLORS.tolist()) if c and tuple(color) in found}


def test_scan_with_everything(tmp_path):
    xyz, labels = street()
    prediction = np.where(labels == 0, 2, labels)
    prediction[labels == 1] = 3  # the car is missed
    path = tmp_path / "folder" / "scan.png"
    cameras = [[camera(xyz)]]
    drawing.draw_scan(xyz, SEMANTICKITTI, labels, prediction, COLORS, NAMES, path, cameras, title="a street")
    picture = read_png(path)
    assert picture.shape[1] == 2 * raster.RANGE_COLUMNS + 2 * drawing.MARGIN
    assert classes_in(picture) == {1, 2, 3}
    assert {raster.RIGHT, raster.WRONG, raster.NOT_JUDGED, raster.UNLABELLED} <= colors_in(picture)


@pytest.mark.parametrize("which", ["labels", "prediction"])
def test_scan_with_one_of_them_shows_no_errors(tmp_path, which):
    xyz, labels = street()
    labels = np.where(labels == 1, 2, labels)
    path = tmp_path / "scan.png"
    given = (labels if which == "labels" else None, labels if which == "prediction" else None)
    drawing.draw_scan(xyz, SEMANTICKITTI, *given, COLORS, NAMES, path)
    picture = read_png(path)
    assert picture.shape[1] == raster.RANGE_COLUMNS + 2 * drawing.MARGIN
    assert classes_in(picture) == {2, 3}
    assert raster.WRONG not in colors_in(picture)


def test_two_predictions_have_their_names_and_their_errors(monkeypatch, tmp_path):
    """One is right, whatever it is called; the other takes the car, and only that, for a wall."""
    xyz, labels = street()
    missed = np.where(labels == 1, 3, labels)
    share = 100 * (1 - (labels == 1).sum() / (labels > 0).sum())
    drawn = []
    monkeypatch.setattr(drawing, "_save_rows", lambda rows, *_: drawn.extend(rows))
    predictions = {"Ground truth": labels, "run\n" + 60 * "x": missed}
    path = tmp_path / "scan.png"
    drawing.draw_scan(xyz, SEMANTICKITTI, labels, predictions, COLORS, NAMES, path, 2 * [3 * [camera(xyz)]])
    captions = [[caption for caption, _ in row] for row in drawn]
    assert captions[0][:2] == ["Ground truth", "Ground truth"] and captions[0][2].startswith("run?xxx")
    assert captions[1][0].endswith(": 100.0 % of the points are right") and f": {share:.1f} %" in captions[1][1]
    assert [(image == raster.WRONG).all(axis=2).any() for _, image in drawn[1]] == [False, True]
    assert {image.shape for row in drawn[:2] for _, image in row} == {drawn[0][0][1].shape}
    assert all(len(caption) < 100 for row in captions for caption in row)
    assert [len(row) for row in drawn] == [3, 2, 1, 1, 1, 3, 3, 3, 3, 3, 3]  # cameras: two rows for each labelling


def test_scan_needs_something_to_show(tmp_path):
    xyz, _ = street()
    with pytest.raises(ValueError, match="labels or a prediction"):
        drawing.draw_scan(xyz, SEMANTICKITTI, None, None, COLORS, NAMES, tmp_path / "a.png")


def test_cameras_are_laid_out_as_given(tmp_path):
    """The six images have one grey each, and no points in them."""
    xyz, labels = street()
    nowhere = np.full((len(xyz), 2), np.nan, dtype=np.float32)
    greys = [[50, 90, 130], [170, 210, 250]]
    cameras = [
        [CameraPicture(f"camera {grey}", np.full((30, 50, 3), grey, dtype=np.uint8), nowhere) for grey in row]
        for row in greys
    ]
    drawing.draw_scan(xyz, NUSCENES, labels, labels, COLORS, NAMES, tmp_path / "scan.png", cameras)
    picture = read_png(tmp_path / "scan.png")
    corners = {}
    for grey in np.ravel(greys):
        shown = (picture == int(grey * 0.6)).all(axis=2)
        rows, columns = np.flatnonzero(shown.mean(axis=1) > 0.1), np.flatnonzero(shown[-700:].mean(axis=0) > 0.1)
        runs = np.flatnonzero(np.diff(columns, prepend=-9) > 1)
        corners[int(grey)] = (rows[0], columns[runs].tolist())
    (front, back), beside = [[corners[grey] for grey in row] for row in greys], [0, 1, 2]
    assert len({row for row, _ in front}) == len({row for row, _ in back}) == 1
    assert front[0][0] < back[0][0]
    for row in (front, back):  # first all with the ground truth, then all with the prediction
        lefts = [lefts for _, lefts in row]
        assert all(len(pair) == 2 for pair in lefts)
        assert np.argsort([pair[0] for pair in lefts]).tolist() == beside
        assert max(pair[0] for pair in lefts) < min(pair[1] for pair in lefts)


def test_rasters_show_the_frame_of_the_lidar(tmp_path):
    """The street runs along x: up the image for a LiDAR with x ahead, across it for one with y ahead."""
    xyz, labels = street()
    shape = []
    for lidar in (SEMANTICKITTI, NUSCENES):
        drawing.draw_scan(xyz, lidar, labels, None, COLORS, NAMES, tmp_path / "scan.png")
        above = read_png(tmp_path / "scan.png")[: drawing.MARGIN + drawing.TITLE + raster.RANGE_COLUMNS]
        road = np.argwhere((above == COLORS[2]).all(axis=2))
        shape.append(np.ptp(road, axis=0))
    assert shape[0][0] > 5 * shape[0][1]
    assert shape[1][1] > 5 * shape[1][0]


def test_confusion(tmp_path):
    counts = np.zeros((2, 4, 4), dtype=np.int64)
    counts[1] = [[3, 1, 0, 0], [0, 90, 5, 0], [0, 10, 70, 0], [0, 0, 0, 0]]
    draw_confusion(ScoreCard.from_counts(counts, NAMES), NAMES[0], tmp_path / "full.png", "2 scans, one view")
    counts[:] = 0
    draw_confusion(ScoreCard.from_counts(counts, NAMES), NAMES[0], tmp_path / "empty.png", "2 scans, one view")
    full, empty = read_png(tmp_path / "full.png"), read_png(tmp_path / "empty.png")

    def dark_blue(picture):
        return ((picture[..., 2] > 80) & (picture[..., 0] < 60)).mean()

    assert dark_blue(full) > 0.05  # the strong diagonal
    assert dark_blue(empty) < 0.001


@pytest.mark.parametrize("predicted", [0, 1])
def test_confusion_calls_the_ignored_class_by_its_name(predicted, tmp_path, monkeypatch):
    """The ignored class has a column only if some point is predicted as it."""
    drawn = []
    monkeypatch.setattr(charts, "save", lambda figure, path: drawn.append(figure))
    counts = np.zeros((2, 4, 4), dtype=np.int64)
    counts[1, predicted, 1] = 5
    draw_confusion(ScoreCard.from_counts(counts, NAMES), "noise", tmp_path / "a.png", "2 scans, one view")
    named = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert named == (["noise"] if predicted == 0 else []) + list(NAMES[1:])


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_training_curve(tmp_path, epochs):
    history = [{"epoch": e, "train/loss": 3.0 - e, "val/mIoU": 0.1 * e} for e in range(epochs)]
    if epochs == 5:
        del history[2]["val/mIoU"]
    path = tmp_path / "curve.png"
    draw_training_curve(history, path, "2 scans, one view")
    picture = read_png(path).astype(int)
    colorful = (np.ptp(picture, axis=2) > 60).any()
    assert colorful == (epochs > 0)


def test_pyplot_is_left_alone(tmp_path):
    draw_training_curve([{"train/loss": 1.0}], tmp_path / "curve.png", "")
    assert plt.get_fignums() == []


NAMES_AS_THEY_COME = (
    "unlabeled", "$\\frac{$", "$a$ and $", "_hidden", "", "two\nlines", "nul\0", "\ud800", "\x1b[31m", "\u8f66",
    "x" * 3000,
)  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_names_are_taken_as_they_are(tmp_path):
    """Class names give no formula, error or warning, whatever they contain, and all are in the legend."""
    xyz, _ = street()
    labels = np.arange(len(xyz)) % len(NAMES_AS_THEY_COME)
    colors = np.array([(20 * number, 255 - 20 * number, 7) for number in range(len(NAMES_AS_THEY_COME))], np.uint8)
    for title in ("$\\frac{$", "_\ud800\n" * 99):
        args = (colors, NAMES_AS_THEY_COME, tmp_path / "scan.png")
        drawing.draw_scan(xyz[:500], SEMANTICKITTI, labels[:500], None, *args, title=title)
    legend = colors_in(read_png(tmp_path / "scan.png")[-90:])
    assert {tuple(color) for color in colors[1:].tolist()} <= legend
    classes = NAMES_AS_THEY_COME[1:]
    shares = np.linspace(0, 1, len(classes))
    counts = np.ones((len(classes) + 1,) * 2, dtype=np.int64)
    card = ScoreCard(classes, shares, 0.5, 0.5, 0.5, shares, 0.5, 0.5, counts, 17)
    draw_confusion(card, "$\\frac{$", tmp_path / "confusion.png", "2 scans, one view")
    assert read_png(tmp_path / "confusion.png").size


@pytest.mark.parametrize(
    ("labelled", "predictions", "rows"),
    [
        (True, 0, [2]),
        (False, 1, [2]),
        (True, 1, [2, 2]),
        (False, 2, [3]),
        (True, 2, [3, 3]),
    ],
)
def test_a_further_panel_is_as_large_as_those_beside_it(labelled, predictions, rows, tmp_path, monkeypatch):
    xyz, labels = street()
    drawn = []
    monkeypatch.setattr(drawing, "_save_rows", lambda *arguments: drawn.append(arguments))
    ids = {"a": labels, "b": labels} if predictions == 2 else labels if predictions else None
    pink = np.full((3, 3), (250, 120, 180), np.uint8)
    beside = drawing.FromAbove("more", xyz[:3], pink, np.zeros(3), {"pink": (250, 120, 180)})
    given = (xyz, SEMANTICKITTI, labels if labelled else None, ids, COLORS, NAMES, tmp_path / "scan.png")
    drawing.draw_scan(*given, beside=beside)
    panels, content, _, legend, _, _ = drawn[0]
    above = panels[: len(rows)]
    assert [len(row) for row in above] == rows
    assert len({picture.shape for row in above for _, picture in row}) == 1
    assert all(sum(picture.shape[1] + drawing.GAP for _, picture in row) - drawing.GAP <= content for row in panels)
    assert all(panel.shape[1] == content for row in panels[len(rows) :] for _, panel in row)
    assert above[-1][-1][0] == "more" and (above[-1][-1][1] == pink[0]).all(axis=2).any()
    assert not any((picture == pink[0]).all(axis=2).any() for row in panels for _, picture in row[: rows[-1] - 1])
    assert legend[-1].get_label() == "pink"


def test_notes_stand_below_the_title_and_long_ones_on_several_lines(tmp_path):
    xyz, labels = street()
    drawn = []
    for number, notes in enumerate([(), ("a note",), ("word " * 60,)]):
        path = tmp_path / f"{number}.png"
        drawing.draw_scan(xyz, SEMANTICKITTI, labels, None, COLORS, NAMES, path, title="a street", notes=notes)
        drawn.append(read_png(path))
    without, short, long = drawn
    assert len(short) == len(without) + drawing.NOTE < len(long)
    for picture in (short, long):
        lines = len(picture) - len(without)
        at = next(row for row, found in enumerate(without) if len(colors_in(found[None])) > 60) - 40
        assert (picture[-len(without) + at :] == without[at:]).all()
        band = picture[40 : 40 + lines]
        assert len(colors_in(band)) > 5 and len(colors_in(band[:, -drawing.MARGIN :])) == 1
