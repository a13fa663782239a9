"""A reader for tables in JSON files (lists of records), one record after the other.

Only a piece of the file is in memory at a time, however large the file is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError
from utils.files import require_regular
from utils.names import shown

Record = dict[str, Any]

_PIECE = 1 << 20
_LONGEST = 1 << 18
"""Numbers of characters that are read at once, and that a record may have; real records have a few hundred."""

_OPENING = re.compile(r"[ \t\n\r]*\[[ \t\n\r]*(\]?)")
_BETWEEN = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")

_KINDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
_AGAIN = "unpack the archive it came in again"


class _NoRecordError(Exception):
    """An error that says: the file is JSON so far, but not a list of records."""


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records of a table, in the order of the file.

    Args:
        path: a JSON file that holds a list of objects. Their values are untrusted: see `Fields`.

    Raises:
        UserError: the file cannot be read, is not JSON, or is not a list of records. Some records may have been yielded
            before.
    """
    try:
        require_regular(path)
        with open(path, encoding="utf-8") as file:
            yield from _records(file)
    except OSError as error:
        raise UserError(f"{path}: cannot read the table ({error.strerror}); correct it or unpack it again") from error
    except _NoRecordError as error:
        raise UserError(f"{path}: not a list of records; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON (damaged or truncated); unpack the archive it came in again"
        ) from error


def _records(file: IO[str]) -> Iterator[Record]:
    decode = json.JSONDecoder().raw_decode
    text = file.read(_PIECE)
    opening = _OPENING.match(text)
    if opening is None:
        decode(text.lstrip())  # raises ValueError if it is not JSON at all
        raise _NoRecordError
    at, ended = opening.end(), bool(opening[1])
    while not ended:
        if len(text) - at < _LONGEST:
            text, at = text[at:] + file.read(_PIECE), 0
        record, at = decode(text, at)
        if type(record) is not dict:
            raise _NoRecordError
        yield record
        between = _BETWEEN.match(text, at)
        if between is None:
            raise ValueError("neither another record nor the end")
        at, ended = between.end(), between[1] == "]"
    if text[at:].strip() or file.read(1):
        raise ValueError("something after the end")


class Fields:
    """A check of some keys of a table's records: they must exist and have certain types.

    Args:
        path: the table, for error messages.
        kinds: key -> str, int, bool or list, at least two keys. As in JSON, a bool is not an int.
    """

    def __init__(self, path: Path, **kinds: type) -> None:
        self._path, self._keys, self._kinds = path, tuple(kinds), list(kinds.values())
        self._take = itemgetter(*kinds)

    def __call__(self, record: Record) -> tuple[Any, ...]:
        """Returns the values of the keys, in their order.

        Raises:
            UserError: a key is missing, or its value has another type; the message names the record by its token.
        """
        try:
            values = self._take(record)
        except KeyError as error:
            raise UserError(f"{self._path}: {_name(record)} has no {error.args[0]}; {_AGAIN}") from None
        if list(map(type, values)) != self._kinds:
            key, kind = next(
                pair for pair in zip(self._keys, self._kinds, strict=True) if type(record[pair[0]]) is not pair[1]
            )
            raise UserError(
                f"{self._path}: {key} of {_name(record)} must be {_KINDS[kind]}, not {shown(record[key])}; {_AGAIN}"
            )
        return values


def _name(record: Record) -> str:
    return f"the record {shown(record.get('token', record))}"
