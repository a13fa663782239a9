"""The tensors of a checkpoint file: storages from its bytes, and views of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from network.weights.pickled import Damaged, OddTensor

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


class TensorValues:
    """A maker of the tensors of a file, which stops when they are larger than a file of this size can hold.

    Args:
        file_size: size of the file in bytes.
    """

    kind = Tensor
    wanted = True

    def __init__(self, file_size: int) -> None:
        self._left = max(_SHARED * file_size, 1 << 16)
        self._left_to_fill = file_size

    def of_record(self, kind: str, count: int, read: Callable[[], bytes]) -> Tensor | OddTensor:
        """Makes the storage of a record; one of an unusual type is an `OddTensor`."""
        data, dtype = read(), _DTYPES.get(kind)
        if dtype is None:
            return _ODD
        if len(data) != count * dtype.itemsize:
            raise Damaged("values of another length than is said")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def to_fill(self, kind: str, count: int) -> Tensor:
        """Makes a storage without its values."""
        if (dtype := _DTYPES.get(kind)) is None:
            raise Damaged("values of an unusual type")
        self._left_to_fill -= count * dtype.itemsize
        if self._left_to_fill < 0:
            raise Damaged("a tensor is larger than the file")
        return torch.empty(count, dtype=dtype)

    def fill(self, storage: Tensor, file: BinaryIO) -> None:
        """Reads the values of a storage, which follow their number."""
        if int.from_bytes(file.read(8), "little") != len(storage):
            raise Damaged("values of another length than is said")
        if len(storage) and file.readinto(storage.view(torch.uint8).numpy()) != storage.nbytes:  # type: ignore[attr-defined]
            raise Damaged("it ends early")

    def view(self, storage: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
        """Makes a tensor that views a storage.

        Args:
            storage: (n,) values of the storage.
            offset: index of the first element.
            size, stride: sizes and strides of the dimensions, tuples, in elements.

        Raises:
            ValueError: sizes, strides or offset are not valid numbers.
            Damaged: the tensor would reach beyond its storage, or the file cannot hold so many tensors.
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
            raise Damaged("a tensor is larger than its values")
        self._left -= max(count * storage.itemsize, _LEAST_TENSOR)
        if self._left < 0:
            raise Damaged("its tensors are larger than the file")
        return storage.as_strided(size, stride, offset) if count else storage.new_empty(size)
