"""The flags of tools/make_corruptions.py: the subsets, their source, and the choices that the papers leave open."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from dataloader.corruptions.families import (
    CORRUPTED_SETS,
    Choices,
    CorruptedSubset,
    Robo3DChoices,
    YanChoices,
    robo3d,
    yan,
)
from tools.making.datasets import DATASETS, DEMO_FOLDERS, add_dataset_flag
from tools.making.frames import add_workers_flag
from utils.command.flags import count
from utils.config.messages import nearest_key
from utils.corruptions import CLEAN_FOLDER, CLEAN_NAMES
from utils.errors import UserError

SEQUENCE = "08"
"""The sequence of SemanticKITTI's validation split."""


def add_corruption_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --family, --mode and --seed, for the tools that make and that draw corruptions."""
    add = parser.add_argument
    add(
        "--family",
        choices=sorted(CORRUPTED_SETS),
        required=True,
        help="authors of the corruptions: Yan et al. or Robo3D",
    )
    add("--mode", choices=("physical", "reference"), default="physical",
        help="weather by the papers' equations, or as the published generators compute it (%(default)s)")  # fmt: skip
    add("--seed", type=count(0), default=0, metavar="N", help="seed of all random numbers (%(default)s)")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tools/make_corruptions.py."""
    add = parser.add_argument
    add_corruption_flags(parser)
    add_dataset_flag(parser, "what --data_path holds")
    add("--data_path", type=Path, help="folder of the sequences, or of samples and lidarseg (the demo data)")
    add("--output", type=Path, help="folder of the subsets (SemanticKITTI-C, Robo3D/..., beside --data_path)")
    add("--subsets", nargs="+", metavar="NAME", help="names of subsets, such as fog_light or fog/light, or types, such "
        "as fog (all of the family)")  # fmt: skip
    add_workers_flag(parser)
    add("--sequence", help=f"SemanticKITTI: the sequence to corrupt ({SEQUENCE})")
    add(
        "--version",
        choices=("v1.0-trainval", "v1.0-mini"),
        help="nuScenes: version (the first that is there)",
    )
    _add_choices(parser)


def complete(flags: argparse.Namespace) -> argparse.Namespace:
    """Fills in `data_path` and `output`; choices that were not given stay None."""
    flags.data_path = flags.data_path or DEMO_FOLDERS[flags.dataset]
    flags.output = flags.output or _output(flags)
    return flags


def _add_choices(parser: argparse.ArgumentParser) -> None:
    usual = {**asdict(YanChoices()), **asdict(Robo3DChoices())}

    def add(group: argparse._ArgumentGroup, name: str, text: str, **how: Any) -> None:
        shown = " ".join(map(str, usual[name])) if isinstance(usual[name], tuple) else usual[name]
        group.add_argument(f"--{name}", help=f"{text} ({shown})", **how)

    yans = parser.add_argument_group("what Yan et al. do not say (--family yan)")
    add(yans, "fog_coefficient", "meaning of their beta", choices=("attenuation", "backscatter"))
    add(yans, "fog_beta", "backscatter of a fog given by its attenuation", choices=("mor", "fixed"))
    add(yans, "fog_alpha", "attenuation of a fog given by its backscatter, 1/m", type=float)
    add(yans, "fog_noise", "spread of the fog's returns", choices=("v1", "v2", "v3", "v4"))
    add(yans, "snow_velocity", "velocity of the flakes, m/s, by severity", type=float, nargs=3, metavar="V")
    add(yans, "snow_distribution", "sizes of the flakes", choices=("gunn", "sekhon"))
    add(yans, "snow_wet_ground", "snow falls on wet ground", action="store_true", default=None)
    add(
        yans,
        "outlier_volume",
        "box in metres: low x y z and high x y z, or the word scan",
        nargs="+",
        metavar="M",
    )
    add(yans, "outlier_intensity", "intensity of outliers", choices=("uniform", "zero", "scan"))
    add(yans, "distortion_clip", "largest jitter, in standard deviations", type=float)
    add(yans, "distortion_intensity", "jitter the intensity too", action="store_true", default=None)
    add(yans, "beam_offset", "the first beam that is kept", type=int)
    add(yans, "half", "which points of a beam the sparse subsets keep", choices=("stride", "random"))
    add(yans, "altered_label", "raw id of altered points", type=int, choices=(0, 1))
    robo3ds = parser.add_argument_group("what Robo3D does not say (--family robo3d --dataset nuscenes)")
    add(robo3ds, "nuscenes_blur", "sigma of motion blur, m, by severity", type=float, nargs=3, metavar="S")
    add(robo3ds, "nuscenes_crosstalk", "share of the points, by severity", type=float, nargs=3, metavar="P")


