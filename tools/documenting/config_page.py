"""The page docs/reference/config.md: every key of a configuration file, from the models that check it."""

from __future__ import annotations

from collections.abc import Iterator

from tools.documenting.markdown import code, page, table
from utils.config.reference import Key, reference

_INTRODUCTION = """\
A config is one YAML file with three sections: `model_params`, `dataset_params` and `train_params`. The keys are
those of the published configs, spelling (`hiden_size`) included. A section comes in kinds, which one of its keys
chooses: `model_architecture` the network, `dataset_type` the items, `optimizer` and `lr_scheduler` the training. A kind
has just the keys that it uses: a table without a remark is for all kinds.

`--set train_params.max_num_epochs=2` changes a key on the command line ([overrides](../guides/train.md#overrides)).
Unknown keys, wrong values and keys of another kind are refused in one line before anything starts."""

_CHOOSERS = ("model_architecture", "dataset_type", "optimizer", "lr_scheduler")


def config_page() -> str:
    """Returns the page."""
    keys: dict[str, dict[tuple[str, ...], list[Key]]] = {}
    choosers: dict[str, str] = {}
    for key in reference():
        name = key.name.rpartition(".")[2]
        choosers |= {choice: name for choice in key.type.removeprefix("one of ").split(", ") if name in _CHOOSERS}
        section = key.name.rpartition(".")[0] or "The whole file"
        keys.setdefault(section, {}).setdefault(key.kinds, []).append(key)
    return page(
        "Config keys", _INTRODUCTION, *(block for name in keys for block in _section(name, keys[name], choosers))
    )


def _section(name: str, by_kinds: dict[tuple[str, ...], list[Key]], choosers: dict[str, str]) -> Iterator[str]:
    """Yields the heading and the tables of a section: first the keys of all kinds, then those of some."""
    yield f"## {name}"
    for kinds in sorted(by_kinds, key=bool):
        if kinds:
            yield f"With {code(choosers[kinds[0]])} {_joined(kinds)}:"
        yield table(("key", "type", "default", "meaning"), map(_row, by_kinds[kinds]))


def _joined(kinds: tuple[str, ...]) -> str:
    *most, last = map(code, kinds)
    return f"{', '.join(most)} or {last}" if most else last


def _row(key: Key) -> tuple[str, ...]:
    default = "required" if key.default is None else code(key.default)
    return code(key.name.rpartition(".")[2]), key.type, default, key.meaning
