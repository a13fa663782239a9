"""A checkpoint as safetensors: weights, and in the metadata what it says of itself, in one JSON text.

The metadata have the key `2dpass`, the only one, so that the same network always gives the same bytes:

    format       1
    geometry     see `network.weights.description`
    description  see there; paths of the machine of the training are replaced
    images       whether the network was trained with camera images, whose branch is not among the weights
    source       digest of the checkpoint that was published, and the type of its rounded weights

In a published folder (`utils.results.published`) readable copies of the description lie beside the file, see
`network.weights.published_copies`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from network.weights.entries import Wrong, entry, plain_values, positive
from network.weights.pickled import Damaged
from utils.errors import UserError

FORMAT = 1
IMAGES = "images"
OURS = "2dpass"
_MAX_HEADER = 8 << 20  # bytes; that of a large network has some hundred thousand
_MAX_TENSORS = 10_000
_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
_MAX_VALUES = 1 << 18


def is_safetensors(head: bytes) -> bool:
    """Tells whether a file is of safetensors by its first 9 bytes: the length of a header, and its opening brace."""
    return len(head) >= 9 and head[8:9] == b"{"


def read_safetensors(path: str | Path, file: BinaryIO, tensors: Callable[[], Any] | None) -> dict[str, Any]:
    """Reads a file of safetensors as a checkpoint without optimiser.

    Args:
        path: the file.
        file: the same, open.
        tensors: makes a placeholder for each tensor, so that torch is not needed; None: the tensors are wanted.

    Raises:
        Damaged: the file is not whole, or holds what no network has.
        UserError: it is of a newer version of this program.
    """
    from safetensors import SafetensorError, safe_open

    file.seek(0)
    if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
        raise Damaged("its header is too long")
    try:
        with safe_open(str(path), framework="numpy" if tensors else "pt") as opened:
            names, metadata = list(opened.keys()), opened.metadata() or {}
            if len(names) > _MAX_TENSORS:
                raise Damaged("too many tensors")
            for name in names:
                if (kind := opened.get_slice(name).get_dtype()) not in _DTYPES:
                    raise Damaged(f"a tensor of type {kind}")
            # A copy: the tensors of the library are views of the file, and would change with it.
            state = {name: tensors() if tensors else opened.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise Damaged(str(error)) from None
    return {"state_dict": state, **_ours(metadata, path)}


def _ours(metadata: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    """Returns what the metadata say under our key; nothing for a file of another program."""
    if OURS not in metadata:
        return {}
    try:
        found = json.loads(metadata[OURS])
        if type(found) is not dict:
            raise Damaged("its metadata are damaged")
        if (version := entry(found, "format", positive)) > FORMAT:
            raise UserError(
                f"{path}: its metadata have format {version}, but this version of the program knows up to {FORMAT}; "
                "use the version that published it, or a newer one"
            )
        return {OURS: plain_values({key: found[key] for key in found if key != "format"}, OURS, _MAX_VALUES)}
    except (ValueError, RecursionError, Wrong):
        raise Damaged("its metadata are damaged") from None


def serialized(state: Mapping[str, Any], ours: Mapping[str, Any]) -> bytes:
    """Makes the bytes of a file of safetensors, the same ones for the same content.

    Args:
        state: name -> tensor, on the CPU.
        ours: plain values, see above; `format` is added.
    """
    from safetensors.torch import save

    text = json.dumps({"format": FORMAT, **ours}, allow_nan=False, separators=(",", ":"))
    return save({name: tensor.contiguous() for name, tensor in state.items()}, {OURS: text})
