"""Models in ONNX, run by ONNX Runtime and the runner beside them, against the network itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from network.export.nearest import nearest as nearest_of_program
from network.points import as_cloud
from network.segmenter import Segmenter
from tests.support.checkpoints import small_config, write_checkpoint
from tools.export import main
from utils.config.loading import load_config
from utils.errors import UserError
from utils.paths import REPOSITORY
from utils.scan.batch import pack
from utils.scan.nearest import nearest_inside

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
Graph = pytest.importorskip("network.export.onnx_graph").Graph

RUNNER = REPOSITORY / "network" / "export" / "runner" / "run_onnx.py"
CONFIGS = {
    "2DPASS": "2DPASS-demo",
    "MinkowskiNet": "MinkowskiNet-demo",
    "SPVCNN": "SPVCNN-demo",
    "2DPASS of nuScenes": "2DPASS-nuscenes-demo",  # coarse scales occur several times
    "MinkowskiNet of nuScenes": "MinkowskiNet-nuscenes",
    "SPVCNN of nuScenes": "SPVCNN-nuscenes",
}


def load_runner(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_onnx", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_points(count: int, seed: int = 0, top: float = 1.0) -> np.ndarray:
    """Points on streets and walls, some far away, some without a return."""
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, [15, 8, 0.5], (count, 3)) - [0, 0, 1]
    xyz[::3, 2] = -1.7  # neighbours in one plane
    xyz[::37] *= 8
    points = np.column_stack([xyz, top * rng.random(count)]).astype(np.float32)
    points[5::101, 1] = np.nan
    points[7::101, :3] = 0
    points[9::101, 3] = np.nan
    return points


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of a tiny network, and the folder of its export."""
    folder = tmp_path_factory.mktemp("onnx")
    key = "hiden_size=4" if request.param.startswith("2DPASS") else "cr=0.1"
    config = load_config(REPOSITORY / "config" / f"{CONFIGS[request.param]}.yaml", [f"model_params.{key}"])
    checkpoint = write_checkpoint(folder / "best.ckpt", config)
    export(checkpoint, folder / "model")
    return checkpoint, folder / "model"


def export(checkpoint: Path, output: Path, *flags: str, code: int = 0) -> None:
    words = ["--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(output), *flags]
    assert main(words) == code


def compare(segmenter: Segmenter, model: Any, points: np.ndarray) -> None:
    """The model labels points as the segmenter does: logits within 1e-4, and labels but where two are as likely."""
    result, (labels, confidence) = segmenter(points), model(points)
    assert labels.dtype == np.uint8 and confidence.dtype == np.float32
    assert np.count_nonzero(labels != result.labels) <= len(points) / 1000
    np.testing.assert_allclose(confidence, result.confidence, atol=1e-4)
    inside = result.confidence > 0
    rows, (_, _, logits) = model.predict(np.nan_to_num(points[inside]))
    expected = logits_of(segmenter, points[inside])
    assert len(points) < 3000 or np.ptp(expected, axis=0).max() > 0.1 * np.abs(expected).max()
    np.testing.assert_allclose(logits[rows], expected, atol=1e-4 * max(1, np.abs(expected).max()))


def logits_of(segmenter: Segmenter, points: np.ndarray) -> np.ndarray:
    network = segmenter._evaluation.network
    batch = pack([segmenter.prepare(as_cloud(points)).sample], with_images=False, input_dims=4).to(torch.device("cpu"))
    with torch.no_grad():
        return network.predict(batch).numpy()


def test_labels_are_those_of_the_network(exported) -> None:
    checkpoint, folder = exported
    segmenter = Segmenter.load(checkpoint, device="cpu", fit="off")
    model = load_runner(folder / "run_onnx.py").Model(folder, threads=1)
    top = 5.0 if segmenter.sensor.name == "nuScenes" else 1.0
    points = make_points(3000, top=top)
    for some in (
        points,
        points[1:2],
        points[::7],
        make_points(40, seed=1, top=top) - [100, 0, 0, 0] * np.ones((40, 1)),
    ):
        try:
            segmenter(some)
        except UserError:
            with pytest.raises(ValueError, match="inside the volume"):
                model(some)
        else:
            compare(segmenter, model, some.astype(np.float32))
    assert [len(each) for each in model(points[:0])] == [0, 0]
    with pytest.raises(ValueError, match="is a return"):
        model(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="shape"):
        model(points[:, :3])


def test_operators_are_standard_ones(exported) -> None:
    model = onnx.load(exported[1] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]


ALONE = """
import sys
from importlib.abc import MetaPathFinder
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})]
class Wall(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in {{"numpy", "onnxruntime", "_distutils_hack", *sys.stdlib_module_names}}:
            raise ModuleNotFoundError(f"{{name}} is behind the wall", name=name)
sys.meta_path.insert(0, Wall())
import runpy
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the runner where no library but NumPy and ONNX Runtime can be imported, nor anything of this repository."""
    script = ALONE.format(root=str(REPOSITORY), arguments=list(map(str, arguments)))
    return subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=folder, timeout=60)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt", small_config())


