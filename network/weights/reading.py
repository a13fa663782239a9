"""Reading of checkpoint files, our own and published ones, as untrusted input.

A checkpoint is a file of `torch.save`, a file of safetensors (`network/weights/published_folder.py`), or a published
folder with such a file.

`torch.save` has two formats: a zip archive with a pickle and one record per storage, and, before torch 1.6, several
pickles followed by the storages. Sizes are compared with the size of the file before memory is allocated, records with
their checksums, and pickles are read without running them (`network/weights/pickled.py`).

What a checkpoint says of itself is read without its tensors, and without torch, so that flags and keys that do not fit
it are refused at once (`read_outline`); the tensors follow when they are needed (`read_checkpoint`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from network.weights.pickled import MAX_PICKLE, Damaged, Name, Refused, Tensors, read_pickle, shown
from network.weights.published_copies import refuse_changed_copies
from network.weights.published_folder import is_safetensors, read_safetensors
from utils.errors import UserError
from utils.fetching.sizes import LARGEST
from utils.files import require_regular
from utils.results.published import model_file
from utils.text import shortened

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Values(Protocol):
    """A maker of storages and tensors."""

    kind: type
    """The class of both."""
    wanted: bool
    """Whether the values are to be read; else there are placeholders, and what the file says in plain values."""

    def of_record(self, kind: str, count: int, read: Callable[[], bytes]) -> Any:
        """Makes the storage of `count` values of a class such as "torch.FloatStorage"; `read` gives its bytes."""
        ...

    def to_fill(self, kind: str, count: int) -> Any:
        """Makes such a storage before its values are read."""
        ...

    def fill(self, storage: Any, file: BinaryIO) -> None:
        """Reads the number of values and the values of a storage that `to_fill` has made."""
        ...

    def view(self, storage: Any, offset: Any, size: Any, stride: Any) -> Any:
        """Makes a tensor from its storage, its first element, and the sizes and strides of its dimensions."""
        ...


class Skipped:
    """A placeholder for a tensor whose values were not read."""


class _Outline:
    """A maker of placeholders."""

    kind = Skipped
    wanted = False

    def of_record(self, kind: str, count: int, read: Callable[[], bytes]) -> Skipped:
        return Skipped()

    def to_fill(self, kind: str, count: int) -> Skipped:
        return Skipped()

    def fill(self, storage: Any, file: BinaryIO) -> None:
        raise AssertionError("placeholders have no values")

    def view(self, storage: Skipped, offset: Any, size: Any, stride: Any) -> Skipped:
        return storage


def read_outline(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint file as `read_checkpoint` does, with `Skipped` in place of each tensor; torch is not needed.

    Raises:
        UserError: as `read_checkpoint`, apart from what is wrong with the values of tensors.
    """
    return _checked(path, lambda _: _Outline())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads the content of a checkpoint file, on the CPU, without running any code in it.

    Args:
        path: the file, or a published folder.

    Returns:
        The content by key: plain values, tensors, and records of `network.weights.pickled` in place of other objects.

    Raises:
        UserError: the file does not exist, cannot be read, is no checkpoint, is damaged, or holds more than weights and
            settings; or the folder has none, or copies of its description that were changed.
    """
    from network.weights.tensor_values import TensorValues  # here: an outline is read without torch

    return _checked(path, TensorValues)


def _checked(path: str | Path, values_of: Callable[[int], Values]) -> dict[str, Any]:
    path = model_file(Path(path)) if Path(path).is_dir() else Path(path)
    content = _content(path, values_of)
    refuse_changed_copies(content, path)
    return content


def _content(path: str | Path, values_of: Callable[[int], Values]) -> dict[str, Any]:
    """Reads a file; `values_of` makes, given the size of the file in bytes, what makes its tensors."""
    try:
        require_regular(path)
        with Path(path).open("rb") as file:
            content = _read(path, file, values_of)
    except Refused as name:
        raise UserError(
            f"{path}: refused, it holds more than weights and settings ({shown(name)}), which could run code; "
            "use a checkpoint from a source you trust, saved as a state dict"
        ) from None
    except UserError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such checkpoint file; give the path of a .ckpt file to --checkpoint") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); see to the file and its permissions"
        ) from None
    except Exception as error:  # a damaged file can make its reader fail in any way
        reason = f" ({shortened(str(error), 200)})" if isinstance(error, (Damaged, zipfile.BadZipFile)) else ""
        raise UserError(f"{path}: not a checkpoint file, or a damaged one{reason}; download or copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _read(path: str | Path, file: BinaryIO, values_of: Callable[[int], Values]) -> Any:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > LARGEST:
        raise Damaged(f"it has {size >> 30} GiB")
    head, values = file.read(9), values_of(size)
    if is_safetensors(head):
        return read_safetensors(path, file, None if values.wanted else Skipped)
    return _read_zip(file, size, values) if head.startswith(b"PK") else _read_legacy(file, values)


def _storage_id(persistent_id: Any) -> tuple[str, str, int]:
    """Returns the class of a storage, its key, and the number of its values."""
    tag, kind, key, _, count = persistent_id[:5]
    view = persistent_id[5] if len(persistent_id) > 5 else None
    if tag != "storage" or not isinstance(kind, Name) or view is not None:
        raise ValueError("a storage that is none")
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise ValueError("a storage that is none")
    return kind.path, key, count


# ---- the zip archive


def _read_zip(file: BinaryIO, size: int, values: Values) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info for info in archive.infolist()}
        if len(records) < len(archive.infolist()) or sum(info.file_size for info in records.values()) > size:
            raise Damaged("its records are larger than the file")
        pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Damaged("a zip archive of another kind")
        folder = pickles[0].removesuffix("data.pkl")
        if records[pickles[0]].file_size > MAX_PICKLE:
            raise Damaged("its list of contents is too long")
        if folder + "byteorder" in records and _record(archive, records[folder + "byteorder"]) != b"little":
            raise Damaged("written on a big-endian machine")
        storages: dict[str, Any] = {}

        def storage(persistent_id: Any) -> Any:
            kind, key, count = _storage_id(persistent_id)
            if key not in storages:
                record = records[f"{folder}data/{key}"]
                storages[key] = values.of_record(kind, count, lambda: _record(archive, record))
            return storages[key]

        tensors = Tensors(values.kind, storage, values.view)
        return read_pickle(_record(archive, records[pickles[0]]), 0, tensors)[0]


def _record(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Reads a record; raises `BadZipFile` if its checksum is wrong."""
    if info.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing, and this could be of any size
        raise Damaged("compressed values")
    return archive.read(info)


