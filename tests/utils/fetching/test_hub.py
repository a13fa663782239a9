"""Checkpoints on the hub: asked through its own library, at a server of the test."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.support.file_server import FakeHub, serving
from tests.support.full_disk import files_of_at_most
from utils.errors import UserError
from utils.results.fetching import fetch

FILES = {
    "model.safetensors": b"weights" * 1000,
    "config.yaml": b"model: small",
    "scores.json": b"{}",
    "README.md": b"# A model",
    "run.py": b"print('not fetched')",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(FakeHub()) as running:
        running.files.update(FILES)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running


def refusal(reference: str) -> str:
    """The line about a reference that cannot be fetched."""
    with pytest.raises(UserError) as caught:
        fetch(reference, lambda line: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_files_of_a_model_come_once_and_its_commit_is_said(hub, tmp_path, capfd) -> None:
    notes: list[str] = []
    folder = fetch("hf://owner/name", notes.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: content for name, content in FILES.items() if name != "run.py"
    }
    assert folder.name == hub.commit and tmp_path in folder.parents
    assert len(notes) == 1 and f"fetching hf://owner/name, commit {hub.commit}" in notes[0]
    asked = len(hub.requests)
    assert fetch("hf://owner/name/", notes.append) == folder and len(notes) == 1
    assert {method for method, *_ in hub.requests[asked:-1]} <= {"GET", "HEAD"} and len(hub.requests) == asked + 2
    assert capfd.readouterr() == ("", "")  # no bars, no warnings of the library


def test_a_commit_that_is_there_is_not_asked_for(hub) -> None:
    folder = fetch("hf://owner/name@v1", print)
    asked = len(hub.requests)
    assert fetch(f"hf://owner/name@{hub.commit}", print) == folder and len(hub.requests) == asked


def test_a_branch_that_moves_is_followed(hub) -> None:
    first = fetch("hf://owner/name@refs/pr/1", print)
    hub.files["model.safetensors"], hub.commit = b"better weights", "b" * 40
    second = fetch("hf://owner/name@refs/pr/1", print)
    assert second.name == hub.commit and (second / "model.safetensors").read_bytes() == b"better weights"
    assert (first / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("how", ["offline", "gone", "failing"])
def test_without_the_hub_the_last_commit_counts(hub, monkeypatch, how) -> None:
    folder = fetch("hf://owner/name", print)
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "gone":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.refused = 503, ""
    notes: list[str] = []
    assert fetch("hf://owner/name", notes.append) == folder
    assert "cannot be asked" in notes[0] and hub.commit in notes[0]
    weights = folder / "model.safetensors"
    weights.write_bytes(b"damaged")
    assert f"{weights} is not what the hub says" in refusal("hf://owner/name")
    assert "could not be downloaded" in refusal("hf://owner/other")


@pytest.mark.parametrize("revision", ["", "@" + "a" * 40])
@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_a_damaged_file_of_the_cache_is_fetched_again(hub, name, revision) -> None:
    folder = fetch("hf://owner/name", print)
    (folder / name).write_bytes(b"damaged")
    notes: list[str] = []
    assert fetch(f"hf://owner/name{revision}", notes.append) == folder
    assert (folder / name).read_bytes() == FILES[name] and f"{folder / name} is damaged" in notes[0]


def test_what_is_not_what_the_hub_says_is_refused(hub) -> None:
    """A server of files that sends other bytes than the hub has listed."""
    hub.spoiled["model.safetensors"] = b"Weights" * 1000
    assert "is not what the hub says by its digest" in refusal("hf://owner/name")


def test_a_cut_connection_is_taken_up_again(hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cuts_of_files = [3000]
    folder = fetch("hf://owner/name", print)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert "bytes=3000-" in hub.ranges()


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ((401, "RepoNotFound"), ("has no such model, or it is private", "HF_TOKEN")),
        ((403, "GatedRepo"), ("wants an accepted licence", "hf auth login")),
        ((404, "RevisionNotFound"), ("has no revision v1",)),
        ((500, ""), ("could not be downloaded", "answers with 500")),
    ],
)
def test_refusals_of_the_hub_are_one_line(hub, refused, words) -> None:
    hub.refused = refused
    line = refusal("hf://owner/name@v1")
    assert line.startswith("hf://owner/name@v1: ") and all(word in line for word in words)


def test_a_model_of_another_program_is_refused(hub) -> None:
    del hub.files["model.safetensors"]
    assert "has no model.safetensors" in refusal("hf://owner/name")
    assert not any("/resolve/" in path for _, path, _ in hub.requests)


def test_the_token_goes_to_the_hub_alone(hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch("hf://owner/name", print)
    sent = {path: headers.get("authorization") for _, path, headers in hub.requests if path != "/api/agent-harnesses"}
    assert sent.pop("/cdn/model.safetensors") is None and set(sent.values()) == {"Bearer hf_secret"}


def test_without_its_library_the_command_is_named(monkeypatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name.partition(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return real(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install -r requirements.txt" in refusal("hf://owner/name")


def test_a_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    line = refusal("hf://owner/name")
    assert line.startswith(f"{tmp_path / 'file'}: cannot be used") and "HF_HOME" in line


def test_a_setting_that_its_library_cannot_read_is_one_line(monkeypatch) -> None:
    """The library reads its variables when it is imported."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants")
    monkeypatch.delattr(huggingface_hub, "constants")
    line = refusal("hf://owner/name")
    assert "'soon'" in line and "HF_..." in line


def test_a_full_disk_is_one_line(hub, tmp_path, recwarn) -> None:
    with files_of_at_most(4000):
        line = refusal("hf://owner/name")
    assert line.startswith(f"{tmp_path / 'hub'}: cannot be used (File too large)") and "HF_HOME" in line
    assert fetch("hf://owner/name", print).joinpath("model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not recwarn.list


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_in_the_cache_is_named(hub, make) -> None:
    weights = fetch("hf://owner/name", print) / "model.safetensors"
    weights.unlink()
    make(weights)
    line = refusal("hf://owner/name")
    assert line.startswith(f"{weights}: ") and "remove it" in line
