"""A configuration file: YAML -> overrides -> `Config`, checked once, with every mistake named in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from utils.config_schema import Config, DatasetParams, LoaderParams, ModelParams, TrainParams, known_keys
from utils.errors import UserError

__all__ = [
    "Config",
    "DatasetParams",
    "LoaderParams",
    "ModelParams",
    "TrainParams",
    "expand_home",
    "load_config",
    "nearest_key",
    "resolve_path",
    "save_config",
]

REPOSITORY = Path(__file__).resolve().parent.parent


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `1e-3` as a number, as YAML 1.2 does; YAML 1.1 wants `1.0e-3`."""


class _Dumper(yaml.SafeDumper):
    """The counterpart of `_Loader`; lists on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
for _yaml_class in (_Loader, _Dumper):
    _yaml_class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration file.

    Args:
        path: the YAML file.
        overrides: "dotted.key=value" each, the value in YAML ("train_params.max_num_epochs=2"); applied in order.

    Returns:
        The configuration, with defaults filled in; paths stay as they are written.

    Raises:
        UserError: the file cannot be read, is no mapping, or holds keys or values that are not known, wrong or
            missing (all of them in one line); or the file of label_mapping does not exist.
    """
    raw = _read_mapping(path)
    problems = [problem for text in overrides if (problem := _override(raw, text))]
    config = None
    try:
        config = Config.model_validate(raw)
        resolve_path(config.dataset_params.label_mapping, key="dataset_params.label_mapping")
    except ValidationError as error:
        overridden = [text.partition("=")[0].strip() for text in overrides]
        problems += [_describe(detail, overridden) for detail in error.errors(include_url=False)]
    except UserError as error:
        problems.append(str(error))
    if config is None or problems:
        raise _error(path, "; ".join(problems))
    return config


def save_config(config: Config, path: str | Path) -> None:
    """Write the configuration, defaults included, as YAML that `load_config` reads back to an equal one.

    Raises:
        UserError: the file cannot be written.
    """
    text = yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise _error(path, f"cannot write the configuration ({error.strerror}); choose another folder") from error


def expand_home(name: str | Path, key: str = "") -> Path:
    """The path with a leading ~ or ~user replaced by that home folder.

    Args:
        name: a path as written in the configuration.
        key: the key that names it, for the error message.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        start = f"{key} names " if key else ""
        raise UserError(f"{start}{name}, but there is no such home folder, correct the path") from error


def resolve_path(name: str | Path, key: str = "") -> Path:
    """The file a configuration names: seen from the current directory or else from the root of this repository.

    Args:
        name: a path as written in the configuration.
        key: the key that names it, for the error message.

    Raises:
        UserError: it is in neither place, or there is no such home folder.
    """
    path = expand_home(name, key)
    roots = [Path.cwd()] if path.is_absolute() else list(dict.fromkeys([Path.cwd(), REPOSITORY]))
    for root in roots:
        if (root / path).is_file():  # an absolute path stays as it is
            return root / path
    folders = "" if path.is_absolute() else f" in {' or '.join(map(str, roots))}"
    start = f"{key} names " if key else ""
    raise UserError(f"{start}{name}, but there is no such file{folders}, correct the path")


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


def _error(path: str | Path, problem: str) -> UserError:
    return UserError(" ".join(f"{path}: {problem}".split()))  # a key or a value may hold a line break


def _read_mapping(path: str | Path) -> dict[Any, Any]:
    """The file as a mapping. Raises UserError if it is anything else."""
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise _error(path, "no such configuration file, give an existing one to --config") from error
    except OSError as error:
        raise _error(path, f"cannot read the configuration ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _error(path, f"not valid YAML, {_yaml_problem(error)}") from error
    if raw is None:
        raise _error(path, "the configuration is empty, start from a file in config/")
    if not isinstance(raw, dict):
        raise _error(path, f"the configuration must be a mapping of keys to values, found {_shown(raw)}")
    return raw


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'syntax error'}"


def _override(raw: dict[Any, Any], text: str) -> str | None:
    """Write one "dotted.key=value" into `raw`; returns what is wrong with it, if anything."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals:
        return f"override {text!r} must read key=value"
    known = known_keys()
    if key not in known:
        return _unknown(key, [key])
    try:
        parsed = yaml.load(value, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return f"override {text!r} is not valid YAML after the '=', {_yaml_problem(error)}"
    *sections, leaf = key.split(".")
    mapping = raw
    for section in sections:
        below = mapping.get(section, {})
        if not isinstance(below, dict):
            return None  # the section itself is wrong, and the check of the whole says so
        mapping[section] = dict(below)  # a YAML alias may share it with another section
        mapping = mapping[section]
    mapping[leaf] = parsed
    return None


# What pydantic's error types ask for, in the words of a YAML author; `{}` are filled from the error's context.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "tuple_type": "a list",
    "too_short": "a list that is not empty",
    "model_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "multiple_of": "a multiple of {multiple_of}",
}


def _describe(detail: Any, overridden: Sequence[str]) -> str:
    """One of pydantic's errors as a phrase that names the key."""
    kind, context, found = detail["type"], detail.get("ctx", {}), _shown(detail["input"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown(".".join(map(str, detail["loc"])), overridden)
    if kind == "missing":
        phrase = f"{key} is missing"
    elif kind == "value_error":  # the validators of the schema speak in full
        phrase = f"{key} {context['error']}".strip()
    elif kind in _EXPECTED:
        phrase = f"{key} must be {_EXPECTED[kind].format(**context)}, found {found}"
    else:
        phrase = f"{key}: {detail['msg']}, found {found}"
    return phrase + _origin(key, overridden)


def _unknown(key: str, overridden: Sequence[str]) -> str:
    nearest = nearest_key(key, known_keys())
    return f"unknown key {key}" + (f", did you mean {nearest}?" if nearest else "") + _origin(key, overridden)


def _origin(key: str, overridden: Sequence[str]) -> str:
    """A note where the value comes from the command line and not from the file."""
    return " (from an override)" if any(re.match(re.escape(name) + r"(?![\w])", key) for name in overridden) else ""


def _shown(value: Any) -> str:
    """A value as the author wrote it, shortened to fit in a line."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple):  # a list of the file, on its way into the record
        value = list(value)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
