"""The commands with a checkpoint of the network: results as with the file itself, and none in a cache."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import main
import predict
from network.segmenter import Segmenter
from network.weights.configuration import beginning
from network.weights.reading import read_outline
from tests.conftest import TREE
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.file_server import FakeHub, FileServer, serving, sha256
from tools import publish, view
from utils.command.process import run_program
from utils.labels import LabelMap
from utils.paths import REPOSITORY
from utils.results.published import MODEL
from utils.results.run_folder import checkpoint_at


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fetched") / "best.ckpt", small_config())


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of both caches; the current folder is another."""
    monkeypatch.setenv("NO_PROXY", "*")
    # Not XDG_CACHE_HOME: native code would be compiled again.
    monkeypatch.setattr("utils.fetching.links.cache_folder", lambda: tmp_path / "caches")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "caches" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "caches"


@pytest.fixture
def link(checkpoint: Path, caches: Path) -> Iterator[str]:
    """A link to the checkpoint, with its digest."""
    with serving(FileServer()) as server:
        server.files["/best.ckpt"] = checkpoint.read_bytes()
        yield server.link("/best.ckpt")


@pytest.fixture
def hub(checkpoint: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has the checkpoint, published."""
    published = caches.with_name("published")
    assert publish.main(["--checkpoint", str(checkpoint), "--output", str(published), "--license", "mit"]) == 0
    with serving(FakeHub()) as server:
        server.files.update({path.name: path.read_bytes() for path in published.iterdir()})
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_test_of_a_link_leaves_its_results_in_logs(link, caches, monkeypatch, capsys) -> None:
    monkeypatch.setattr("utils.results.evaluation.PICTURES", 0)
    monkeypatch.setattr("utils.results.evaluation.draw_confusion", lambda *arguments: None)
    settings = [f"dataset_params.val_data_loader.{key}" for key in (f"data_path={TREE}", "num_workers=0")]
    command = ["--test", "--cpu", "--checkpoint", link, "--set", *settings]
    assert run_program(lambda: main.main(command)) == 0
    (scores,) = Path("logs").rglob("scores.json")
    digest = link.partition("=")[2]
    assert json.loads(scores.read_text())["checkpoint_sha256"] == digest
    assert files_of(caches) == {f"checkpoints/sha256-{digest}"}
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("fetching http://127.0.0.1:") and digest in next(x for x in said if "testing " in x)


def test_labels_of_a_model_of_the_hub_are_those_of_its_checkpoint(checkpoint, hub, caches, capsys) -> None:
    scan = next((TREE / "08" / "velodyne").iterdir())
    common = ["--cpu", "--fit", "off", "--columns", "x,y,z,i", str(scan), "--output"]
    for number, name in enumerate(["hf://owner/name@v1", str(checkpoint)]):
        assert run_program(lambda n=number, c=name: predict.main([*common, f"out{n}", "--checkpoint", c])) == 0
    fetched, own = (np.fromfile(f"out{number}/{scan.stem}.label", "<u4") for number in (0, 1))
    assert np.array_equal(fetched, own) and len(set(own.tolist())) > 1
    assert f"commit {hub.commit}" in capsys.readouterr().out
    before = files_of(caches)
    segmenter = Segmenter.load("hf://owner/name@v1", device="cpu")  # says nothing
    points = np.fromfile(scan, "<f4").reshape(-1, 4)
    assert np.array_equal(segmenter(points).labels, Segmenter.load(checkpoint, device="cpu")(points).labels)
    assert files_of(caches) == before and capsys.readouterr().out == ""


def test_passwords_and_keys_of_a_link_are_printed_and_written_nowhere(link, caches, monkeypatch, capsys) -> None:
    secret = link.replace("//", "//me:SECRET@").replace("#", "?key=SECRET#")
    scan = shutil.copy(next((TREE / "08" / "velodyne").iterdir()), "scan.bin")
    command = ["--cpu", "--columns", "x,y,z,i", str(scan), "--output", "out", "--checkpoint", secret]
    monkeypatch.setattr("sys.argv", ["predict.py", *command])
    assert run_program(lambda: predict.main(command)) == 0
    said = "".join(capsys.readouterr())
    assert "in the browser: python predict.py" in said and "SECRET" not in said
    for folder in (caches, Path()):
        assert not [name for name in files_of(folder) if b"SECRET" in (folder / name).read_bytes()]


def test_a_fine_tuning_names_repository_and_commit_it_began_with(hub, caches) -> None:
    path = checkpoint_at("hf://owner/name", print)
    label_map = LabelMap.load(REPOSITORY / small_config().dataset_params.label_mapping)
    assert path.name == MODEL and caches in path.parents
    began = beginning(read_outline(path), path, label_map, goes_on=False)
    assert began == f"owner/name@{hub.commit} (not trained on this split)"


def test_a_changed_copy_in_a_repository_is_refused(hub, capsys) -> None:
    hub.files["config.yaml"] = re.sub(b"hiden_size: 4", b"hiden_size: 5", hub.files["config.yaml"])
    assert (
        run_program(lambda: predict.main(["x.bin", "--output", "o", "--cpu", "--checkpoint", "hf://owner/name"])) == 2
    )
    assert "config.yaml: differs from what" in capsys.readouterr().err


def test_the_viewer_takes_the_classes_of_a_link(link, monkeypatch, capsys) -> None:
    shown = []
    monkeypatch.setattr(view, "view", lambda frames, *args, **settings: shown.append(frames.names))
    scan = shutil.copy(next((TREE / "08" / "velodyne").iterdir()), "scan.bin")
    assert view.main(["--scans", str(scan), "--columns", "x,y,z,i", "--checkpoint", link]) == 0
    assert "car" in shown[0]
    assert view.main(["--scans", str(scan), "--checkpoint", link.replace(link[-64:], sha256(b""))]) == 2
    assert "refused, its SHA-256 is" in capsys.readouterr().err
