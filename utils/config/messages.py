"""What is wrong with a configuration, in the words of its author: every key as it is written, and a remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from utils.config.schema import Config, kinds_of, known_keys, spellings
from utils.text import shortened


def nearest_key(unknown: str, known: Sequence[str]) -> str | None:
    """The key that `unknown` was most likely meant to be, or None if nothing is near.

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
    """Everything pydantic found wrong, a phrase each, without line breaks of our own.

    Args:
        error: from the check of `raw`.
        raw: the configuration as its file and the overrides have it.
        overridden: the keys that come from the command line.
    """
    phrases: list[str] = []
    foreign: dict[str, list[str]] = {}  # section: its keys that belong to another kind of section
    for detail in error.errors(include_url=False):
        parts = _as_written(detail["loc"])
        key = ".".join(map(str, parts))
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            phrases += _no_kind(key, raw, overridden)
        elif detail["type"] not in ("extra_forbidden", "invalid_key"):
            phrases.append(_wrong_value(parts, detail, overridden))
        elif key in known_keys():
            foreign.setdefault(str(parts[0]), []).append(key + _origin(key, overridden))
        else:
            phrases.append(unknown_key(key, raw, overridden))
    return phrases + [_of_another_kind(section, keys, raw) for section, keys in foreign.items()]


def unknown_key(key: str, raw: Any, overridden: Sequence[str]) -> str:
    """The phrase for a key that no kind of section has, with the nearest key of the kinds that `raw` chooses."""
    nearest = nearest_key(key, known_keys(raw))
    return f"unknown key {key}" + (f", did you mean {nearest}?" if nearest else "") + _origin(key, overridden)


def shown(value: Any) -> str:
    """A value as the author wrote it, shortened to fit in a line."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple):  # a list of the file, on its way into the record
        value = list(value)
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # Python does not print numbers of thousands of digits
        text = "a number of thousands of digits"
    return shortened(text, 60)


def _as_written(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where pydantic found something, without the kind of the section, which it puts behind the section's name."""
    field = Config.model_fields.get(str(loc[0])) if loc else None
    return loc if field is None or field.discriminator is None else loc[:1] + loc[2:]


def _wrong_value(parts: tuple[int | str, ...], detail: Any, overridden: Sequence[str]) -> str:
    kind, context, found = detail["type"], detail.get("ctx", {}), shown(detail["input"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if kind == "missing":
        phrase = f"{key} is missing"
    elif kind == "value_error":  # the validators of the schema speak in full
        phrase = f"{key} {context['error']}".strip()
    elif kind in _EXPECTED:
        phrase = f"{key} must be {_EXPECTED[kind].format(**context)}, found {found}"
    else:
        phrase = f"{key}: {detail['msg']}, found {found}"
    return phrase + _origin(key, overridden)


def _no_kind(section: str, raw: dict[Any, Any], overridden: Sequence[str]) -> list[str]:
    """Phrases for a section that does not say, or not rightly, of which kind it is; the rest goes unchecked then."""
    field = Config.model_fields[section]
    key, choices = f"{section}.{field.discriminator}", list(map(repr, kinds_of(field)))
    wanted = f"{', '.join(choices[:-1])} or {choices[-1]}"
    if field.discriminator in raw[section]:
        phrase = f"{key} must be {wanted}, found {shown(raw[section][field.discriminator])}"
    else:
        phrase = f"{key} is missing, give {wanted}"
    keys = [f"{section}.{name}" for name in raw[section]]
    unknown = [unknown_key(name, raw, overridden) for name in keys if not spellings(name, raw)]
    return [phrase + _origin(key, overridden), *unknown]


def _of_another_kind(section: str, keys: Sequence[str], raw: dict[Any, Any]) -> str:
    chooser = Config.model_fields[section].discriminator
    phrase = "is no key" if len(keys) == 1 else "are no keys"
    them = "it" if len(keys) == 1 else "them"
    return f"{', '.join(keys)} {phrase} of {chooser} {raw[section][chooser]}, remove {them}"


def _origin(key: str, overridden: Sequence[str]) -> str:
    """A note where the value comes from the command line and not from the file."""
    return " (from an override)" if any(re.match(re.escape(name) + r"(?![\w])", key) for name in overridden) else ""