@pytest.fixture(scope="module")
def model_folder(checkpoint) -> Path:
    export(checkpoint, checkpoint.parent / "model")
    return checkpoint.parent / "model"


def test_the_runner_needs_nothing_else(checkpoint, model_folder, tmp_path) -> None:
    points = np.nan_to_num(make_points(2000))
    points.tofile(tmp_path / "scan.bin")
    done = run_alone(model_folder / "run_onnx.py", "scan.bin", "--output", "scan.label", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    Segmenter.load(checkpoint, device="cpu", fit="off")(points).save(tmp_path / "expected.label")
    found, expected = (np.fromfile(tmp_path / f"{name}.label", "<u4") for name in ("scan", "expected"))
    assert len(found) == 2000 and np.count_nonzero(found != expected) <= 2
    (tmp_path / "cut.bin").write_bytes(points.tobytes()[:-3])
    done = run_alone(model_folder / "run_onnx.py", "cut.bin", "--output", "cut.label", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: cut.bin: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "cut.label").exists()


def test_files_of_different_exports_are_refused(model_folder, tmp_path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    with (tmp_path / "model" / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="do not belong together"):
        load_runner(RUNNER).Model(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no exported model"):
        load_runner(RUNNER).Model(tmp_path / "model")


@pytest.mark.parametrize(("weights", "digits"), [("fp16", 2.0**-11), ("int8", 0.5 / 127)])
def test_weights_are_rounded_by_row(weights, digits) -> None:
    graph = Graph(weights)
    matrix = torch.randn(64, 48) * torch.logspace(-3, 3, 48)
    value = graph.op("Identity", graph.matrix(matrix))
    session = onnxruntime.InferenceSession(graph.model({"out": (value, onnx.TensorProto.FLOAT, 2)}).SerializeToString())
    (found,) = session.run(["out"], {})
    assert (np.abs(found - matrix.numpy()) <= 1.01 * digits * matrix.abs().amax(dim=0).numpy()).all()
    assert len(graph.model({"out": (value, onnx.TensorProto.FLOAT, 2)}).SerializeToString()) < 0.7 * matrix.numel() * 4


def test_the_nearest_point_is_found_exactly() -> None:
    nearest = load_runner(RUNNER).nearest
    rng = np.random.default_rng(0)
    cloud = rng.normal(0, [20, 10, 1], (1000, 3)).astype(np.float32)
    stray, plane = np.array([[1e6, 0, 0]], np.float32), np.round(cloud) * [1, 1, 0]
    queries = np.concatenate([cloud[:200] * 5, rng.uniform(-1e5, 1e5, (50, 3)), [[0, 0, 1e9]]]).astype(np.float32)
    for points in (cloud, cloud[:1], np.concatenate([cloud, stray]), stray, plane.astype(np.float32), cloud[[0] * 9]):
        found = np.linalg.norm(points[nearest(points, queries)] - queries.astype(np.float64), axis=1)
        np.testing.assert_allclose(found, KDTree(points).query(queries)[0], rtol=1e-12)


def test_all_searches_agree_on_points_that_are_far_away() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, [20, 10, 1], (2000, 3)).astype(np.float32)
    points[500:] = points[499]  # many in one place
    directions = rng.normal(size=(3000, 3))
    queries = (directions * 10.0 ** rng.uniform(9, 37, (3000, 1))).astype(np.float32)
    ahead = points.astype(np.float64) @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    found = nearest_inside(np.concatenate([points, queries]), np.arange(5000) < 2000)[2000:]
    assert (ahead[found, np.arange(3000)] > ahead.max(axis=0) - 0.05).all()
    assert (points[load_runner(RUNNER).nearest(points, queries)] == points[found]).all()
    of_program = nearest_of_program(torch.from_numpy(points), torch.from_numpy(queries))
    assert (points[of_program.numpy()] == points[found]).all()


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    export(*arguments, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_exported_is_refused_by_name(checkpoint, tmp_path, capsys) -> None:
    past = write_checkpoint(
        tmp_path / "past.ckpt", small_config("model_params.input_dims=5", "dataset_params.past_scans=2")
    )
    assert "input_dims is 5" in refused(capsys, past, tmp_path / "model")
    assert "--num_vote: " in refused(capsys, checkpoint, tmp_path / "model", "--num_vote", "12")
    assert "--poses: " in refused(capsys, checkpoint, tmp_path / "model", "--poses", "poses.txt")
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_else_is_refused(checkpoint, model_folder, tmp_path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds notes.txt" in refused(capsys, checkpoint, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text("{}")
    assert "of no export" in refused(capsys, checkpoint, tmp_path / "other")
    assert "is no folder" in refused(capsys, checkpoint, tmp_path / "notes.txt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.json", "notes.txt", "other"]
    shutil.copytree(model_folder, tmp_path / "again")
    export(checkpoint, tmp_path / "again", "--weights", "int8")
    about = json.loads((tmp_path / "again" / "model.json").read_text())
    assert about["files"]["model.onnx"]["weights"] == "int8" and about["names"][0] == "unlabeled"
