"""The keys of a configuration as a list of records, from which the reference page is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic.fields import FieldInfo

from utils.config.fields import Section
from utils.config.kinds import CHOOSER, FlatKind, is_flat, kinds_of
from utils.config.schema import Config, architectures

_HUGE = 1e6
"""Bounds of this size or more only catch mistakes, so the page does not show them."""


@dataclass(frozen=True)
class Key:
    """A key of the vocabulary, as the reference pages show it.

    Attributes:
        name: dotted key, "train_params.momentum".
        type: type in words, "number from 0 to below 1".
        default: default as YAML writes it, "0.9"; None if the key is required.
        meaning: its description, whole sentences.
        kinds: values of the choosing key with which the key has an effect, such as "SGD"; empty: with all.
    """

    name: str
    type: str
    default: str | None
    meaning: str
    kinds: tuple[str, ...] = ()


def reference() -> list[Key]:
    """Lists the keys that can be given a value, in the order of the sections.

    A key that differs between kinds comes once for each meaning. So do `model_architecture` and `dataset_type`, once
    for each family of kinds.
    """
    merged: dict[Key, tuple[str, ...]] = {}
    for key in _keys(Config, "", ()):
        bare = replace(key, kinds=())
        merged[bare] = tuple(dict.fromkeys((*merged.get(bare, ()), *key.kinds)))
    all_of = {frozenset(choices) for choices in _choices(Config)}
    return [replace(key, kinds=() if frozenset(kinds) in all_of else kinds) for key, kinds in merged.items()]


def _keys(section: type[Section], prefix: str, kinds: tuple[str, ...]) -> Iterator[Key]:
    """Yields the keys of a section, with those of all its kinds.

    Args:
        section: class of the section.
        prefix: beginning of the dotted keys, "train_params.".
        kinds: the values that choose this section.
    """
    for name, field in section.model_fields.items():
        if issubclass(section, FlatKind) and name == CHOOSER:
            continue
        below, flat = kinds_of(field), is_flat(field)
        if not below or flat or not field.is_required():  # a section that has to be there is no key of its own
            words = f"one of {', '.join(below)}" if flat else type_in_words(field)
            names = architectures(field) or kinds
            yield Key(prefix + name, words, default_in_words(field), field.description or "", names)
        for kind in dict.fromkeys(below.values()):
            choices = tuple(choice for choice, other in below.items() if other is kind and choice)
            yield from _keys(kind, prefix if flat else f"{prefix}{name}.", choices or kinds)


def _choices(section: type[Section]) -> Iterator[tuple[str, ...]]:
    """Yields the possible choices at each field that holds kinds."""
    for field in section.model_fields.values():
        kinds = kinds_of(field)
        if kinds and "" not in kinds:
            yield tuple(kinds)
        for kind in kinds.values():
            yield from _choices(kind)


def default_in_words(field: FieldInfo) -> str | None:
    """Returns the default of a key as YAML writes it; None if the key is required."""
    if field.is_required():
        return None
    default = field.get_default()
    if default is None or isinstance(default, bool):
        return "null" if default is None else str(default).lower()
    if isinstance(default, tuple):
        return str(list(default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def type_in_words(field: FieldInfo) -> str:
    """Describes the values that a key may have: "integer above 0", "list of 3 numbers, or null"."""
    return _words(field.annotation, list(field.metadata))


def _words(kind: Any, metadata: list[Any], plural: str = "") -> str:
    """Describes a type in words.

    Args:
        kind: the type.
        metadata: bounds of its values.
        plural: "s" for the plural, else "".
    """
    if get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        return _words(kind, [entry for item in inner for entry in _bounds_in(item)] + metadata, plural)
    if get_origin(kind) in (Union, UnionType):
        return f"{_words(next(part for part in get_args(kind) if part is not NoneType), metadata)}, or null"
    if get_origin(kind) is Literal:
        names = list(map(str, get_args(kind)))
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if get_origin(kind) is tuple:
        entries = get_args(kind)
        number = "" if entries[-1] is Ellipsis else f"{len(entries)} "
        return f"list{plural} of {number}{_words(entries[0], [], 's')}"
    if issubclass(kind, Section):
        return "section"
    names = {bool: "true or false", int: f"integer{plural}", float: f"number{plural}", str: f"text{plural}"}
    return names[kind] + ("" if kind in (bool, str) else _bounds(metadata, kind))


def _bounds_in(item: Any) -> list[Any]:
    """Lists the bounds in an annotation; a `Field(...)` holds several."""
    return list(item.metadata) if isinstance(item, FieldInfo) else [item]


def _bounds(metadata: list[Any], kind: type) -> str:
    found = {type(entry): entry for entry in metadata}
    words = ""
    if Gt in found:
        step = found[MultipleOf].multiple_of if MultipleOf in found else 1
        words += f" from {found[Gt].gt + step}" if kind is int else f" above {found[Gt].gt:g}"
    if Ge in found and found[Ge].ge > -_HUGE:
        words += f" from {found[Ge].ge:g}"
    if Le in found and found[Le].le < _HUGE:
        words += f" to {found[Le].le:g}"
    if Lt in found:
        words += f" to below {found[Lt].lt:g}"
    if MultipleOf in found:
        words += f" in steps of {found[MultipleOf].multiple_of}"
    return words
