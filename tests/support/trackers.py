"""Readers of what trackers keep."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7
_FULL, _LAST = 1, 4


def wandb_records(path: Path) -> Iterator[Any]:
    """Yields the records in a .wandb file, a log in LevelDB's format with a header of seven bytes of its own."""
    from wandb.proto import wandb_internal_pb2  # here: it is optional

    messages: Any = wandb_internal_pb2
    data, place, parts = path.read_bytes(), _HEADER, b""
    assert data[:4] == b":W&B"
    while place + _HEADER <= len(data):
        room = _BLOCK - place % _BLOCK
        if room < _HEADER:
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (_FULL, _LAST):
            yield messages.Record.FromString(parts)
            parts = b""


def wandb_history(path: Path) -> list[dict[str, Any]]:
    """Reads what was logged, step by step, from a .wandb file."""
    steps = [record.history.item for record in wandb_records(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items} for items in steps]
