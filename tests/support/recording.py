"""Configurations that remember which of their keys were read."""

from __future__ import annotations

from typing import Any, TypeVar

from utils.config.fields import Section
from utils.config.kinds import CHOOSER, FlatKind

_S = TypeVar("_S", bound=Section)


def recording(section: _S, read: set[str], prefix: str = "") -> _S:
    """Copies a section to a subclass of its class that adds each key to `read` when its value is asked for.

    Args:
        section: a configuration or a part of it.
        read: dotted keys, as a file has them; those of flat kinds stand in the section.
        prefix: the beginning of the keys, such as "train_params.".
    """
    kind = type(section)
    names = set(kind.model_fields) - ({CHOOSER} if isinstance(section, FlatKind) else set())

    def note(self: Any, name: str) -> Any:
        if name in names:
            read.add(prefix + name)
        return object.__getattribute__(self, name)

    values: dict[str, Any] = {}
    for name in kind.model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            value = recording(value, read, prefix if isinstance(value, FlatKind) else f"{prefix}{name}.")
        values[name] = value
    subclass = type(kind.__name__, (kind,), {"__getattribute__": note, "__module__": kind.__module__})
    copy: Any = subclass.model_construct(**values)
    return copy


def keys_of(section: Section, prefix: str = "") -> set[str]:
    """Lists the keys of a section that hold a value, dotted, as a file has them."""
    keys: set[str] = set()
    for name in set(type(section).model_fields) - ({CHOOSER} if isinstance(section, FlatKind) else set()):
        value = getattr(section, name)
        if isinstance(value, FlatKind):
            keys |= {prefix + name} | keys_of(value, prefix)
        else:
            keys |= keys_of(value, f"{prefix}{name}.") if isinstance(value, Section) else {prefix + name}
    return keys
