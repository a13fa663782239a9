"""What the programs import before they have to: help and refusals need neither torch nor what draws or computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from network.assemble import build_network
from network.weights.description import describe
from tests.conftest import ROOT, TREE
from utils.config.loading import load_config
from utils.labels import LabelMap
from utils.paths import resolve_path

HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "matplotlib", "scipy", "tensorboard", "viser", "fsspec"}
CONFIG = ROOT / "config" / "2DPASS-demo.yaml"
PROGRAMS = ["main.py", "robust_test.py", "predict.py"]
TOOLS = [f"tools/{path.name}" for path in sorted((ROOT / "tools").glob("*.py")) if not path.name.startswith("_")]
_RUN = """
import json, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, {folder!r})
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    modules = sorted({{name.partition(".")[0] for name in sys.modules}})
    print(json.dumps([error.code or 0, modules]), file=sys.__stderr__)
"""


def outcome(program: str, *arguments: object, folder: Path = ROOT) -> tuple[int, set[str], str]:
    """Runs a program to its end; returns its exit code, which of the heavy libraries it has imported, and stderr."""
    path = ROOT / program
    command = [sys.executable, "-c", _RUN.format(folder=str(path.parent)), path, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=60)
    *said, last = done.stderr.splitlines()
    code, modules = json.loads(last)
    return code, HEAVY & set(modules), "\n".join(said)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the demo's network that holds its config."""
    config = load_config(CONFIG, ["model_params.hiden_size=8"])
    network = build_network(config, baseline_only=True)
    label_map = LabelMap.load(resolve_path(config.dataset_params.label_mapping))
    ours = {"geometry": network.geometry(), "description": describe(config, label_map, None)}
    path = tmp_path_factory.mktemp("checkpoint") / "own.ckpt"
    torch.save({"state_dict": network.state_dict(), "2dpass": ours}, path)
    return path


@pytest.mark.parametrize(
    "program", [*PROGRAMS, *TOOLS, *(f"tools/benchmark.py {n}" for n in ("stages", "growth", "gpu"))]
)
def test_help_imports_nothing_heavy(program) -> None:
    name, *words = program.split()
    assert outcome(name, *words, "--help") == (0, set(), "")


REFUSED = {
    "an unknown flag": ("main.py", ["--nonsense"], "--nonsense"),
    "a flag without its value": ("main.py", ["--config"], "--config"),
    "flags that exclude each other": ("main.py", ["--fine_tune", "--pretrain2d", "--checkpoint", "x"], "--pretrain2d"),
    "a missing config": ("main.py", ["--config", "nope.yaml"], "nope.yaml"),
    "no YAML": ("main.py", ["--set", "train_params.learning_rate=[1"], "learning_rate"),
    "an unknown key": ("main.py", ["--set", "train_params.learning_rat=1"], "did you mean train_params.learning_rate?"),
    "a wrong value": ("main.py", ["--set", "train_params.learning_rate=fast"], "learning_rate"),
    "a tracker beside none": ("main.py", ["--logger", "csv", "none"], "--logger csv none: none stands alone"),
    "a precision of GPUs": ("main.py", ["--cpu", "--precision", "16"], "--precision 16 needs a CUDA device"),
    "a device twice": ("main.py", ["--cpu", "--gpu", "1"], "--gpu 1 has no effect beside --cpu"),
    "no scans": ("main.py", ["--cpu", "--set", "dataset_params.val_data_loader.data_path=nowhere"], "nowhere: no such"),
    "no checkpoint": ("main.py", ["--test", "--checkpoint", "nope.ckpt"], "nope.ckpt: no such checkpoint"),
    "another network": (
        "main.py",
        ["--test", "--checkpoint", "OWN", "--set", "model_params.hiden_size=16"],
        "was trained with another config: model_params.hiden_size was 8, is 16",
    ),
    "another network, published": (
        "main.py",
        ["--test", "--checkpoint", ROOT / "checkpoint" / "demo", "--set", "model_params.hiden_size=16"],
        "was trained with another config: model_params.hiden_size was 32, is 16",
    ),
    "scores of another test": (
        "tools/publish.py",
        ["--checkpoint", "OWN", "--output", "new", "--scores", ROOT / "checkpoint" / "demo" / "statistics.json"],
        "statistics.json: not readable as the scores of a test",
    ),
    "an unknown subset": ("robust_test.py", ["--cpu", "--checkpoint", "OWN", "--family", "none"], "--family"),
    "votes that are not allowed": (
        "robust_test.py",
        ["--checkpoint", "OWN", "--family", "robo3d", "--num_vote", "2"],
        "--num_vote 2",
    ),
    "a missing scan": ("predict.py", ["nope.bin", "--cpu", "--checkpoint", "OWN", "--output", "out"], "nope.bin"),
    "a wrong key of a checkpoint": (
        "predict.py",
        ["nope.bin", "--checkpoint", "OWN", "--output", "out", "--set", "model_params.num_classes=many"],
        "num_classes",
    ),
    "a benchmark's flag": ("tools/benchmark.py", ["stages", "--runs", "0"], "--runs"),
    "a viewer's flag": ("tools/view.py", ["--scans", "a", "--data_path", "b"], "one of them"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_imports_nothing_heavy(case, checkpoint, tmp_path) -> None:
    program, arguments, said = REFUSED[case]
    words = [checkpoint if word == "OWN" else word for word in arguments]
    if program == "main.py" and "--config" not in words and "--test" not in words:
        words += ["--config", CONFIG]
    code, heavy, errors = outcome(program, *words, folder=tmp_path)
    assert (code, heavy) == (2, set()) and said in errors, errors


def test_a_missing_teacher_is_said_at_once(tmp_path, monkeypatch) -> None:
    """The hub's library asks again and again; what the first attempt meets is said, before torch is imported."""
    for name, value in {"CACHE": str(tmp_path), "OFFLINE": "0"}.items():
        monkeypatch.setenv(f"HF_HUB_{name}", value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("NO_PROXY", "*")
    words = ["--config", CONFIG, "--cpu", "--set", "model_params.backbone_2d=dinov2-small"]
    paths = [f"dataset_params.{part}_data_loader.data_path={TREE}" for part in ("train", "val")]
    code, heavy, errors = outcome("main.py", *words, *paths, folder=tmp_path)
    (line,) = errors.splitlines()
    assert (code, heavy) == (2, set()) and "facebook/dinov2-small is not in" in line
    assert "could not be downloaded ([Errno" in line and "Connection refused" in line


def test_a_test_and_labels_need_no_lightning() -> None:
    script = "import sys, commands.testing, commands.robustness, commands.labelling; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {name.partition(".")[0] for name in found.split()}
    assert "torch" in tops
    assert not tops & {"pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard", "viser"}
    assert "torch._dynamo" not in found.split()
