"""A configuration file: YAML -> overrides -> `Config`, checked once, with every mistake named in one line."""

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
    """Lists on one line; what it writes, `utils.yaml_file` reads."""

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
        note: takes a line about keys without an effect, which hold defaults; None: it is left out.

    Returns:
        The configuration, with defaults filled in; paths stay as they are written.

    Raises:
        UserError: the file cannot be read, is no mapping, or holds keys or values that are not known, wrong or
            missing (all of them in one line); or the file of label_mapping does not exist.
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
        path: where it comes from, the beginning of an error message.
        overrides: see `load_config`.
        label_mapping: the file that it names must exist.

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


def save_config(config: Config, path: str | Path) -> None:
    """Writes the configuration, defaults included, as YAML that `load_config` reads back to an equal one.

    Raises:
        UserError: the file cannot be written.
    """
    content = config.model_dump(mode="json")
    data = content["dataset_params"].items()
    content["dataset_params"] = dict(sorted(data, key=lambda item: isinstance(item[1], dict)))  # the loaders last
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    try:
        write_text(path, text)
    except OSError as error:
        raise _error(path, f"cannot write the configuration ({error.strerror}); choose another folder") from error


def _error(path: str | Path, problem: str) -> UserError:
    return UserError(" ".join(f"{path}: {problem}".split()))  # a key or a value may hold a line break


def _read_mapping(path: str | Path) -> dict[Any, Any]:
    """The file as a mapping. Raises UserError if it is anything else."""
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
    """Writes one "dotted.key=value" into `raw`; returns what is wrong with it, if anything."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals:
        return f"override {shown(text)} must read key=value"
    names = spellings(key, raw)
    if not names and key not in known_keys():  # a key of another kind is for the check of the whole to refuse
        return unknown_key(key, raw, [key])
    try:
        parsed = parse_yaml(value)
    except YamlError as error:
        return f"override {shown(text)} is not valid YAML after the '=', {error}"
    *sections, leaf = key.split(".")
    mapping = raw
    for section in sections:
        below = mapping.get(section)
        below = {} if below is None else below  # null: nothing so far
        if not isinstance(below, dict):
            return None  # the section itself is wrong, and the check of the whole says so
        mapping[section] = dict(below)  # a YAML alias may share it with another section
        mapping = mapping[section]
    for name in names:
        mapping.pop(name, None)
    mapping[leaf] = parsed
    return None
