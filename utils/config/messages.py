"""Messages about a wrong configuration, with every key as the file spells it, and a remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from utils.config.fields import Section
from utils.config.kinds import FlatKind, IdleKeysAllowed, asks_nothing, is_flat, kinds_of
from utils.config.schema import Config, known_keys, leaves, spellings
from utils.text import shortened


def nearest_key(unknown: str, known: Sequence[str]) -> str | None:
    """Returns the known key that `unknown` was most likely meant to be, or None if none is similar.

    Keys are dotted. The last part decides ("hidden_size" finds "model_params.hiden_size" from any section); between
    equals, the key whose sections are the nearest, then the first.
    """

    def likeness(left: str, right: str) -> float:
        return difflib.SequenceMatcher(None, left.lower(), right.lower()).ratio()

    def rank(key: str) -> tuple[float, float]:
        section, _, leaf = key.rpartition(".")
        unknown_section, _, unknown_leaf = unknown.rpartition(".")
        return likeness(unknown_leaf, leaf), likeness(unknown_section, section)

    best = max(known, key=rank, default=None)
    return best if best is not None and rank(best)[0] >= 0.7 else None


# What pydantic's error types ask for, in the words of a YAML author; `{}` are filled from the error's context.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "string_too_long": "a string of at most {max_length} characters",
    "tuple_type": "a list",
    "too_short": "a list that is not empty",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:.12g}",
    "greater_than_equal": "{ge:.12g} or more",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "{le:.12g} or less",
    "multiple_of": "a multiple of {multiple_of}",
}


def describe(error: ValidationError, raw: dict[Any, Any], overridden: Sequence[str]) -> list[str]:
    """Describes every mistake that pydantic found, in a phrase each; line breaks may come only from keys and values.

    Args:
        error: from the check of `raw`.
        raw: the configuration with the overrides, before any check.
        overridden: the keys that come from the command line.
    """
    phrases: list[str] = []
    foreign: dict[_Place, list[str]] = {}  # keys that belong to another kind than the one at their place
    for detail in error.errors(include_url=False):
        place, parts = _place(detail["loc"])
        key = ".".join(map(str, parts))
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            phrases += _no_kind(key, raw, overridden)
        elif detail["type"] not in ("extra_forbidden", "invalid_key"):
            phrases.append(_wrong_value(place, parts, detail, overridden))
        elif key in known_keys():
            foreign.setdefault(place, []).append(key)
        else:
            phrases.append(unknown_key(key, raw, overridden))
    for place, keys in foreign.items():
        phrases += _of_another_kind(place, keys, overridden)
    return phrases


def idle_keys(raw: dict[str, Any]) -> list[str]:
    """Lists the keys of other kinds than the chosen ones that hold their defaults.

    Keys that hold null, false or 0 are left out.

    Args:
        raw: a configuration without mistakes, with the overrides.
    """
    return [key for key, value in leaves(raw) if not asks_nothing(value) and not spellings(key, raw)]


def unknown_key(key: str, raw: Any, overridden: Sequence[str]) -> str:
    """Returns the phrase for a key that no kind has, with the most similar key of the kinds that `raw` chooses."""
    nearest = nearest_key(key, known_keys(raw))
    return f"unknown key {key}" + (f", did you mean {nearest}?" if nearest else "") + _origin(key, overridden)


def shown(value: Any) -> str:
    """Returns a value as its author wrote it, shortened to fit in a line."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple):  # a list of the file, which has been converted already
        value = list(value)
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # Python does not print numbers of thousands of digits
        text = "a number of thousands of digits"
    return shortened(text, 60)


@dataclass(frozen=True)
class _Place:
    """The place in a configuration where something was found.

    Attributes:
        section: the class of the section or of the flat kind; None below a key.
        chooser: the key that chose it, "lr_scheduler"; "" where there is no choice.
        choice: the value of that key.
        others: the possible values of that key, with their classes.
    """

    section: type[Section] | None = Config
    chooser: str = ""
    choice: str = ""
    others: tuple[tuple[str, type[Section]], ...] = ()


