"""Reading and writing of configuration files: YAML, then overrides, then a `Config`, checked once.

An error names all mistakes in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from utils.config.messages import describe, idle_keys, shown, unknown_key
from utils.config.schema import Config, known_keys, spellings
from utils.errors import UserError
from utils.files import write_text
from utils.paths import resolve_path
from utils.yaml_file import YamlError, add_exponents, parse_yaml, read_yaml


class _Dumper(yaml.SafeDumper):
    """A writer of YAML with lists on one line, in a form that `utils.yaml_file` reads."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


add_exponents(_Dumper)
_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def load_config(path: str | Path, overrides: Sequence[str] = (), note: Callable[[str], object] | None = None) -> Config:
    """Reads and check a configuration file.

    Args:
        path: the YAML file.
        overrides: "dotted.key=value" each, the value in YAML ("train_params.max_num_epochs=2"); applied in order.
        note: called with a line about keys that have no effect and hold their defaults; None: no such line.

    Returns:
        The configuration, with defaults filled in; paths stay as they are written.

    Raises:
        UserError: the file cannot be read, is no mapping, or has unknown or missing keys or wrong values (the message
            names all of them in one line); or the file of label_mapping does not exist.
    """
    raw = _read_mapping(path)
    config = check_config(raw, path, overrides, label_mapping=True)
    if note is not None and (idle := idle_keys(raw)):
        note(f"note: {path}: {', '.join(idle)}: without an effect here, where they have their defaults; remove them")
    return config


def check_config(
    raw: dict[Any, Any], path: str | Path, overrides: Sequence[str] = (), label_mapping: bool = False
) -> Config:
    """Checks a configuration that was read already.

    Args:
        raw: plain values; overrides are written into it.
        path: where the values come from, for the beginning of error messages.
        overrides: see `load_config`.
        label_mapping: whether the file that label_mapping names must exist.

    Raises:
        UserError: see `load_config`.
    """
    problems = [problem for text in overrides if (problem := _override(raw, text))]
    config = None
    try:
        config = Config.model_validate(raw)
        if label_mapping:
            resolve_path(config.dataset_params.label_mapping, key="dataset_params.label_mapping")
    except ValidationError as error:
        overridden = [text.partition("=")[0].strip() for text in overrides]
        problems += describe(error, raw, overridden)
    except UserError as error:
        problems.append(str(error))
    if config is None or problems:
        raise _error(path, "; ".join(problems))
    return config


def config_text(config: Config) -> str:
    """Makes YAML of a configuration, defaults included, that `load_config` reads back to an equal one."""
    content = config.model_dump(mode="json")
    training = content["train_params"].items()  # without the keys that its architecture does not look at
    content["train_params"] = {key: value for key, value in training if spellings(f"train_params.{key}", content)}
    data = content["dataset_params"].items()
    content["dataset_params"] = dict(sorted(data, key=lambda item: isinstance(item[1], dict)))  # the loaders last
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def save_config(config: Config, path: str | Path) -> None:
    """Writes the configuration as `config_text` makes it.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_text(path, config_text(config))
    except OSError as error:
        raise _error(path, f"cannot write the configuration ({error.strerror}); choose another folder") from error


def _error(path: str | Path, problem: str) -> UserError:
    return UserError(" ".join(f"{path}: {problem}".split()))  # a key or a value may hold a line break


def _read_mapping(path: str | Path) -> dict[Any, Any]:
    """Reads the file as a mapping; raises a UserError if it is anything else."""
    try:
        raw = read_yaml(path)
    except FileNotFoundError as error:
        raise _error(path, "no such configuration file, give an existing one to --config") from error
    except OSError as error:
        raise _error(path, f"cannot read the configuration ({error.strerror})") from error
    except YamlError as error:
        raise _error(path, f"not valid YAML, {error}") from error
    if raw is None:
        raise _error(path, "the configuration is empty, start from a file in config/")
    if not isinstance(raw, dict):
        raise _error(path, f"the configuration must be a mapping of keys to values, found {shown(raw)}")
    return raw


def _override(raw: dict[Any, Any], text: str) -> str | None:
    """Writes one "dotted.key=value" into `raw`; returns a phrase about what is wrong with it, or None."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals:
        return f"override {shown(text)} must read key=value"
    names = spellings(key, raw)
    if not names and key not in known_keys():  # the check of the whole refuses keys of other kinds
        return unknown_key(key, raw, [key])
    try:
        parsed = parse_yaml(value)
    except YamlError as error:
        return f"override {shown(text)} is not valid YAML after the '=', {error}"
    *sections, leaf = key.split(".")
    mapping = raw
    for section in sections:
        below = mapping.get(section)
        below = {} if below is None else below  # null: the section is empty
        if not isinstance(below, dict):
            return None  # the section itself is wrong, and the check of the whole says so
        mapping[section] = dict(below)  # a YAML alias may share it with another section
        mapping = mapping[section]
    for name in names:
        mapping.pop(name, None)
    mapping[leaf] = parsed
    return None
