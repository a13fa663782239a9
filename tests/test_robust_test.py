"""robust_test.py, end to end: both families, all models, both data sets; resumed, incomplete, and refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import robust_test
from commands import robustness
from network.assemble import build_network
from tests.conftest import ROOT, TREE
from tests.support.file_server import FileServer, serving
from tests.support.pictures import leave_out_pictures
from tests.support.robustness import ROBO3D, YAN, write_nuscenes, write_semantickitti
from tests.test_every_config import reduced
from tests.test_main import two_processes
from tools import view
from utils.command.process import run_program
from utils.config.loading import load_config
from utils.labels import LabelMap

FEW = ("clean_data", "fog_light", "fog_moderate", "dense_16beam")


class Killed(BaseException):
    """In the place of a signal that ends the process."""


def killed() -> None:
    raise Killed


class Bench:
    """A checkpoint and corrupted scans of the golden tree in an empty folder, and a way to test the one on the other.

    Attributes:
        folder: the current one.
        tested: names of the subsets whose evaluation was begun, in order.
        kill_at: how many evaluations to survive.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.tested, self.kill_at = folder, [], None
        monkeypatch.chdir(folder)
        leave_out_pictures(monkeypatch)
        test = robustness.test_network

        def counted(network, batches, metrics, output, place):
            self.tested.append(output.folder.relative_to(output.folder.parents[-2]).as_posix())
            if self.kill_at is not None and len(self.tested) > self.kill_at:
                counter = metrics()
                counter.scores = killed
                return test(network, batches, lambda: counter, output, place)
            return test(network, batches, metrics, output, place)

        monkeypatch.setattr(robustness, "test_network", counted)

    def command(self, config: str, data_path: Path, *arguments: str) -> list[str]:
        path = ROOT / "config" / f"{config}.yaml"
        checkpoint = self.folder / "checkpoint" / f"{config}.ckpt"
        settings = reduced(path, data_path)
        if not checkpoint.is_file():
            torch.manual_seed(0)
            network = build_network(load_config(path, settings), baseline_only=True)
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter)  # so wild that it gives several classes
            checkpoint.parent.mkdir(exist_ok=True)
            torch.save({"state_dict": network.state_dict()}, checkpoint)
        return ["--config", str(path), "--cpu", "--checkpoint", str(checkpoint), *arguments, "--set", *settings]

    def run(self, config: str, data_path: Path, *arguments: str) -> int:
        self.tested.clear()
        command = self.command(config, data_path, *arguments)
        return run_program(lambda: robust_test.main(command))

    def results(self) -> list[Path]:
        """The folders of all runs, the oldest first."""
        return sorted(self.folder.rglob("robust_test_*"), key=lambda path: path.stat().st_ctime)


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.fixture
def sequences(tmp_path) -> Path:
    return Path(shutil.copytree(TREE, tmp_path / "data" / "sequences"))


def yan(sequences: Path, names=FEW) -> Path:
    """Where they are looked for without --corruption_path."""
    return write_semantickitti(sequences / "08", sequences.parent / "SemanticKITTI-C", names)


def drawn(monkeypatch, *flags: object) -> dict[str, Any]:
    """What tools/view.py hands to the pen: ground truth and prediction as learning ids, and the names of both."""
    keys = ("xyz", "lidar", "labels", "prediction", "colors", "names")
    found: dict[str, Any] = {}
    pen = "tools.viewing.scan.draw_scan"
    monkeypatch.setattr(pen, lambda *args, **_: found.update(zip(keys, args, strict=False)))
    assert view.main([*map(str, flags), "--output", "scan.png"]) == 0
    return found


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return {row["subset"]: row for row in csv.DictReader(file)}


