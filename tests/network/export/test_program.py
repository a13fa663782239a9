"""Programs of torch.export, in Python, and compiled and run by the example in C++."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from network.assemble import load_for_test
from network.export.model_file import describe
from network.export.nearest import nearest
from network.export.program import LabelProgram, compile_program, write_program
from network.models.segmentation_network import SegmentationNetwork
from network.native.library import switched_off
from network.segmenter import Segmenter
from network.weights.configuration import Tested, open_for_test
from tests.support.checkpoints import write_checkpoint
from tests.support.networks import refusal
from utils.config.loading import load_config
from utils.paths import REPOSITORY
from utils.scan.records import Batch

CONFIGS = (
    *("2DPASS-demo", "SPVCNN-demo", "MinkowskiNet-demo"),
    *("2DPASS-nuscenes", "SPVCNN-nuscenes", "MinkowskiNet-nuscenes"),
)
EXPORTED = ("2DPASS-demo", "SPVCNN-demo")  # all layers of the three networks are in them; an export takes seconds
EXAMPLE = REPOSITORY / "examples" / "cpp" / "main.cpp"


def make_points(count: int = 900, seed: int = 0) -> np.ndarray:
    """Makes points, of which some are no returns, outside of any volume, or together in a voxel."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.normal(0, [12, 6, 0.6], (count, 3)) - [0, 0, 1], rng.random(count)])
    points[10:30] = points[9] + 0.01
    points[::7, :3] *= 8
    points[3, 1], points[4, 0], points[5, :3], points[6, 3] = np.nan, np.inf, 0, np.nan
    return points.astype(np.float32)


def tiny(name: str, folder: Path) -> tuple[Tested, SegmentationNetwork]:
    narrow = ["model_params.cr=0.1"]
    if name.startswith("2DPASS"):
        narrow = ["model_params.hiden_size=4", "model_params.scale_list=[2]"]
    checkpoint = write_checkpoint(folder / f"{name}.ckpt", load_config(REPOSITORY / "config" / f"{name}.yaml", narrow))
    tested = open_for_test(str(checkpoint), "default", None, (), lambda line: None)
    network = load_for_test(tested.config, tested.path, tested.content)[0].eval().requires_grad_(False)
    # So that no class is chosen everywhere.
    points = torch.from_numpy(make_points()).nan_to_num(0.0, 0.0, 0.0)
    none = torch.zeros(len(points), dtype=torch.int64)
    logits = network.predict(Batch(points, none, none, none, none, None, (len(points),)))
    network.get_parameter("classifier.bias").sub_(logits.mean(0))
    return tested, network