def _place(loc: tuple[int | str, ...]) -> tuple[_Place, tuple[int | str, ...]]:
    """Returns the place and the key of a `loc` of pydantic, which also names the kinds on the way to the key."""
    place, parts, left = _Place(), [], list(loc)
    while left:
        parts.append(left.pop(0))
        field = None if place.section is None else place.section.model_fields.get(str(parts[-1]))
        if not left:
            break
        if field is None:
            place = _Place(None)
            continue
        kinds = kinds_of(field)
        if field.discriminator is None:
            place = _Place(kinds.get(""))
            continue
        choice, chooser = str(left.pop(0)), parts.pop() if is_flat(field) else field.discriminator
        place = _Place(kinds.get(choice), str(chooser), choice, tuple(kinds.items()))
    return place, tuple(parts)


def _wrong_value(place: _Place, parts: tuple[int | str, ...], detail: Any, overridden: Sequence[str]) -> str:
    kind, context, found = detail["type"], detail.get("ctx", {}), shown(detail["input"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    of_few = any(parts[-1] not in other.model_fields for _, other in place.others if issubclass(other, FlatKind))
    if of_few and (kind == "missing" or detail["input"] is None):
        phrase = f"{key} must be set for {place.chooser} {place.choice}"
    elif kind == "missing":
        phrase = f"{key} is missing"
    elif kind == "value_error":  # the validators of the schema speak in full
        phrase = f"{key} {context['error']}".strip()
    elif kind in _EXPECTED:
        phrase = f"{key} must be {_EXPECTED[kind].format(**context)}, found {found}"
    else:
        phrase = f"{key}: {detail['msg']}, found {found}"
    return phrase + _origin(key, overridden)


def _no_kind(where: str, raw: dict[Any, Any], overridden: Sequence[str]) -> list[str]:
    """Lists the phrases for a section or flat kind whose choosing key is missing or wrong; its values are not checked.

    Args:
        where: the key of the section, or of the flat kind.
        raw, overridden: see `describe`.
    """
    *sections, name = where.split(".")
    section, content = Config, raw
    for part in sections:
        (section,) = kinds_of(section.model_fields[part]).values()
        content = content[part]
    field = section.model_fields[name]
    flat = is_flat(field)
    key = where if flat else f"{where}.{field.discriminator}"
    holder, leaf = (content, name) if flat else (content[name], field.discriminator)
    choices = list(map(repr, kinds_of(field)))
    wanted = f"{', '.join(choices[:-1])} or {choices[-1]}"
    if leaf in holder:
        phrase = f"{key} must be {wanted}, found {shown(holder[leaf])}"
    else:
        phrase = f"{key} is missing, give {wanted}"
    keys = [] if flat else [f"{where}.{other}" for other in holder]
    unknown = [unknown_key(other, raw, overridden) for other in keys if not spellings(other, raw)]
    return [phrase + _origin(key, overridden), *unknown]


def _of_another_kind(place: _Place, keys: Sequence[str], overridden: Sequence[str]) -> list[str]:
    """Lists the phrases for keys that ask for something that the chosen kind does not do."""
    named = [key + _origin(key, overridden) for key in keys]
    verb, them = ("is no key", "it") if len(keys) == 1 else ("are no keys", "them")
    if place.section is not None and issubclass(place.section, IdleKeysAllowed):
        loader = keys[0].split(".")[-2]
        return [f"{', '.join(named)} {verb} of {loader}, {place.section.remark.format(it=them)}"]
    if place.section is None or not issubclass(place.section, FlatKind):
        return [f"{', '.join(named)} {verb} of {place.chooser} {place.choice}, remove {them}"]
    return [
        f"{name} is a key of {place.chooser} {_owners(place.others, key)}, not of {place.choice}: it has no "
        "effect, remove it or set it to null"
        for key, name in zip(keys, named, strict=True)
    ]


def _owners(kinds: Sequence[tuple[str, type[Section]]], key: str) -> str:
    """Returns the names of the kinds that have a key, for a sentence."""
    return " and ".join(name for name, kind in kinds if key.rpartition(".")[2] in kind.model_fields)


def _origin(key: str, overridden: Sequence[str]) -> str:
    """Returns a note if the value comes from the command line and not from the file, else ""."""
    return " (from an override)" if any(re.match(re.escape(name) + r"(?![\w])", key) for name in overridden) else ""