# ---- the format before torch 1.6


def _read_legacy(file: BinaryIO, values: Values) -> Any:
    file.seek(0)
    head = file.read(2 * MAX_PICKLE)
    magic, position = read_pickle(head, 0)
    if magic != _LEGACY_MAGIC:
        raise ValueError("no checkpoint")
    _, position = read_pickle(head, position)  # the version of the protocol: there is only one
    system, position = read_pickle(head, position)
    if not system.get("little_endian", True):
        raise Damaged("written on a big-endian machine")
    storages: dict[str, Any] = {}

    def storage(persistent_id: Any) -> Any:
        kind, key, count = _storage_id(persistent_id)
        if key not in storages:
            storages[key] = values.to_fill(kind, count)
        return storages[key]

    content, position = read_pickle(head, position, Tensors(values.kind, storage, values.view))
    if not values.wanted:
        return content
    keys, position = read_pickle(head, position)
    file.seek(position)
    if sorted(keys) != sorted(storages):
        raise Damaged("values of other tensors than it lists")
    for key in keys:
        values.fill(storages[key], file)
    return content


def config_beside(path: str | Path) -> str:
    """Returns ": <path>" of the config beside a checkpoint, written by its training; "" if there is none."""
    config = Path(path).with_name("config.yaml")
    return f": {config}" if config.is_file() else ""
