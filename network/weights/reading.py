"""Reading of checkpoint files, our own and published ones, as untrusted input.

`torch.save` has two formats: a zip archive with a pickle and one record per storage, and, before torch 1.6, several
pickles followed by the storages. Sizes are compared with the size of the file before memory is allocated, records with
their checksums, and pickles are read without running them (`network/weights/pickled.py`).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from network.weights.pickled import MAX_PICKLE, Name, OddTensor, Refused, read_pickle, shown
from utils.errors import UserError
from utils.files import require_regular

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_FILE = 8 << 30  # bytes
_SHARED = 4  # tensors may share storages, so that all of them hold up to this many times the bytes of the file
_LEAST_TENSOR = 256  # bytes; a smaller tensor counts as much
_MAX_DIMENSIONS, _MAX_EXTENT = 8, 1 << 40
_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}
_ODD = OddTensor("of an unusual type")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads the content of a checkpoint file, on the CPU, without running any code in it.

    Returns:
        The content by key: plain values, tensors, and records of `network.weights.pickled` in place of other objects.

    Raises:
        UserError: the file does not exist, cannot be read, is no checkpoint, is damaged, or holds more than weights and
            settings.
    """
    try:
        require_regular(path)
        with Path(path).open("rb") as file:
            content = _read(file)
    except Refused as name:
        raise UserError(
            f"{path}: refused, it holds more than weights and settings ({shown(name)}), which could run code; "
            "use a checkpoint from a source you trust, saved as a state dict"
        ) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such checkpoint file; give the path of a .ckpt file to --checkpoint") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); see to the file and its permissions"
        ) from None
    except Exception as error:  # a damaged file can make its reader fail in any way
        reason = f" ({error})" if isinstance(error, (_Damaged, zipfile.BadZipFile)) else ""
        raise UserError(
            f"{path}: not a checkpoint file, or a damaged one{reason[:200]}; download or copy it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


class _Damaged(Exception):
    """An error about a damaged file; its text says what is wrong."""


def _read(file: BinaryIO) -> Any:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > _MAX_FILE:
        raise _Damaged(f"it has {size >> 30} GiB")
    return _read_zip(file, size) if file.read(2) == b"PK" else _read_legacy(file, size)


class _Tensors:
    """A maker of the tensors of a file, which stops when they are larger than a file of this size can hold.

    Args:
        file_size: size of the file in bytes.
    """

    def __init__(self, file_size: int) -> None:
        self._left = max(_SHARED * file_size, 1 << 16)

    def view(self, storage: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
        """Makes a tensor that views a storage.

        Args:
            storage: (n,) values of the storage.
            offset: index of the first element.
            size, stride: sizes and strides of the dimensions, tuples, in elements.

        Raises:
            ValueError: sizes, strides or offset are not valid numbers.
            _Damaged: the tensor would reach beyond its storage, or the file cannot hold so many tensors.
        """
        if type(size) is not tuple or type(stride) is not tuple:
            raise ValueError("sizes that are none")
        if not all(type(number) is int and 0 <= number < _MAX_EXTENT for number in (offset, *size, *stride)):
            raise ValueError("sizes that are none")
        if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
            raise ValueError("another number of strides than of dimensions")
        count = 1
        for extent in size:
            count *= extent
        last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
        if count and (count > len(storage) or last >= len(storage)):
            raise _Damaged("a tensor is larger than its values")
        self._left -= max(count * storage.itemsize, _LEAST_TENSOR)
        if self._left < 0:
            raise _Damaged("its tensors are larger than the file")
        return storage.as_strided(size, stride, offset) if count else storage.new_empty(size)


def _storage_id(persistent_id: Any) -> tuple[torch.dtype | None, str, int]:
    """Returns the dtype of a storage (None: an unusual one), its key, and the number of its values."""
    tag, kind, key, _, count = persistent_id[:5]
    view = persistent_id[5] if len(persistent_id) > 5 else None
    if tag != "storage" or not isinstance(kind, Name) or view is not None:
        raise ValueError("a storage that is none")
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise ValueError("a storage that is none")
    return _DTYPES.get(kind.path), key, count


# ---- the zip archive


def _read_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info for info in archive.infolist()}
        if len(records) < len(archive.infolist()) or sum(info.file_size for info in records.values()) > size:
            raise _Damaged("its records are larger than the file")
        pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Damaged("a zip archive of another kind")
        folder = pickles[0].removesuffix("data.pkl")
        if records[pickles[0]].file_size > MAX_PICKLE:
            raise _Damaged("its list of contents is too long")
        if folder + "byteorder" in records and _record(archive, records[folder + "byteorder"]) != b"little":
            raise _Damaged("written on a big-endian machine")
        storages: dict[str, Tensor | OddTensor] = {}

        def storage(persistent_id: Any) -> Any:
            dtype, key, count = _storage_id(persistent_id)
            if key not in storages:
                data = _record(archive, records[f"{folder}data/{key}"])
                storages[key] = _ODD if dtype is None else _values(data, dtype, count)
            return storages[key]

        return read_pickle(_record(archive, records[pickles[0]]), 0, storage, _Tensors(size).view)[0]


def _record(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Reads a record; raises `BadZipFile` if its checksum is wrong."""
    if info.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing, and this could be of any size
        raise _Damaged("compressed values")
    return archive.read(info)


def _values(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    if len(data) != count * dtype.itemsize:
        raise _Damaged("values of another length than is said")
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


# ---- the format before torch 1.6


def _read_legacy(file: BinaryIO, size: int) -> Any:
    file.seek(0)
    head = file.read(2 * MAX_PICKLE)
    magic, position = read_pickle(head, 0)
    if magic != _LEGACY_MAGIC:
        raise ValueError("no checkpoint")
    _, position = read_pickle(head, position)  # the version of the protocol: there is only one
    system, position = read_pickle(head, position)
    if not system.get("little_endian", True):
        raise _Damaged("written on a big-endian machine")
    storages: dict[str, Tensor] = {}
    left = size

    def storage(persistent_id: Any) -> Any:
        nonlocal left
        dtype, key, count = _storage_id(persistent_id)
        if dtype is None:
            raise _Damaged("values of an unusual type")
        if key not in storages:
            left -= count * dtype.itemsize
            if left < 0:
                raise _Damaged("a tensor is larger than the file")
            storages[key] = torch.empty(count, dtype=dtype)
        return storages[key]

    content, position = read_pickle(head, position, storage, _Tensors(size).view)
    keys, position = read_pickle(head, position)
    file.seek(position)
    if sorted(keys) != sorted(storages):
        raise _Damaged("values of other tensors than it lists")
    for key in keys:
        values = storages[key]
        if int.from_bytes(file.read(8), "little") != len(values):
            raise _Damaged("values of another length than is said")
        if len(values) and file.readinto(values.view(torch.uint8).numpy()) != values.nbytes:  # type: ignore[attr-defined]
            raise _Damaged("it ends early")
    return content
