"""The YAML file of a label mapping: its tables are read and checked; an error is one line with file and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError
from utils.names import is_folder_name
from utils.yaml_file import YamlError, read_yaml

RAW_IDS = 1 << 16
SPLITS = ("train", "valid", "test")
NUMBERING = (
    "the learning id 0 is what is left out of loss and score, and the classes are 1, 2, 3, ... without a gap; number "
    "them so in learning_map, learning_map_inv and learning_ignore (and in seg_labelweights of the config)"
)
"""The rule for learning ids, for messages about files that break it."""

_KEYS = (
    "name", "labels", "color_map", "content", "learning_map", "learning_map_inv", "learning_ignore", "split",
    "class_names", "learning_moving",
)  # fmt: skip
"""Keys of the semantic-kitti-api (`name` and `content` say how its files were made), and two of this program."""

_OF_LEARNING_IDS = ("learning_map_inv", "learning_ignore", "learning_moving", "class_names")
_ID = re.compile("0*([0-9]{1,5})")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}  # as in YAML 1.1


class _Quoted(str):
    """A scalar that is quoted in the file."""


class _TextLoader(yaml.BaseLoader):
    """A YAML loader that keeps scalars as text: otherwise 00 and 010 would be the numbers 0 and 8, and 08 text."""

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        text = str(super().construct_scalar(node))
        return text if node.style is None else _Quoted(text)


class LabelFile:
    """A label mapping as it is in its file: tables of ids, in the vocabulary of the semantic-kitti-api.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, not an ordinary file, or not a YAML mapping. The methods raise it too, for a
            table that is missing or has a wrong entry.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._content = _read(path)
        for key in self._content:
            if key not in _KEYS:
                raise self.error(f"unknown key {shown(key)}{_nearest(key, _KEYS)}; correct or remove it")

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def error(self, problem: str) -> UserError:
        """Builds an error with a message about this file."""
        return UserError(f"{self.path}: {problem}")

    def table(self, key: str) -> dict[int, Any]:
        """Reads the table `key`: id -> its entry."""
        if key not in self:
            raise self.error(f"key {key} is missing from the label mapping; add it")
        table = self._content[key]
        if not isinstance(table, Mapping) or not table:
            raise self.error(f"key {key} must map ids from 0 to {RAW_IDS - 1} to their values; correct it")
        found: dict[int, Any] = {}
        for entry, value in table.items():
            if (number := _id(entry)) is None:
                remedy = f": {NUMBERING}" if key in _OF_LEARNING_IDS else "; correct it"
                raise self.error(f"key {key} must map ids from 0 to {RAW_IDS - 1}, found {shown(entry)}{remedy}")
            if number in found:  # for example as 0 and as 00
                raise self.error(f"key {key} has the id {number} twice; remove one of them")
            found[number] = value
        return found

    def ids(self, key: str) -> dict[int, int | None]:
        """Reads the table `key` that maps ids to ids; None for an entry that is not an id."""
        return {entry: _id(value) for entry, value in self.table(key).items()}

    def written(self, key: str, entry: int) -> str:
        """Formats the entry of the table `key` for an id, for a message."""
        return shown(self.table(key)[entry])

    def names(self, key: str) -> dict[int, str]:
        """Reads a table of names: id -> name."""
        table = self.table(key)
        for entry, name in table.items():
            if not isinstance(name, str) or not name.strip() or not name.isprintable():
                raise self.error(f"{key} of {entry} must be a name in letters, found {shown(name)}; correct it")
        return {entry: str(name) for entry, name in table.items()}  # plain text: checkpoints hold nothing else

    def flags(self, key: str) -> dict[int, bool]:
        """Reads a table of truth values: id -> bool."""
        table = self.table(key)
        for entry, value in table.items():
            if not isinstance(value, str) or value.lower() not in _TRUTH:
                raise self.error(f"{key} of {entry} must be true or false, found {shown(value)}; correct it")
        return {entry: _TRUTH[value.lower()] for entry, value in table.items()}

    def color(self, raw: int, bgr: Any) -> tuple[int, ...]:
        """Converts the entry of `color_map` for a raw id (blue, green, red) to RGB, 0..255."""
        levels = [_id(level) for level in bgr] if isinstance(bgr, list) else []
        known = [level for level in levels if level is not None and level < 256]
        if len(levels) != 3 or len(known) != 3:
            raise self.error(f"color_map of {raw} must be [blue, green, red], each 0 to 255; correct it")
        return tuple(reversed(known))

    def split(self) -> dict[str, tuple[str, ...]]:
        """Reads the names of the sequences of "train", "valid" and "test"; empty if the file has no split."""
        if "split" not in self:
            return {}
        split = self._content["split"]
        if not isinstance(split, Mapping):
            raise self.error("key split must hold train, valid and test, lists of sequences; correct it")
        for part in split:
            if part not in SPLITS:
                raise self.error(f"unknown key split.{shown(part)}, split has train, valid and test; remove it")
        return {part: self._sequences(part, split.get(part)) for part in SPLITS}

    def _sequences(self, part: str, entries: Any) -> tuple[str, ...]:
        if not isinstance(entries, list):
            raise self.error(f"key split.{part} must be a list of sequences such as [00, 01]; add or correct it")
        for entry in entries:
            if not is_folder_name(entry):
                raise self.error(
                    f"key split.{part} must list sequences, which are names of folders in letters, digits, '.', '_' "
                    f"and '-', found {shown(entry)}; correct it"
                )
        # Numbers are those of the semantic-kitti-api: 0 is the folder 00. A name in quotes is taken literally.
        names = [e.zfill(2) if e.isdigit() and not isinstance(e, _Quoted) else str(e) for e in entries]
        for name in names:
            if names.count(name) > 1:
                raise self.error(f"key split.{part} lists the sequence {name} twice; remove it once")
        return tuple(names)


def shown(value: Any) -> str:
    """Formats a value of the file in a few words; nested values are not written out, because they may be very large."""
    if isinstance(value, str):
        text = value if len(value) <= 40 else value[:40] + "..."
        return text if text.strip() and text.isprintable() else repr(str(text))
    return "a list" if isinstance(value, list) else "a table"


def _nearest(key: Any, known: Sequence[str]) -> str:
    """Returns the known key that is most similar to a misspelt one, as a phrase."""
    nearest = difflib.get_close_matches(key, known, n=1) if isinstance(key, str) else []
    return f", did you mean {nearest[0]}?" if nearest else ""


def _id(value: Any) -> int | None:
    """Returns the number of a scalar that is an id, 0 to 65535 in decimal digits; else None."""
    found = _ID.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found and int(found[1]) < RAW_IDS else None


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path, _TextLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror}); correct dataset_params.label_mapping") from error
    except YamlError as error:
        raise UserError(f"{path}: the label mapping is not valid YAML ({error}); repair it") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: the label mapping must hold keys such as labels and learning_map; repair it")
    return content