def _output(flags: argparse.Namespace) -> Path:
    """Returns the default folder, beside the data; the two data sets called SemanticKITTI-C have different ones."""
    name = f"{DATASETS[flags.dataset]}-C"
    return flags.data_path.parent / (name if flags.family == "yan" else f"Robo3D/{name}")


def check(flags: argparse.Namespace) -> None:
    """Checks the flags that can be checked without reading the data.

    Raises:
        UserError: a flag is of the other data set, or a file is in the way of --output.
    """
    stranger = "version" if flags.dataset == "semantickitti" else "sequence"
    if getattr(flags, stranger) is not None:
        raise UserError(f"--{stranger} means nothing for --dataset {flags.dataset}; remove it")
    there = next((place for place in (flags.output, *flags.output.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"--output {flags.output}: {there} is a file, not a folder; choose another --output")


def chosen(flags: argparse.Namespace) -> Choices:
    """Returns the choices that the papers leave open, from flags and defaults.

    Raises:
        UserError: a value is impossible, or a flag is of another family or data set.
    """
    kind = YanChoices if flags.family == "yan" else Robo3DChoices
    given = {
        field.name: getattr(flags, field.name)
        for other in (YanChoices, Robo3DChoices)
        for field in fields(other)
        if getattr(flags, field.name) is not None
    }
    own = {field.name for field in fields(kind)} if kind is YanChoices or flags.dataset == "nuscenes" else set()
    for name in given:
        if name not in own:
            raise UserError(f"--{name} means nothing for --family {flags.family} --dataset {flags.dataset}; remove it")
    for name, value in given.items():
        given[name] = _volume(value) if name == "outlier_volume" else tuple(value) if isinstance(value, list) else value
        if name in _RULES and not _RULES[name][0](given[name]):
            raise UserError(f"--{name} has to be {_RULES[name][1]}, not {value}; change it")
    return kind(**given)


def _volume(words: Sequence[str]) -> Any:
    if list(words) == ["scan"]:
        return None
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    bounded = all(map(math.isfinite, numbers))
    if (
        len(numbers) != 6
        or not bounded
        or not all(low < high for low, high in zip(numbers[:3], numbers[3:], strict=True))
    ):
        raise UserError(
            f"--outlier_volume {' '.join(words)}: give low x y z and high x y z in metres, or scan; change it"
        )
    return numbers


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "fog_alpha": (lambda value: 0 <= value < math.inf, "0 or more"),
    "snow_velocity": (lambda values: all(0 < value < math.inf for value in values), "above 0"),
    "distortion_clip": (lambda value: value > 0, "above 0"),
    "beam_offset": (lambda value: value in (0, 1), "0 or 1"),
    "nuscenes_blur": (lambda values: all(0 <= value < math.inf for value in values), "0 or more"),
    "nuscenes_crosstalk": (lambda values: all(0 <= value <= 1 for value in values), "from 0 to 1"),
}


def wanted_subsets(flags: argparse.Namespace, choices: Choices) -> tuple[tuple[CorruptedSubset, ...], tuple[str, ...]]:
    """Returns all subsets of the family for the data set, and the names of those to make, in order.

    For Yan et al., whose evaluation starts from the clean scans, `CLEAN_FOLDER` is always among the names. The flag
    value `CLEAN_NAMES` asks for that folder alone.

    Raises:
        UserError: the family has no such data set or no such subset.
    """
    dataset = DATASETS[flags.dataset]
    if dataset not in CORRUPTED_SETS[flags.family]:
        others = " or ".join(name for name, sets in CORRUPTED_SETS.items() if dataset in sets)
        raise UserError(f"--family {flags.family} has no corruptions of {dataset}; take --family {others}")
    yans = isinstance(choices, YanChoices)
    subsets = yan(flags.mode, choices) if yans else robo3d(dataset, flags.mode, choices)
    known = {word for subset in subsets for word in (subset.name, subset.type)} | (set(CLEAN_NAMES) if yans else set())
    asked = flags.subsets or sorted(known)
    for word in asked:
        if word not in known:
            nearest = nearest_key(word, sorted(known))
            hint = f"did you mean {nearest}?" if nearest else f"they are {', '.join(s.name for s in subsets)}"
            raise UserError(f"--subsets {word}: no such subset of {flags.family}, {hint}")
    names = [subset.name for subset in subsets if subset.name in asked or subset.type in asked]
    return subsets, (CLEAN_FOLDER, *names) if flags.family == "yan" else tuple(names)