def test_all_of_yan(bench, sequences, capsys, monkeypatch) -> None:
    root = yan(sequences, YAN)
    assert bench.run("2DPASS-demo", sequences, "--num_vote", "2", "--save_prediction") == 0
    (folder,) = bench.results()
    assert folder.parent == bench.folder / "checkpoint"
    assert len(bench.tested) == 17
    assert tuple(rows_of(folder)) == YAN
    for name in ("clean_data", "fog_moderate"):
        check_against_files(folder / "subsets" / name / "predictions", root / name, rows_of(folder)[name])
    picture = drawn(monkeypatch, "--data_path", sequences, "--subset", "fog_light", "--predictions", folder)
    label_map = LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml")
    kept = np.fromfile(folder / "subsets/fog_light/predictions/labels/000000.label", "<u4")
    np.testing.assert_array_equal(label_map.to_raw[picture["prediction"]], kept)
    assert (picture["labels"] == 20 + 1).sum() == 5  # id 22, of the first points of the second subset
    report = (folder / "summary.md").read_text()
    for text in ("yan: SemanticKITTI-C (Yan", "augmentation: 2 votes", "convention: official", "baseline: 2DPASS"):
        assert text in report
    assert Image.open(folder / "summary.png").size[0] > 1000
    printed = capsys.readouterr().out
    for number, name in enumerate(YAN, start=1):
        assert f"[{number} of 17] {name}: mIoU " in printed


def check_against_files(predictions: Path, subset: Path, row: dict[str, str]) -> None:
    """Both conventions, slowly, from the files alone."""
    label_map = LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml")
    guess, truth, inside = [], [], []
    for path in sorted((subset / "labels").iterdir()):
        points = np.fromfile(subset / "velodyne" / f"{path.stem}.bin", "<f4").reshape(-1, 4)[:, :3]
        inside.append(((points > [-50, -50, -4]) & (points < [50, 50, 2])).all(axis=1))
        raw = np.fromfile(path, "<u4") & 0xFFFF
        truth.append(np.where(label_map.to_learning[raw] == 255, 0, label_map.to_learning[raw]))
        guess.append(label_map.to_learning[np.fromfile(predictions / "labels" / path.name, "<u4")])
    t, g, within = np.concatenate(truth), np.concatenate(guess), np.concatenate(inside)
    assert not within.all() and (t == 0).any() and len(np.unique(g)) > 5
    for convention, counted in (("official", t > 0), ("published", (t > 0) & within)):
        ious = []
        for c in range(1, 20):
            both, either = (t == c) & (g == c) & counted, ((t == c) | (g == c)) & counted
            ious.append(100 * both.sum() / max(either.sum(), 1))
            name = f"IoU_{convention} {label_map.names[c]}"
            assert float(row[name]) == pytest.approx(ious[-1], abs=1e-5)
        assert float(row[f"mIoU_{convention}"]) == pytest.approx(sum(ious) / 19, abs=1e-5)
        accuracy = 100 * (t == g)[counted].mean()
        assert float(row[f"accuracy_{convention}"]) == pytest.approx(accuracy, abs=1e-5)
    assert int(row["points"]) == (t > 0).sum() and int(row["scans"]) == len(truth)


def test_twelve_votes_are_the_default_of_yan_and_one_that_of_robo3d(bench, sequences, capsys) -> None:
    yan(sequences)
    assert bench.run("2DPASS-demo", sequences, "--subsets", "fog_light") == 0
    assert ", 12 vote(s) each" in capsys.readouterr().out
    root = write_semantickitti(sequences / "08", sequences.parent / "Robo3D" / "SemanticKITTI-C", ("fog/light",))
    arguments = ("--family", "robo3d", "--subsets", "fog/light")
    assert bench.run("2DPASS-demo", sequences, *arguments) == 0
    assert ", 1 vote(s) each" in capsys.readouterr().out
    assert bench.run("2DPASS-demo", sequences, *arguments, "--num_vote", "1", "--corruption_path", str(root)) == 0
    assert len(bench.results()) == 2 and "warning: trained" not in capsys.readouterr().out
    assert bench.run("2DPASS-demo", sequences, "--subsets", "fog_light", "--num_vote", "1") == 0
    twelve, _, one = (rows_of(folder) for folder in bench.results())
    for convention in ("official", "published"):
        assert twelve["fog_light"][f"mIoU_one_view_{convention}"] == one["fog_light"][f"mIoU_{convention}"]
        assert one["fog_light"][f"mIoU_one_view_{convention}"] == ""
    said = "2 scans of the validation split (fog_light), 12 views; "
    assert (
        twelve["fog_light"]["conditions"].startswith(said) and twelve["fog_light"]["mIoU"] != one["fog_light"]["mIoU"]
    )
    report = (bench.results()[0] / "summary.md").read_text()
    assert "| this checkpoint, one view |" in report


