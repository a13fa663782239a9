"""A reader for untrusted YAML: plain values only, of limited size, each key once."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from utils.files import require_regular

MAX_BYTES = 1 << 18
MAX_NODES = 20_000
MAX_DEPTH = 32

_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and those that turn the direction of a text."""
_MERGE = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """An error in YAML text that this program does not accept; the message says why and in which line."""


class Loader(yaml.SafeLoader):
    """A loader of safe YAML that reads `1e-3` as a number, as in YAML 1.2; YAML 1.1 needs `1.0e-3`."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Makes the value of a node; every error is a YAML error that names the line."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # Resolvers raise any of these, such as for !!bool maybe.
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"no valid {kind}", node.start_mark) from error


def add_exponents(loader_or_dumper: Any) -> None:
    """Makes a loader class of PyYAML read `1e-3` as a number."""
    loader_or_dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


add_exponents(Loader)


def read_yaml(path: str | Path, loader: type[Any] = Loader) -> Any:
    """Reads the content of a YAML file; None if it is empty.

    Args:
        path: the file.
        loader: see `parse_yaml`.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file.
        YamlError: the file is not YAML, or not accepted by `parse_yaml`.
    """
    require_regular(path)
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"larger than {MAX_BYTES >> 10} KiB")
    try:
        return parse_yaml(content.decode("utf-8-sig"), loader)
    except UnicodeDecodeError as error:
        raise YamlError("not a text file in UTF-8") from error


def parse_yaml(text: str, loader: type[Any] = Loader) -> Any:
    """Parses a YAML text.

    A few lines of untrusted text can stand for billions of values (aliases of aliases) or hold control characters for a
    terminal.

    Args:
        text: the text.
        loader: a loader class of PyYAML that makes plain values only.

    Raises:
        YamlError: a syntax error; a value that its tag does not allow; a key that occurs twice; a control character; or
            more values, or more levels of nesting, than any file of this program has.
    """
    try:
        made = loader(text)
        node = made.get_single_node()
        if node is None:
            return None
        _Check(made).count(node, 0)
        return made.construct_document(node)
    except RecursionError as error:
        raise YamlError("nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise YamlError(f"{line}{error.problem or 'syntax error'}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(" ".join(str(error).split())) from error


class _Check:
    """A check of the parsed text before values are made of it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._sizes: dict[int, int | None] = {}

    def count(self, node: yaml.Node, depth: int) -> int:
        """Counts the values below a node, with those of an alias counted each time."""
        key = id(node)
        if key in self._sizes:
            size = self._sizes[key]
            if size is None:
                raise _problem(node, "a value that contains itself")
            return size
        if depth > MAX_DEPTH:
            raise _problem(node, "nested too deeply")
        self._sizes[key] = None
        if isinstance(node, yaml.ScalarNode):
            if UNSAFE.search(node.value):
                raise _problem(node, "a control character")
            parts: list[yaml.Node] = []
        elif isinstance(node, yaml.MappingNode):
            self._require_single_keys(node)
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value
        size = 1 + sum(self.count(part, depth + 1) for part in parts)
        if size > MAX_NODES:
            raise _problem(node, f"more than {MAX_NODES} values")
        self._sizes[key] = size
        return size

    def _require_single_keys(self, node: yaml.MappingNode) -> None:
        """Raises an error for a key that occurs twice, in any notation; keys merged by `<<` may be overwritten."""
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            # 1 and 0x1 are the same key, and so are yes and true.
            value = _MERGE if key.tag == _MERGE else self._loader.construct_object(key)
            if value in seen:
                remedy = ", give it a list" if key.tag == _MERGE else ""
                raise _problem(key, f"the key {key.value} stands twice{remedy}")
            seen.add(value)


def _problem(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