def expect_labels_of_segmenter(program, tested: Tested, network: SegmentationNetwork, points: np.ndarray) -> None:
    expected = Segmenter(network, tested, fit="off", device="cpu")(points)
    labels, confidences = program(torch.from_numpy(points))
    assert labels.dtype == torch.uint8 and confidences.dtype == torch.float32
    assert np.array_equal(labels.numpy(), expected.labels)
    assert np.abs(confidences.numpy() - expected.confidence).max() < 1e-4
    assert len(set(expected.labels.tolist())) > 2


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns, for a config, its checkpoint, its network, and the program that was written and read again."""
    kept = {}

    def get(name: str):
        if name not in kept:
            folder = tmp_path_factory.mktemp("program")
            tested, network = tiny(name, folder)
            (folder / "model").mkdir()
            assert write_program(network, describe(tested), folder / "model", "fp32") == {
                "model.pt2": {"weights": "fp32"}
            }
            assert str(REPOSITORY).encode() not in (folder / "model" / "model.pt2").read_bytes()  # it is not compressed
            extra = {"model.json": ""}
            kept[name] = tested, network, torch.export.load(folder / "model" / "model.pt2", extra_files=extra)
            assert json.loads(extra["model.json"])["names"] == list(tested.classes.names)
        return kept[name]

    return get


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_labels_as_the_segmenter_does(name, tmp_path):
    tested, network = tiny(name, tmp_path)
    program = LabelProgram(network, describe(tested)["volume"])
    with torch.no_grad(), switched_off():
        for points in (make_points(), make_points(7000, seed=1)):
            expect_labels_of_segmenter(program, tested, network, points)


def _expect_one(program, tested: Tested, network: SegmentationNetwork, points: np.ndarray) -> None:
    expected = Segmenter(network, tested, fit="off", device="cpu")(points)
    assert program(torch.from_numpy(points))[0].tolist() == expected.labels.tolist()


@pytest.mark.parametrize("name", EXPORTED)
def test_a_program_takes_any_number_of_points(exported, name):
    tested, network, program = exported(name)
    run = program.module()
    for count, seed in ((900, 0), (3000, 1)):
        expect_labels_of_segmenter(run, tested, network, make_points(count, seed))
    _expect_one(run, tested, network, make_points()[1:2])
    expect_nothing_of_nothing(run)


def expect_nothing_of_nothing(program) -> None:
    for points in (torch.zeros(0, 4), torch.zeros(1, 4), torch.full((3, 4), torch.nan)):
        labels, confidences = program(points)
        assert labels.shape == confidences.shape == (len(points),)
        assert not labels.any() and not confidences.any()


def test_labels_are_0_where_all_points_are_outside(exported):
    labels, confidences = exported("2DPASS-demo")[2].module()(torch.full((5, 4), 1000.0))
    assert labels.tolist() == [0] * 5 and confidences.tolist() == [0.0] * 5


@pytest.mark.parametrize("points, queries", [(5000, 800), (1, 3), (70000, 10), (40, 0)])
def test_the_nearest_point_is_exact(points, queries):
    generator = torch.Generator().manual_seed(0)
    near = torch.randn(points, 3, generator=generator) * torch.tensor([20.0, 20.0, 1.0])
    far = torch.randn(queries, 3, generator=generator) * 60
    near[points // 2 :] = near[points // 2 :].round()  # many at equal distances, and in one place
    distance = torch.stack([(near.double() - query).square().sum(1) for query in far.double()]) if queries else None
    expected = [] if distance is None else distance.argmin(1).tolist()
    assert nearest(near, far).tolist() == expected


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


@pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler: g++, or what CXX names")
def test_the_example_in_cpp_prints_the_labels_of_the_segmenter(exported, tmp_path):
    headers = Path(torch.__file__).parent / "include"
    if not (headers / "torch" / "csrc" / "inductor" / "aoti_package" / "model_package_loader.h").exists():
        pytest.skip("needs the C++ headers of torch")
    assert len(EXAMPLE.read_text().splitlines()) < 100
    tested, network, program = exported("2DPASS-demo")
    building = subprocess.Popen(_build(headers, tmp_path / "label_scan"), stderr=subprocess.PIPE, text=True)
    names, raw_ids = tested.classes.names, tested.classes.to_raw
    model = tmp_path / "model_cpu.pt2"
    model.write_bytes(compile_program(program, names, raw_ids.tolist(), optimize=False))
    _, complaints = building.communicate()
    assert building.returncode == 0, complaints

    segmenter = Segmenter(network, tested, fit="off", device="cpu")
    for points in (make_points(3000, seed=3), make_points(900)[1:2], np.zeros((0, 4), np.float32)):
        points.tofile(tmp_path / "scan.bin")
        arguments = [str(tmp_path / name) for name in ("label_scan", "model_cpu.pt2", "scan.bin", "scan.label")]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        labels = segmenter(points).labels if len(points) else np.zeros(0, np.uint8)
        assert np.array_equal(np.fromfile(tmp_path / "scan.label", np.uint32), raw_ids[labels])
        printed = {" ".join(words[:-1]): int(words[-1]) for words in map(str.split, done.stdout.splitlines())}
        assert printed == {names[label]: count for label, count in Counter(labels.tolist()).items()}
    (tmp_path / "scan.bin").write_bytes(b"12345")
    refused = subprocess.run(arguments, capture_output=True, text=True)
    assert refused.returncode == 2 and "scan.bin: no scan" in refused.stderr


def _build(headers: Path, program: Path) -> list[str]:
    """Returns a command that builds the example as CMake would, without asking CMake what is there."""
    libraries = Path(torch.__file__).parent / "lib"
    found = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
    return [str(compiler()), "-std=c++20", "-O0", str(EXAMPLE), f"-I{headers}", *found, "-o", str(program)]


def test_what_cannot_be_written_is_refused_before_the_work(exported, tmp_path, monkeypatch):
    tested, network, _ = exported("2DPASS-demo")
    monkeypatch.setenv("CXX", "/nowhere")
    assert "there is no /nowhere" in refusal(lambda: write_program(network, describe(tested), tmp_path, "fp32", True))
    assert "--weights int8" in refusal(lambda: write_program(network, describe(tested), tmp_path, "int8"))
    assert not [*tmp_path.iterdir()]
