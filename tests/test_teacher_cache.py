"""A training from kept features of a frozen teacher is the same as one that computes them at every step."""

from __future__ import annotations

import errno
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

from dataloader.catalogue import load_label_map
from dataloader.datasets.source import SourceWithPictures
from dataloader.opening import open_training
from network.teachers.cache import announce, fill
from network.teachers.foundation import FoundationEncoder, FoundationTeacher
from network.training.callbacks import read_history
from tests.conftest import ROOT
from tests.support.networks import refusal
from tests.test_main import RUN
from tests.test_resuming import differing, final_state
from utils.config.loading import load_config
from utils.feature_files import FeatureFiles, Picture
from utils.scan.batch import pack
from utils.scan.records import Sample

SETTINGS = ("model_params.backbone_2d=dinov2-small", "model_params.scale_list=[2,4]", "dataset_params.training_size=2")
LOGS = Path("logs/SemanticKITTI")


def tiny_encoder(name: str = "tiny") -> FoundationEncoder:
    """Makes a random vision transformer of the real class; pictures may be of any size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = Dinov2Config(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=1
        )
        return FoundationEncoder(Dinov2Model(config), 14, 0, f"{name} sha256:0")


@pytest.fixture
def encoded(monkeypatch, hub) -> list[tuple[int, ...]]:
    """Makes a tiny model the teacher; lists the shapes of the pictures that it was given."""
    hub.add("dinov2-small")
    shapes: list[tuple[int, ...]] = []
    encode = FoundationEncoder.encode

    def counted(self, images):
        shapes.append(tuple(images.shape))
        return encode(self, images)

    monkeypatch.setattr(FoundationEncoder, "encode", counted)
    return shapes


@pytest.mark.parametrize("flags", [(), ("--precision", "bf16"), ("--pretrain_distill",)])
def test_training_from_the_cache_equals_training_live(run_main, encoded, capsys, flags) -> None:
    kept = (*SETTINGS, "dataset_params.teacher_cache=kept", "dataset_params.train_data_loader.batch_size=2")
    live = (*SETTINGS, "dataset_params.train_data_loader.batch_size=2")
    assert run_main("--log_dir", "live", *flags, settings=live) == 0
    assert len(encoded) == 4  # two pictures in each of two epochs
    encoded.clear()
    assert run_main(*flags, settings=kept) == 0
    assert len(encoded) == 2
    assert "patches x 16 numbers" in (printed := capsys.readouterr().out) and "for 2 pictures" in printed
    assert read_history(RUN) == read_history(LOGS / "live" / "version_0")
    parts = ("state_dict", "optimizer_states")
    states = final_state(RUN), final_state(LOGS / "live" / "version_0")
    assert [differing(states[0][part], states[1][part]) for part in parts] == [[], []]
    encoded.clear()
    assert run_main("--log_dir", "again", *flags, settings=kept) == 0
    assert not encoded


def test_where_a_cache_has_no_effect_it_is_refused(run_main, capsys) -> None:
    for flags, settings in (((), ()), (("--baseline_only",), SETTINGS)):
        assert run_main(*flags, settings=(*settings, "dataset_params.teacher_cache=kept")) == 2
        assert "dataset_params.teacher_cache" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said_before_a_run_begins(run_main, hub, capsys) -> None:
    hub.add("dinov2-small")
    Path("file").touch()
    capsys.readouterr()
    assert run_main(settings=(*SETTINGS, "dataset_params.teacher_cache=file/kept")) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "file/kept" in line and "Not a directory" in line and not RUN.exists()


def pictures_in(folder: Path, number: int = 6) -> list[Picture]:
    found = []
    for index in range(number):
        path = folder / f"{index}.png"
        path.write_bytes(bytes([index]))
        found.append(Picture(path, path.name, (28 + 14 * (index % 2), 45)))
    return found


def content_of(picture: Picture) -> np.ndarray:
    return np.random.default_rng(int(picture.path.stem)).integers(0, 256, (*picture.size, 3)).astype(np.uint8)


def files_of(folder: Path, encoder: FoundationEncoder) -> FeatureFiles:
    return FeatureFiles(folder / "kept", encoder.identity, encoder.dimensions, encoder.feature_size)


def test_files_are_those_of_model_and_picture(tmp_path: Path) -> None:
    encoder, pictures = tiny_encoder(), pictures_in(tmp_path)
    files = files_of(tmp_path, encoder)
    fill(files, pictures, encoder, content_of, torch.device("cpu"))
    for picture in pictures:
        image = torch.from_numpy(content_of(picture)).permute(2, 0, 1)[None]
        assert np.array_equal(files.read(picture), encoder.encode(image)[0].numpy())
        assert files.path_of(picture).stat().st_size == files.bytes_of(picture)
        assert np.array_equal(np.load(files.path_of(picture), allow_pickle=False), files.read(picture))
    assert announce(files, pictures, encoder) == []
    assert not any(files_of(tmp_path, tiny_encoder("other")).has(picture) for picture in pictures)
    pictures[0].path.write_bytes(b"another picture")
    assert [files.has(picture) for picture in pictures] == [False, *[True] * 5]


@pytest.mark.parametrize("spoil", ["truncated", "longer", "nan", "other type", "folder"])
def test_spoilt_files(tmp_path: Path, spoil: str) -> None:
    encoder, (picture,) = tiny_encoder(), pictures_in(tmp_path, 1)
    files = files_of(tmp_path, encoder)
    fill(files, [picture], encoder, content_of, torch.device("cpu"))
    path, whole = files.path_of(picture), files.read(picture)
    good = path.read_bytes()
    bad = {
        "truncated": good[:-7],
        "longer": good + b"0",
        "nan": good[:-2] + np.float16(np.nan).tobytes(),
        "other type": good.replace(b"<f2", b"<i2"),
    }
    if spoil == "folder":
        path.unlink()
        path.mkdir()
        assert str(path) in refusal(files.read, picture)
        return
    path.write_bytes(bad[spoil])
    assert "remove it and start the command again" in refusal(files.read, picture)
    if spoil in ("nan", "other type"):  # of the right size: seen when it is read
        path.unlink()
    fill(files, [picture], encoder, content_of, torch.device("cpu"))
    assert np.array_equal(files.read(picture), whole)


def test_a_build_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    encoder, pictures = tiny_encoder(), pictures_in(tmp_path)
    files, read = files_of(tmp_path, encoder), []

    class Killed(BaseException):
        pass

    def reading(picture: Picture) -> np.ndarray:
        read.append(picture)
        if len(read) == 4:
            raise Killed
        return content_of(picture)

    with pytest.raises(Killed):
        fill(files, pictures, encoder, reading, torch.device("cpu"))
    assert sum(map(files.has, pictures)) == 3
    assert "3 are to be computed" in announce(files, pictures, encoder)[0]
    half = files.path_of(pictures[3])  # what a kill leaves of the file at work, and of its lock
    half.with_name(f".{half.name}.7.0.partial").write_bytes(b"half")
    half.with_suffix(".lock").touch()
    fill(files, pictures, encoder, reading, torch.device("cpu"))
    assert len(read) == 7 and all(map(files.has, pictures))
    assert {path.suffix for path in files.folder.rglob("*") if path.is_file()} == {".npy"}


def _fill_in_a_process(folder: Path, log: Path) -> None:
    encoder, pictures = tiny_encoder(), pictures_of(folder)
    torch.set_num_threads(1)

    def reading(picture: Picture) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{picture.name}\n")
        return content_of(picture)

    fill(files_of(folder, encoder), pictures, encoder, reading, torch.device("cpu"))
    if not all(map(files_of(folder, encoder).has, pictures)):
        os._exit(3)


def pictures_of(folder: Path) -> list[Picture]:
    return [Picture(path, path.name, (28, 45)) for path in sorted(folder.glob("*.png"))]


def test_two_processes_build_together(tmp_path: Path) -> None:
    pictures_in(tmp_path, 12)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill_in_a_process, args=(tmp_path, tmp_path / "log")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    names = (tmp_path / "log").read_text().split()
    assert sorted(names) == sorted(set(names)) and len(names) == 12  # no picture twice


def test_a_disk_without_room(tmp_path: Path, monkeypatch) -> None:
    encoder, pictures = tiny_encoder(), pictures_in(tmp_path)
    files = files_of(tmp_path, encoder)
    monkeypatch.setattr("network.teachers.cache.shutil.disk_usage", lambda path: type("", (), {"free": 100}))
    assert "has room for 100 bytes: name a folder on another disk" in refusal(announce, files, pictures, encoder)

    def full(*_) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("utils.files.os.write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fill(files, pictures, encoder, content_of, torch.device("cpu"))
    assert caught.value.filename == str(files.path_of(pictures[0]))
    assert not [path for path in files.folder.rglob("*") if path.is_file()]  # neither a part nor a lock


def test_a_batch_of_kept_features_is_one_of_images_that_were_encoded(make_scan) -> None:
    """Also where the pictures differ in size: the smaller map lies in the upper left corner, its pixels in its size."""
    encoder, teacher = tiny_encoder(), FoundationTeacher(tiny_encoder(), 4, (2,))
    rng, live, kept = np.random.default_rng(1), [], []
    for size in ((30, 61), (45, 40)):
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        scan = make_scan(50, width=size[1], height=size[0])
        features = encoder.encode(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
        live.append(Sample(replace(scan, image=image)))
        kept.append(Sample(replace(scan, image=None, image_features=features, image_size=size)))
    batches = [pack(samples, with_images=True).to("cpu") for samples in (live, kept)]
    assert batches[1].images is None and batches[1].image_sizes == batches[0].image_sizes == ((30, 61), (45, 40))
    assert batches[1].image_features is not None and batches[1].image_features.dtype == torch.float16
    assert torch.equal(*(batch.pixels for batch in batches))
    assert torch.equal(*(teacher.point_features(batch) for batch in batches))
    moved = batches[1].map_tensors(torch.clone)
    assert moved.image_features is not None and torch.equal(moved.image_features, batches[1].image_features)


@pytest.mark.parametrize("name", ["SemanticKITTI", "nuScenes"])
def test_sources_read_features_in_place_of_images(demo_trees, tmp_path: Path, monkeypatch, name: str) -> None:
    config = load_config(
        ROOT / "config" / {"SemanticKITTI": "2DPASS-demo.yaml", "nuScenes": "2DPASS-nuscenes-demo.yaml"}[name],
        [f"dataset_params.{part}_data_loader.data_path={demo_trees[name]}" for part in ("train", "val")],
    )
    source, encoder = open_training(config, load_label_map(config)), tiny_encoder()
    assert isinstance(source, SourceWithPictures)
    camera = source.num_cameras - 1
    live, picture, files = source.read(0, camera), source.picture(0, camera), files_of(tmp_path, encoder)
    assert live.image is not None and live.image.shape[:2] == picture.size
    assert np.array_equal(source.pixels_of(picture), live.image)
    files.write(picture, encoder.encode(torch.from_numpy(live.image.copy()).permute(2, 0, 1)[None])[0].numpy())
    source.features = files
    for module in ("semantickitti", "nuscenes"):
        monkeypatch.setattr(f"dataloader.datasets.{module}.source.read_image", None)  # no picture is decoded
    kept = source.read(0, camera)
    assert kept.image is None and kept.image_features is not None and kept.image_size == picture.size
    assert np.array_equal(kept.pixels, live.pixels, equal_nan=True) and np.array_equal(kept.xyz, live.xyz)
    assert np.array_equal(kept.image_features, files.read(picture))
    assert source.read(0, None).image_features is None