def test_robo3d_allows_no_votes(bench, sequences, capsys) -> None:
    """Said before anything is looked for: neither the corrupted scans nor the checkpoint are there."""
    arguments = ("--family", "robo3d", "--num_vote", "2", "--checkpoint", "nowhere.ckpt")
    assert bench.run("2DPASS-demo", sequences, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --num_vote 2: Robo3D's protocol allows no test-time augmentation; leave out --num_")


def test_trained_on_corruptions(bench, sequences, capsys) -> None:
    write_semantickitti(sequences / "08", sequences.parent / "Robo3D" / "SemanticKITTI-C", ("fog/light",))
    key = "dataset_params.corruption_aug={corruptions: [crosstalk]}"
    command = bench.command("MinkowskiNet-demo", sequences, "--family", "robo3d", "--subsets", "fog/light")
    assert run_program(lambda: robust_test.main([*command, key])) == 0  # the last of --set
    warning = "trained on corruptions, outside Robo3D's protocol"
    assert f"warning: {warning}" in capsys.readouterr().out
    (folder,) = bench.results()
    assert f"- {warning}" in (folder / "summary.md").read_text()


def test_a_wrong_checkpoint_leaves_no_folder(bench, sequences, capsys) -> None:
    yan(sequences)
    other = bench.command("SPVCNN-demo", sequences)[4]
    wrong = ("--checkpoint", other, "--subsets", "clean")
    assert bench.run("MinkowskiNet-demo", sequences, *wrong) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {other}: ") and not bench.results()
    Path("text.ckpt").write_text("no checkpoint")
    assert bench.run("MinkowskiNet-demo", sequences, "--checkpoint", "text.ckpt", "--output", "new/place") == 2
    assert not Path("new").exists()


@pytest.mark.parametrize("config", ["2DPASS-demo", "MinkowskiNet-demo", "SPVCNN-demo"])
def test_robo3d_starts_from_the_validation_split(bench, sequences, config, monkeypatch) -> None:
    names = ("fog/light", "fog/moderate", "fog/heavy", "crosstalk/heavy")
    write_semantickitti(sequences / "08", sequences.parent / "Robo3D" / "SemanticKITTI-C", names)
    arguments = ("--family", "robo3d", "--subsets", "clean", *names, "--save_prediction", "--baseline_only")
    assert bench.run(config, sequences, *arguments) == 0
    (folder,) = bench.results()
    rows = rows_of(folder)
    assert tuple(rows) == ("clean", *names)
    assert (folder / "subsets/fog/light/predictions/labels/000001.label").is_file()
    # The first made-up subset is the clean scans once more.
    first, clean = (
        [np.fromfile(path, "<u4") for path in sorted((folder / "subsets" / name).rglob("*.label"))]
        for name in ("fog/light", "clean")
    )
    assert all((a == b).all() for a, b in zip(first, clean, strict=True))
    of_subset = ("--subset", "fog/light", "--predictions", folder / "subsets/fog/light/predictions")
    of_clean = ("--predictions", folder / "subsets/clean/predictions")
    pictures = [drawn(monkeypatch, "--data_path", sequences, *flags) for flags in (of_subset, of_clean)]
    assert all((pictures[0][key] == pictures[1][key]).all() for key in ("xyz", "labels", "prediction"))
    assert rows["fog/light"]["mIoU"] == rows["clean"]["mIoU"]
    report = (folder / "summary.md").read_text()
    assert "test-time augmentation: none" in report and "baseline: MinkUNet18" in report
    assert "20 of 25 subsets are not tested" in report


@pytest.mark.parametrize("config", ["2DPASS-nuscenes-demo", "SPVCNN-nuscenes"])
def test_nuscenes_c(bench, demo_trees, tmp_path, config, monkeypatch) -> None:
    names = tuple(name for name in ROBO3D if name.startswith(("fog", "snow", "beam_missing")))
    root = write_nuscenes(demo_trees["nuScenes"], "v1.0-mini", tmp_path / "nuScenes-C", names)
    arguments = ("--family", "robo3d", "--corruption_path", str(root), "--allow_missing", "--save_prediction")
    assert bench.run(config, demo_trees["nuScenes"], *arguments) == 0
    (folder,) = bench.results()
    assert tuple(rows_of(folder)) == ("clean", *names)
    assert "15 of 25 subsets are not tested" in (folder / "summary.md").read_text()
    scans = int(rows_of(folder)["snow/heavy"]["scans"])
    files = list((folder / "subsets/snow/heavy/predictions/lidarseg/v1.0-mini").iterdir())
    assert len(files) == scans > 0
    for path in files:
        labels = root / "snow/heavy/lidarseg/v1.0-mini" / path.name
        assert path.stat().st_size == labels.stat().st_size
        assert set(np.fromfile(path, np.uint8).tolist()) <= set(range(1, 17))
    where = ("--dataset", "nuscenes", "--data_path", demo_trees["nuScenes"], "--corruption_path", root, "--frame", 0)
    picture = drawn(monkeypatch, *where, "--subset", "snow/heavy", "--predictions", folder)
    assert any(picture["prediction"].tobytes() == path.read_bytes() for path in files)
    added = picture["labels"] >= 17
    assert added.sum() == 5 * names.index("snow/heavy") and added[: added.sum()].all()
    assert {picture["names"][label] for label in picture["labels"][added]} == {"snow (added, ignored)"}


def test_a_killed_run_goes_on_after_the_last_finished_subset(bench, sequences, capsys) -> None:
    yan(sequences, YAN[:6])
    arguments = ("--num_vote", "1", "--allow_missing")
    assert bench.run("MinkowskiNet-demo", sequences, *arguments, "--output", "whole") == 0
    assert len(bench.tested) == 6

    bench.kill_at = 4
    with pytest.raises(Killed):
        bench.run("MinkowskiNet-demo", sequences, *arguments, "--output", "killed")
    bench.kill_at = None
    (killed,) = Path("killed").iterdir()
    assert tuple(rows_of(killed)) == YAN[:4]
    assert bench.run("MinkowskiNet-demo", sequences, *arguments, "--output", "killed") == 0
    assert [name.rpartition("/")[2] for name in bench.tested] == list(YAN[4:6])
    assert "4 of 6 subsets are finished there" in capsys.readouterr().out
    assert list(Path("killed").iterdir()) == [killed]
    (whole,) = Path("whole").iterdir()
    for name in ("summary.csv", "summary.md", "summary.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name

    # Nothing is left to do; the report may be about something else.
    other = (*arguments, "--output", "killed", "--convention", "published", "--baseline", "cenet")
    assert bench.run("MinkowskiNet-demo", sequences, *other) == 0
    assert not bench.tested and "all 6 subsets are finished" in capsys.readouterr().out
    report = (killed / "summary.md").read_text()
    assert "convention: published" in report and "baseline: CENet" in report
    assert rows_of(killed)["fog_light"]["convention"] == "published"
    assert bench.run("MinkowskiNet-demo", sequences, *arguments, "--output", "killed", "--restart") == 0
    assert len(bench.tested) == 6 and len(list(Path("killed").iterdir())) == 2


def test_other_settings_are_another_run(bench, sequences) -> None:
    root = yan(sequences, FEW[:2])
    arguments = ("--subsets", *FEW[:2], "--num_vote")
    assert bench.run("SPVCNN-demo", sequences, *arguments, "1") == 0
    before = len(bench.results())
    elsewhere = shutil.copytree(root, bench.folder / "elsewhere")
    for changed in (
        ("2",),
        ("1", "--seed", "3"),
        ("1", "--corruption_path", str(elsewhere)),
        ("1", "--save_prediction"),
    ):
        assert bench.run("SPVCNN-demo", sequences, *arguments, *changed) == 0
        assert len(bench.tested) == 2
        before += 1
        assert len(bench.results()) == before
    # The same name with other weights is another checkpoint; the same weights under another name are not.
    path = bench.folder / "checkpoint" / "SPVCNN-demo.ckpt"
    shutil.copy(path, path.with_name("copy.ckpt"))
    state = torch.load(path, weights_only=True)["state_dict"]
    other = {name: 1.5 * tensor if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": other}, path)
    assert bench.run("SPVCNN-demo", sequences, *arguments, "1") == 0
    assert len(bench.tested) == 2
    assert bench.run("SPVCNN-demo", sequences, *arguments, "1", "--checkpoint", str(path.with_name("copy.ckpt"))) == 0
    assert not bench.tested


def test_missing_subsets(bench, sequences, capsys) -> None:
    root = yan(sequences)
    shutil.rmtree(root / "fog_moderate" / "velodyne")
    assert bench.run("MinkowskiNet-demo", sequences, "--subsets", *FEW) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {root}: 1 of 4 subsets are missing: fog_moderate; make them with")
    assert not bench.results()

    assert bench.run("MinkowskiNet-demo", sequences, "--allow_missing", "--num_vote", "1") == 0
    assert "missing and left out: fog_moderate, fog_heavy, snowfall_light" in capsys.readouterr().out
    (folder,) = bench.results()
    assert tuple(rows_of(folder)) == ("clean_data", "fog_light", "dense_16beam")
    report = (folder / "summary.md").read_text()
    assert "14 of 17 subsets are not tested and left out of the means" in report and "moderate - / heavy -" in report
    # One that is made afterwards joins the rest.
    write_semantickitti(sequences / "08", root, ("snowfall_light",))
    assert bench.run("MinkowskiNet-demo", sequences, "--allow_missing", "--num_vote", "1") == 0
    assert [name.rpartition("/")[2] for name in bench.tested] == ["snowfall_light"]
    assert tuple(rows_of(folder)) == ("clean_data", "fog_light", "snowfall_light", "dense_16beam")

    shutil.rmtree(root)
    assert bench.run("MinkowskiNet-demo", sequences, "--allow_missing") == 2
    assert "17 of 17 subsets are missing: clean_data, fog_light" in capsys.readouterr().err


def test_scans_made_here(bench, sequences, capsys) -> None:
    """The note of tools/make_corruptions.py: what is not finished is missing, and published rows do not compare."""
    root = yan(sequences)
    options = {"generator": 1, "family": "yan", "dataset": "SemanticKITTI", "seed": 5, "mode": "physical"}
    note = {"options": options, "subsets": {name: {} for name in FEW[:3]}}
    (root / "corruptions.json").write_text(json.dumps(note))
    assert bench.run("MinkowskiNet-demo", sequences, "--subsets", *FEW) == 2
    assert "1 of 4 subsets are missing: dense_16beam" in capsys.readouterr().err
    arguments = ("--subsets", *FEW[:3], "--num_vote", "1")
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    assert "warning: the corrupted scans were made here" in capsys.readouterr().out
    (first,) = bench.results()
    report = (first / "summary.md").read_text()
    assert "made by tools/make_corruptions.py: generator 1, seed 5, mode physical" in report
    assert "published row of 2DPASS is not comparable" in report

    # A test of ours is comparable: of another model on the same scans, here the same, with an error of 100 %.
    arguments = (*arguments, "--baseline", str(first / "summary.csv"))
    assert bench.run("SPVCNN-demo", sequences, *arguments) == 0
    assert "warning: the corrupted scans" not in capsys.readouterr().out
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    assert f"mCE 100.00 against {first.name}" in capsys.readouterr().out

    (root / "corruptions.json").write_text(json.dumps({**note, "options": {**options, "seed": 6}}))
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    assert len(bench.tested) == 3  # other scans than before
    assert bench.run("MinkowskiNet-demo", sequences, "--family", "robo3d", "--corruption_path", str(root)) == 2
    assert "was made with family yan, this is a test of robo3d" in capsys.readouterr().err


def test_scans_that_went_or_came(bench, sequences, capsys) -> None:
    """Of scans made here the note tells how many; of others a finished subset is tested anew once there are more."""
    root = yan(sequences, FEW[:2])
    aside = [root / "fog_light" / kind for kind in ("velodyne/000001.bin", "labels/000001.label")]
    contents = [path.read_bytes() for path in aside]
    for path in aside:
        path.unlink()
    arguments = ("--subsets", *FEW[:2], "--num_vote", "1")
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    for path, content in zip(aside, contents, strict=True):
        path.write_bytes(content)
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    assert [name.rpartition("/")[2] for name in bench.tested] == ["fog_light"]
    (folder,) = bench.results()
    assert rows_of(folder)["fog_light"]["scans"] == "2"
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0 and not bench.tested

    note = {"options": {"family": "yan"}, "subsets": {name: {"frames": 2} for name in FEW[:2]}}
    (root / "corruptions.json").write_text(json.dumps(note))
    assert bench.run("MinkowskiNet-demo", sequences, *arguments, "--debug") == 0
    for path in aside:
        path.unlink()
    capsys.readouterr()
    assert bench.run("MinkowskiNet-demo", sequences, *arguments, "--allow_missing") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {root / 'fog_light'}: 1 of its 2 scans are there; make them again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--subsets", "rain"), "--subsets rain: SemanticKITTI-C (Yan et al., IJCV 2024) has none of that name"),
        (("--baseline", "Nobody"), "--baseline Nobody: neither a summary.csv nor a published row"),
        (("--checkpoint", "nowhere.ckpt"), "nowhere.ckpt: no such checkpoint"),
        (("--corruption_path", "nowhere"), "nowhere: 17 of 17 subsets are missing"),
        (("--gpu", "0", "--precision", "16"), "--precision 16 needs a CUDA device"),
    ],
)
def test_refusals_are_one_line(bench, sequences, capsys, arguments, message) -> None:
    yan(sequences)
    assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not bench.results()


def test_refusals_of_the_config(bench, sequences, demo_trees, capsys) -> None:
    assert bench.run("SPVCNN-nuscenes", demo_trees["nuScenes"]) == 2
    assert "--family yan: is not there for nuScenes; use --family robo3d" in capsys.readouterr().err
    assert run_program(lambda: robust_test.main([])) == 2
    assert "robust_test.py needs --checkpoint" in capsys.readouterr().err
    assert robust_test.parse_arguments([]).config is None, "that of the checkpoint"


def test_a_subset_without_labels_that_count(bench, sequences, capsys) -> None:
    root = yan(sequences)
    for path in (root / "fog_light" / "labels").iterdir():
        np.full(path.stat().st_size // 4, 23, "<u4").tofile(path)
    assert bench.run("MinkowskiNet-demo", sequences, "--subsets", "fog_light", "--num_vote", "1") == 2
    assert f"{root / 'fog_light'}: no point has a label that counts" in capsys.readouterr().err


def test_a_run_with_a_fetched_checkpoint_lies_in_logs_and_is_continued(bench, sequences, monkeypatch, capsys) -> None:
    yan(sequences, ("clean_data",))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("utils.fetching.links.cache_folder", lambda: bench.folder / "cache")
    with serving(FileServer()) as server:
        path = Path(bench.command("MinkowskiNet-demo", sequences)[4])
        server.files["/m.ckpt"] = path.read_bytes()
        arguments = ("--subsets", "clean_data", "--num_vote", "1", "--checkpoint", server.link("/m.ckpt"))
        for _ in range(2):
            assert bench.run("MinkowskiNet-demo", sequences, *arguments) == 0
    (folder,) = bench.results()
    assert folder.parent == bench.folder / "logs" / "SemanticKITTI" / "default"
    assert "all 1 subsets are finished" in capsys.readouterr().out and len(server.requests) == 1


def test_two_processes_test_as_one(bench, sequences, programs) -> None:
    yan(sequences)
    arguments = ("--subsets", "clean", "16beam", "--num_vote", "2", "--allow_missing")
    assert bench.run("2DPASS-demo", sequences, *arguments) == 0
    command = two_processes(bench.command("2DPASS-demo", sequences, *arguments, "--output", "two"))
    both = programs.run_as_torchrun(ROOT / "robust_test.py", *command)
    assert [done.returncode for done in both] == [0, 0], both[0].stderr[-3000:]
    (one,), (two,) = Path("checkpoint").glob("robust_test_*"), Path("two").iterdir()
    assert rows_of(one).keys() == rows_of(two).keys()
    for name, row in rows_of(one).items():
        assert row["points"] == rows_of(two)[name]["points"]
        assert float(row["mIoU"]) == pytest.approx(float(rows_of(two)[name]["mIoU"]), abs=0.01)
    assert sum(done.stdout.count("[1 of 2] clean_data: mIoU") for done in both) == 1
