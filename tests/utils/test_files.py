"""Files appear whole or not at all, and a failure names the file that could not be written."""

from __future__ import annotations

import errno
import gc
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from tests.conftest import ROOT
from tests.support.full_disk import files_of_at_most
from utils.files import remove_partials, require_regular, whole_file, write_bytes, write_text

NOISE = np.random.default_rng(0).integers(0, 256, (1024, 1200, 3), dtype=np.uint8)
LIMIT = 2_000_000  # bytes; what each writer below wants is more


def write_figure(file: IO[bytes]) -> None:
    figure = Figure()
    figure.add_subplot().imshow(NOISE)
    figure.savefig(file, format="png", dpi=300)


def write_zip(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("noise", NOISE.tobytes())


WRITERS: dict[str, Callable[[IO[bytes]], object]] = {
    "bytes": lambda file: file.write(NOISE.tobytes()),
    "numpy": lambda file: np.save(file, NOISE),
    "torch": lambda file: torch.save({"noise": torch.from_numpy(NOISE)}, file),
    "picture": lambda file: Image.fromarray(NOISE).save(file, format="PNG"),
    "figure": write_figure,
    "zip": write_zip,
}


@pytest.fixture
def small_files() -> Iterator[None]:
    """Makes the system refuse files of more than LIMIT bytes (EFBIG), like a full disk or a quota."""
    with files_of_at_most(LIMIT):
        yield


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_what_a_library_writes_is_complete(writer, tmp_path: Path) -> None:
    with whole_file(tmp_path / "new folder" / "file") as file:
        writer(file)
    with open(tmp_path / "directly", "wb") as file:
        writer(file)
    whole, directly = ((tmp_path / name).read_bytes() for name in ("new folder/file", "directly"))
    assert len(whole) == len(directly) > LIMIT
    assert os.listdir(tmp_path / "new folder") == ["file"]


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_refused_write_names_the_file_and_leaves_the_old_one(writer, tmp_path: Path, small_files) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError) as caught, whole_file(path) as file:
        writer(file)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError(errno.EIO, "bad", "a source")])
def test_an_error_of_the_block_passes_through(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, whole_file(tmp_path / "file") as file:
        file.write(b"half")
        raise error
    assert caught.value is error and not os.listdir(tmp_path)


def test_what_an_error_left_unwritten_goes_into_no_other_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError), whole_file(tmp_path / "file") as file:
        file.write(b"half")
        raise ValueError
    with open(tmp_path / "other", "wb", buffering=0):  # gets the descriptor that has become free
        del file
        gc.collect()
    assert (tmp_path / "other").read_bytes() == b""


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken" / "full").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        write_bytes(tmp_path / "taken", b"x")
    assert caught.value.filename == str(tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"]
    (tmp_path / "a file").write_text("")
    with pytest.raises(OSError, match="a file"):
        write_text(tmp_path / "a file" / "below", "x")


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    code = (
        "import os, sys\nfrom utils.files import whole_file\n"
        "with whole_file(sys.argv[1]) as file:\n    file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], cwd=ROOT)
    assert (tmp_path / "file").read_text() == "old" and len(os.listdir(tmp_path)) == 2
    remove_partials(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_long_names_and_permissions(tmp_path: Path) -> None:
    name = "x" * 255
    write_text(tmp_path / name, "text")
    (tmp_path / "usual").write_text("text")
    assert (tmp_path / name).stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        require_regular(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name, kind in {"pipe": OSError, "socket": OSError, ".": IsADirectoryError, "none": FileNotFoundError}.items():
        with pytest.raises(kind) as caught:
            require_regular(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(OSError):
        require_regular("/dev/zero")


def test_what_is_no_ordinary_file_is_not_replaced(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError) as caught:
            write_bytes(path, b"x")
        assert caught.value.filename == str(path)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
