"""The command make_demo_data: its flags, its files and its one line of output. The files' contents are tested in
demo_world/."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.demo import file_bytes, read_scan, read_table
from tests.support.processes import held_by_another
from tools import make_demo_data
from tools.demo_world.options import DEFAULTS

FLAGS = [
    "--train_frames=1", "--val_frames=1", "--test_frames=1", "--beams=8", "--azimuth_steps=64",
    "--image_size", "32", "32", "--workers=1",
]  # fmt: skip


def test_command_line(tmp_path, capsys):
    command = [*FLAGS, "--output", str(tmp_path / "demo")]
    assert make_demo_data.main(command) == 0
    assert str(tmp_path / "demo") in capsys.readouterr().out
    assert len(read_scan(tmp_path / "demo", "11", 0)) > 100
    assert make_demo_data.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make_demo_data.main([*command, "--seed", "4"]) == 2
    complaint = capsys.readouterr().err.strip()
    assert "--overwrite" in complaint
    assert "\n" not in complaint


def test_nuscenes_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*FLAGS, "--dataset", "nuscenes"]
    assert make_demo_data.main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("dataset/demo/nuscenes: 12 frames")
    assert " of 16 classes in mini_val" in said
    assert len(read_table(tmp_path / "dataset" / "demo" / "nuscenes", "v1.0-test", "sample")) == 2
    assert make_demo_data.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make_demo_data.main([*FLAGS, "--output", "dataset/demo/nuscenes"]) == 2  # not where SemanticKITTI may go
    assert "--overwrite" in capsys.readouterr().err


def test_sweeps_are_of_nuscenes_only(tmp_path, capsys):
    assert make_demo_data.main([*FLAGS, "--output", str(tmp_path / "demo"), "--sweeps", "2"]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith("error: --sweeps: ") and "\n" not in complaint and not (tmp_path / "demo").exists()
    flags = make_demo_data.parse(["--dataset", "nuscenes", "--sweeps", "9"])
    assert make_demo_data.chosen(flags).sweeps == 9


def test_streets_are_of_semantickitti_only(tmp_path, capsys):
    flags = ["--dataset", "nuscenes", "--output", str(tmp_path / "demo"), "--train_streets", "2"]
    assert make_demo_data.main([*FLAGS, *flags]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith("error: --train_streets: ") and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("dataset", ["semantickitti", "nuscenes"])
def test_defaults_are_the_data_sets(dataset):
    usual = make_demo_data.chosen(make_demo_data.parse(["--dataset", dataset, "--workers", "1"]))
    assert usual == DEFAULTS[dataset]
    flags = make_demo_data.parse(["--dataset", dataset, "--image_size", "64", "48", "--seed", "3", "--workers", "1"])
    assert make_demo_data.chosen(flags) == replace(DEFAULTS[dataset], image_size=(64, 48), seed=3)


def test_reflectance_reaches_the_scans_and_no_picture(tmp_path):
    usual, other = tmp_path / "usual", tmp_path / "other"
    assert make_demo_data.main([*FLAGS, "--output", str(usual)]) == 0
    changes = ["--reflectance", "GRASS=0.9", "GRAVEL=0.2", "--reflectance", "METAL=0"]
    assert make_demo_data.main([*FLAGS, "--output", str(other), *changes]) == 0
    before, after = file_bytes(usual), file_bytes(other)
    differing = {name for name in before if before[name] != after[name]}
    assert "00/velodyne/000000.bin" in differing
    # What is far and dark is measured less often, so labels may differ too.
    assert all(name.endswith((".bin", ".label", "demo_world.json")) for name in differing)
    assert json.loads(after["demo_world.json"])["options"]["reflectance"] == {"GRASS": 0.9, "GRAVEL": 0.2, "METAL": 0.0}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--reflectance", "METTAL=0.5"], "--reflectance METTAL: no such material, did you mean METAL?"),
        (["--reflectance", "METAL=2"], "--reflectance METAL has to be from 0 to 1"),
        (["--reflectance", "METAL=much"], "--reflectance METAL=much must read MATERIAL=SHARE"),
        (["--reflectance", "METAL"], "--reflectance METAL must read MATERIAL=SHARE"),
        (["--beams", "1"], "--beams has to be"),
        (["--output", "file/below"], "file"),
        (["--output", "file"], "file: "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    assert make_demo_data.main([*FLAGS, *flags]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith(f"error: {words}")
    assert "\n" not in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_second_of_two_waits_and_finds_the_work_done(tmp_path, capsys, monkeypatch):
    command = [*FLAGS, "--output", str(tmp_path / "demo")]
    assert make_demo_data.main(command) == 0
    capsys.readouterr()
    with held_by_another(tmp_path / ".demo.lock") as other:
        # As soon as it is said that this one waits, the other one ends.
        monkeypatch.setattr(make_demo_data, "say", lambda line: (print(line), other.kill()))
        assert make_demo_data.main(command) == 0
    waited, done = capsys.readouterr().out.splitlines()
    assert waited.endswith("waiting for its end") and "nothing to do" in done
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
