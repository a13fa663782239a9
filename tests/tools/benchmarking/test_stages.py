from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from network.native.library import library, switched_off
from network.sparse.native_backend import NativeMap
from tools import benchmark
from tools.benchmarking import frame
from tools.benchmarking.frame import Origin, prepare
from tools.benchmarking.plain import versions as plain_versions
from tools.benchmarking.stages import command, networks, voxel_models
from tools.benchmarking.stages.catalogue import all_stages
from tools.benchmarking.stages.stage import Stage, count_different, largest_difference, measure
from utils.config.loading import load_config

ROOT = Path(__file__).parents[3]
CALIBRATION = "P2: 30 0 32 0 0 30 16 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"  # x forward, z up; 64 x 32 pixels
CONFIG = str(ROOT / "config" / "2DPASS-semantickitti.yaml")
SMALL = ["model_params.hiden_size=16", "dataset_params.bottom_crop=[64, 32]"]
POINTS = 3000
OUTSIDE = 10


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Uses one thread: inputs are tiny, and more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Makes one frame of a wavy ground of 6 m x 6 m before the camera: most voxels have neighbours, many hold two
    points."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("velodyne", "labels", "image_2"):
        (root / "00" / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    xy = rng.uniform([2, -3], [8, 3], (POINTS, 2))
    z = -1.7 + 0.15 * np.sin(3 * xy[:, :1])
    points = np.hstack([xy, z, rng.uniform(size=(POINTS, 1))]).astype("<f4")
    points[:OUTSIDE, 0] += 60
    points.tofile(root / "00" / "velodyne" / "000000.bin")
    raw = rng.choice([0, 10, 40, 48, 70, 252], POINTS).astype("<u4") | (rng.integers(3, size=POINTS) << 16).astype(
        "<u4"
    )
    raw.tofile(root / "00" / "labels" / "000000.label")
    image = rng.integers(256, size=(32, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(root / "00" / "image_2" / "000000.png")
    (root / "00" / "calib.txt").write_text(CALIBRATION)
    return root


@pytest.fixture(scope="module")
def subject(tree, tmp_path_factory):
    return prepare(Origin(tree), CONFIG, SMALL, tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def measurements(subject):
    return {name: measure(make(), 1) for name, make in all_stages(subject, ["32", "bf16"], width=0.125).items()}


def test_the_input_is_a_fair_one(subject):
    """Without this input the comparisons below would compare nothing."""
    pairs = subject.geometry.grids[1].pairs
    assert sum(len(inputs) for inputs, _ in pairs) > 3 * len(subject.voxels.base)
    assert len(subject.voxels.base) < 0.9 * len(subject.batch.points)
    assert (subject.training_batch.pixels[:, 0] >= 0).sum() > 100


def tolerance(name: str) -> float:
    """Returns the tolerance of a difference, relative to the largest value; or of the share of entries that differ."""
    if re.match(r"label map|training item|voxels|kernel maps", name):
        return 0.0
    if name.startswith("training step"):
        # The gradient of a random network: in fp32 alone it is known to a thousandth. For bf16 see below.
        return float("inf") if name.endswith("bf16") else 1e-3
    return 0.05 if name.endswith("bf16") else 1e-5  # bf16: 8 bits of mantissa, over a network's depth


def test_every_stage_gives_what_the_plain_way_gives(measurements):
    assert len(measurements) == 28
    apart = {name: str(m.difference) for name, m in measurements.items() if m.difference.relative > tolerance(name)}
    assert not apart


STEPS = {
    "2DPASS": networks.training_step,
    "3D network": networks.baseline_step,
    **{model: partial(voxel_models.training_step, model=model, width=0.125) for model in voxel_models.CONFIGS},
}


@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
def test_a_step_in_bf16_is_as_near_to_fp32_as_the_plain_way(subject, make):
    """Rounding to bf16 changes the side of many activations of a small random network: gradients of two ways in bf16
    differ as much from each other as from those in fp32. So neither is right, and their errors are compared."""
    with switched_off():
        losses, gradient = make(subject, "step", precision="32").plain.differentiate()
        _, plain = make(subject, "step", precision="bf16").plain.differentiate()
    our_losses, ours = make(subject, "step", precision="bf16").ours.differentiate()
    assert largest_difference(our_losses, losses).relative < 0.005
    exact, others, own = (torch.cat([part.flatten() for part in parts]) for parts in (gradient, plain, ours))
    assert (own - exact).norm() < 1.5 * (others - exact).norm()
    # Errors of rounding are at right angles to the gradient and so hardly change its share along it.
    along, along_plain = (float(found @ exact / exact.square().sum()) for found in (own, others))
    assert abs(along - along_plain) < 0.1


def test_what_is_compared_is_not_empty(measurements):
    assert all(m.difference.out_of > 0 for m in measurements.values())
    assert all(m.ours > 0 and m.plain > 0 for m in measurements.values())


@pytest.mark.parametrize("name", ["convolution", "3D network, fp32", "training step of 2DPASS, fp32"])
def test_a_wrong_convolution_is_noticed(subject, monkeypatch, name):
    def lacks_an_offset(features, weight, pairs, right=plain_versions.convolve):
        return right(features, weight[1:], pairs[1:])

    monkeypatch.setattr("tools.benchmarking.plain.versions.convolve", lacks_an_offset)
    monkeypatch.setattr("tools.benchmarking.plain.network.convolve", lacks_an_offset)
    for make in all_stages(subject, ["32"], lambda stage_name: name in stage_name).values():
        stage = make()
        assert stage.compare(stage.ours(), stage.plain()).relative > 10 * tolerance(stage.name)


def test_a_missing_pair_is_counted(subject):
    (make,) = all_stages(subject, ["32"], lambda name: "kernel maps" in name).values()
    stage = make()
    inputs, outputs = (plain := stage.plain())[0][4]
    plain[0][4] = (inputs[1:], outputs[1:])
    assert stage.compare(stage.ours(), plain).value == 1


def test_ours_and_plain_take_turns():
    calls = []
    stage = Stage("s", lambda: calls.append("A"), "p", lambda: calls.append("B"), lambda *_: count_different([], []))
    measure(stage, 3)
    assert calls == ["A", "B"] * 4  # the first pair warms up
    calls.clear()
    both = dataclasses.replace(stage, torch=lambda: calls.append("T"))
    assert measure(both, 3).torch is not None and calls == ["A", "T", "B"] * 4


def test_differences():
    numbers = torch.tensor([[1.0, -4.0]])
    found = largest_difference([numbers, 100 * numbers], [numbers + 0.5, 100 * numbers])
    assert (found.value, found.out_of) == (0.5, 3.5)
    assert largest_difference([numbers], [numbers * float("nan")]).relative == float("inf")
    assert largest_difference([numbers], [numbers[0]]).relative == float("inf")
    counted = count_different([torch.tensor([[1, 2], [3, 4], [5, 6]])], [torch.tensor([[1, 2], [3, 5], [0, 0]])])
    assert (counted.value, counted.out_of) == (2, 3)


def run(tree, *flags):
    return benchmark.main(["stages", "--data_path", str(tree), "--config", CONFIG, "--runs", "1", *map(str, flags)])


def test_the_table_is_printed_and_written(tree, tmp_path, capsys):
    output = tmp_path / "tables" / "table.md"
    run(tree, "--stages", "label map", "VOXELS AT", "--set", *SMALL, "--output", output)
    printed, written = capsys.readouterr().out, output.read_text()
    for text in (printed, written):
        assert f"{POINTS:,} points, {POINTS - OUTSIDE:,} of them in the volume" in text
        assert f"threads: {torch.get_num_threads()}" in text
        assert "Peak memory" in text or command.peak_memory() is None
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line.startswith("|")]
    assert rows[0] == list(command.COLUMNS)
    assert [row[0] for row in rows[2:]] == ["label map", "voxels at 5 scales, input features"]
    assert {row[-1] for row in rows[2:]} == {f"0 of {POINTS:,}", f"0 of {5 * (POINTS - OUTSIDE):,}"}


def test_the_roofline_is_printed_for_the_3d_network(tree, capsys):
    run(tree, "--stages", "3D network, fp32", "--set", *SMALL)
    printed = capsys.readouterr().out
    for text in (
        "3D network, fp32: ",
        "Arithmetic bound: ",
        "Memory bound: ",
        "Matrix products, fp32: ",
    ):
        assert printed.count(text) == 1
    with_native = library() is not None
    assert printed.count("of the greater bound (") == 1 + with_native
    assert ("GFLOP/s by native" in printed) == with_native and ("(native: " in printed) == with_native


def test_native_code_is_beside_torch(subject, measurements) -> None:
    """Stages of networks and geometry have both; files and pictures have no native code."""
    both = {name for name, measured in measurements.items() if measured.torch is not None}
    assert both == (
        {name for name in measurements if "item" not in name and name != "label map"} if library() else set()
    )


def test_the_column_of_torch_uses_no_native_code(subject, monkeypatch) -> None:
    if library() is None:
        pytest.skip("no native code on this machine")
    (make,) = all_stages(subject, ["32"], lambda name: name == "3D network, fp32").values()
    stage, used = make(), []
    convolve = NativeMap.convolve
    monkeypatch.setattr(NativeMap, "convolve", lambda *args, **options: (used.append(1), convolve(*args, **options))[1])
    assert stage.torch is not None
    stage.torch()
    assert not used


def test_ratio_is_plain_time_by_our_time(measurements):
    measured = dataclasses.replace(next(iter(measurements.values())), ours=0.002, plain=0.5, torch=0.25)
    texts = ("2.00", "250", measured.stage.plain_name, "500", "250.0 x", "2.0 x")
    assert command.cells(measured)[1:7] == texts
    alone = dataclasses.replace(measured, torch=None)  # no native code in it
    assert command.cells(alone)[1:7] == ("2.00", "2.00", *texts[2:5], "250.0 x")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frame", "999999"], r"999999\.bin"),
        (["--sequence", "11"], r"11.velodyne.000000\.bin"),
        (["--stages", "nothing"], "--stages nothing"),
        (["--set", "model_params.hidden=3"], "model_params.hidden"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tree, flags, message, capsys):
    assert run(tree, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error) and error.count("\n") == 1


def test_an_output_that_cannot_be_written_is_one_line(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "table.md"
    assert run(tree, "--stages", "label map", "--set", *SMALL, "--output", output) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {output}: cannot write the table") and printed.err.count("\n") == 1
    assert "label map" not in printed.out  # it is found before anything is measured


def test_the_default_experiment_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(benchmark.build_parser().parse_args(["stages"]).config) == load_config(CONFIG)


def test_without_data_a_demo_sweep_is_made(monkeypatch, tmp_path):
    small = dataclasses.replace(frame.FULL_SIZE, beams=8, azimuth_steps=64, image_size=(64, 32), workers=1)
    assert (frame.FULL_SIZE.beams, frame.FULL_SIZE.azimuth_steps) == (64, 2048)
    monkeypatch.setattr(frame, "FULL_SIZE", small)
    monkeypatch.setattr(frame.os, "cpu_count", lambda: 1)
    subject = prepare(Origin(None, "08", "000007"), CONFIG, SMALL, tmp_path)
    assert 0 < len(subject.batch.whole[0].xyz) <= 8 * 64
