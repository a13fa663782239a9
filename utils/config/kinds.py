"""Kinds: a section, or a part of one, that comes in several forms with keys of their own; one key chooses the form.

A kind of section has its chooser among its keys (`model_params` by `model_architecture`). A flat kind is a part of a
section whose keys stand among the section's own, as the published files have them: in `train_params`, `momentum`
beside `optimizer: SGD`. In Python it is a record of its own, `train_params.optimizer.momentum`.

A key of another kind is refused where its value asks for something, since that would not happen. Where its value asks
for nothing, it is dropped, since published files and those of earlier versions hold such keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from pydantic import SerializerFunctionWrapHandler, model_serializer
from pydantic import model_validator as check_all
from pydantic.fields import FieldInfo

from utils.config.fields import Section

CHOOSER = "name"
"""The field of a flat kind that holds the value which chooses it."""


class FlatKind(Section):
    """One form of a part of a section; its keys are in the section. Subclasses have a `name`, a `Literal`."""


class SectionOfKinds(Section):
    """A section that holds flat kinds: the fields that are a union of `FlatKind`, discriminated by `name`."""

    @check_all(mode="before")
    @classmethod
    def _sort(cls, raw: Any) -> Any:
        """Moves the keys of flat kinds from the section into records of their own."""
        if not isinstance(raw, Mapping):
            return raw
        sorted_ = dict(raw)
        for name, kinds in flat_kinds(cls).items():
            if isinstance(choice := raw.get(name), FlatKind):
                continue  # made in Python
            keys = {key for kind in kinds.values() for key in kind.model_fields} - {CHOOSER}
            record = {key: sorted_.pop(key) for key in raw if key in keys}
            chosen = kinds.get(choice) if isinstance(choice, str) else None
            if chosen is not None:
                record = without_idle(record, chosen, kinds.values())
            sorted_[name] = record | ({CHOOSER: choice} if name in raw else {})
        return sorted_

    @model_serializer(mode="wrap")
    def _flatten(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Returns the section as a file has it: the keys of a kind behind its name."""
        flat: dict[str, Any] = {}
        kinds = flat_kinds(type(self))
        for key, value in dump(self).items():
            if key in kinds and isinstance(value, dict):
                flat[key] = value[CHOOSER]
                flat |= {inner: below for inner, below in value.items() if inner != CHOOSER}
            else:
                flat[key] = value
        return flat


class IdleKeysAllowed(Section):
    """A section that may hold the keys of another one as long as they ask for nothing.

    Attributes:
        other: the section that has those keys.
        remark: why the keys have no effect here, and what to do, for messages.
    """

    other: ClassVar[type[Section]]
    remark: ClassVar[str]

    @check_all(mode="before")
    @classmethod
    def _drop_idle(cls, raw: Any) -> Any:
        return without_idle(raw, cls, [cls.other]) if isinstance(raw, Mapping) else raw


def kinds_of(field: FieldInfo) -> dict[str, type[Section]]:
    """Returns the section classes that a field may hold, by the value that chooses each; by "" if there is only one."""
    kinds: dict[str, type[Section]] = {}
    for kind in get_args(field.annotation) or (field.annotation,):  # one section class, or several joined by |
        if isinstance(kind, type) and issubclass(kind, Section):
            chooser = kind.model_fields.get(str(field.discriminator))
            names = ("",) if chooser is None else get_args(chooser.annotation)
            kinds.update(dict.fromkeys(names, kind))
    return kinds


def is_flat(field: FieldInfo) -> bool:
    """Returns whether a field holds a flat kind."""
    return any(issubclass(kind, FlatKind) for kind in kinds_of(field).values())


def flat_kinds(section: type[Section]) -> dict[str, dict[str, type[Section]]]:
    """Returns the fields of a section that hold flat kinds, with the kinds that each may hold."""
    return {name: kinds_of(field) for name, field in section.model_fields.items() if is_flat(field)}


def without_idle(
    raw: Mapping[Any, Any], chosen: type[Section], others: Iterable[type[Section]], defaults: bool = True
) -> dict[Any, Any]:
    """Returns a mapping without the keys of other kinds whose value asks for nothing.

    Args:
        raw: keys and values of a file.
        chosen: the chosen kind.
        others: all kinds.
        defaults: whether the default of a key counts as asking for nothing too. Files that earlier versions have saved
            hold the defaults of all keys that were then in one section.
    """
    fields = [(name, field) for kind in others for name, field in kind.model_fields.items()]

    def idle(key: Any, value: Any) -> bool:
        found = [field for name, field in fields if name == key]
        if not defaults:
            return bool(found) and asks_nothing(value)
        # Of several kinds the first: its default is the one that earlier versions have saved.
        return bool(found) and not asks_something(value, found[0])

    return {key: value for key, value in raw.items() if key in chosen.model_fields or not idle(key, value)}


def asks_nothing(value: Any) -> bool:
    """Returns whether a value switches its key off: null, false, 0, or a list of only these."""
    if isinstance(value, list | tuple):
        return all(map(asks_nothing, value))
    return value is None or (isinstance(value, bool | int | float) and value == 0)


def asks_something(value: Any, field: FieldInfo) -> bool:
    """Returns whether a value asks for more than its key does by default, or switched off."""
    return not (asks_nothing(value) or is_default(value, field))


def is_default(value: Any, field: FieldInfo) -> bool:
    """Returns whether a value is the default of its key; a required key has none."""
    default = field.get_default()
    value = tuple(value) if isinstance(value, list) else value
    return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)
