"""A data set is added by one file with its record, a label mapping and a config: the one here is used by main.py and
robust_test.py as it is, and no file of the product knows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import main as program
import robust_test
from dataloader.catalogue import DATA_SETS
from dataloader.datasets.data_set import DataSet, Request
from utils.command.process import run_program
from utils.errors import UserError
from utils.results.predictions import PredictionFiles, PredictionWriter, SubmissionWriter
from utils.scan.records import Frame, Scan, no_pixels
from utils.scan.sensor import Sensor

# ---- the file of the data set

TOY = Sensor("Toy", beams=8, intensity_max=1.0, top=10.0, bottom=-10.0, ground=(1,), vehicles=(2,), forward="y")


class Toy:
    """Scans in <data_path>/<part>/<name>.npy, float64 N x 5: x, y, z (m), intensity, raw label."""

    num_cameras = 0
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, wanted: Request) -> None:
        self.label_map, self.part = wanted.label_map, wanted.part
        self.paths = sorted((wanted.path / wanted.part).glob("*.npy"))
        if not self.paths:
            raise UserError(f"{wanted.path / wanted.part}: no scans")

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> Frame:
        return Frame(self.part, self.paths[index].stem, str(self.paths[index]))

    def read(self, index: int, camera: int | None = 0) -> Scan:
        table = np.load(self.paths[index])
        labels = self.label_map.learning_ids(table[:, 4].astype(np.uint16), self.paths[index])
        xyz, intensity = table[:, :3].astype(np.float32), table[:, 3].astype(np.float32)
        count = len(table)
        rows = np.arange(count)
        return Scan(self.frame(index), xyz, intensity, labels, np.zeros(count, np.int32), rows, no_pixels(count))


class ToyFormat:
    """One text of ids a scan."""

    def __init__(self, wanted: Request) -> None:
        raw = wanted.label_map.to_raw.astype(np.uint8)
        self.files = PredictionFiles(lambda frame: f"{frame.name}.ids", raw, valid=raw[1:])

    def predictions(self, directory: Path) -> PredictionWriter:
        return PredictionWriter(directory, self.files)

    def submission(self, directory: Path) -> SubmissionWriter:
        return SubmissionWriter(directory, self.files)


RECORD = DataSet(TOY, "toy.yaml", skips_unseen=True, open=Toy, prediction_format=lambda wanted, _: ToyFormat(wanted))

# ---- its label mapping and its config

LABELS = {
    "labels": {0: "nothing, unlabeled", 7: "ground", 9: "car", 11: "tram"},
    "color_map": {0: [0, 0, 0], 7: [10, 20, 30], 9: [255, 0, 0], 11: [0, 0, 255]},
    "learning_map": {0: 0, 7: 1, 9: 2, 11: 3},
    "learning_map_inv": {0: 0, 1: 7, 2: 9, 3: 11},
}
CONFIG = Path(__file__).parents[3] / "config" / "MinkowskiNet-demo.yaml"


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    """The config of a small data set; no scan shows a tram."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DATA_SETS, RECORD.name, RECORD)
    rng = np.random.default_rng(0)
    for part, count in {"train": 2, "valid": 2, "test": 1}.items():
        folder = tmp_path / "data" / part
        folder.mkdir(parents=True)
        for number in range(count):
            place, other = rng.uniform(-8, 8, (600, 3)), rng.random(600)
            label = np.where(place[:, 2] < 0, 7, 9) * (part != "test")
            np.save(folder / f"{number}.npy", np.column_stack([place, other, label]))
    Path("toy.yaml").write_text(yaml.safe_dump(LABELS))
    raw = yaml.safe_load(CONFIG.read_text())
    raw["model_params"] |= {"num_classes": 4, "cr": 0.1}
    raw["train_params"] |= {"max_num_epochs": 1}
    data = raw["dataset_params"]
    data |= {"pc_dataset_type": "Toy", "label_mapping": "toy.yaml", "corruption_aug": {"corruptions": ["reduce_beams"]}}
    for loader in ("train_data_loader", "val_data_loader"):
        data[loader] |= {"data_path": "data", "batch_size": 2}
    Path("config.yaml").write_text(yaml.safe_dump(raw))
    return "config.yaml"


def test_it_trains_tests_and_submits(config, capsys) -> None:
    assert run_program(lambda: program.main(["--config", config, "--cpu"])) == 0
    runs = Path("logs/Toy/default")
    assert (runs / "version_0" / "last.ckpt").is_file()
    # The checkpoint says which data set it is of.
    test = ["--test", "--checkpoint", "last", "--cpu", "--save_prediction"]
    assert run_program(lambda: program.main(test)) == 0, capsys.readouterr().err
    (folder,) = runs.glob("test_*")
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["points"] == 1200 and set(scores["iou"]) == {"ground", "car", "tram"}
    truth, found = [], []
    for path in sorted(Path("data/valid").iterdir()):
        truth += np.load(path)[:, 4].astype(int).tolist()
        found += list((folder / "predictions" / f"{path.stem}.ids").read_bytes())
    ious = {}
    for raw in (7, 9, 11):
        pairs = [(t == raw, f == raw) for t, f in zip(truth, found, strict=True)]
        either = sum(t or f for t, f in pairs)
        ious[raw] = sum(t and f for t, f in pairs) / either if either else None
    assert scores["iou"] == {"ground": ious[7], "car": ious[9], "tram": ious[11]}
    seen = [iou for iou in ious.values() if iou is not None]  # the record says that unseen classes are skipped
    assert scores["val/mIoU"] == pytest.approx(sum(seen) / len(seen))

    submit = ["--test", "--checkpoint", "last", "--cpu", "--submit_to_server"]
    assert run_program(lambda: program.main(submit)) == 0
    assert len(list(runs.glob("test_*/submission/submission.zip"))) == 1

    capsys.readouterr()
    assert run_program(lambda: robust_test.main(["--checkpoint", "last", "--cpu"])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: --family yan: is not there for Toy; no family has corrupted this data set"


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "pc_dataset_type=toy",
            "pc_dataset_type must be SemanticKITTI or nuScenes or Toy, found toy, did you mean Toy?",
        ),
        (
            "corruption_aug.corruptions=[fog]",
            "corruption_aug: fog is not known for scans of Toy; name some of local_distortion, global_outliers",
        ),
        ("version=v1.0-mini", "version is for pc_dataset_type nuScenes, remove it from Toy"),
    ],
)
def test_what_it_does_not_have_is_said_in_one_line(config, setting, line, capsys) -> None:
    command = ["--config", config, "--cpu", "--set", f"dataset_params.{setting}"]
    assert run_program(lambda: program.main(command)) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error
