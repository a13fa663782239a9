"""The options of a made-up data set, each with its default, its meaning and its rule in one place."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tools.demo_world.geometry.materials import REFLECTANCE
from utils.errors import UserError


def _choice(default: Any, meaning: str, valid: Callable[[Any], bool], rule: str, metavar: Any = None) -> Any:
    """Makes a field that is also a flag; `rule` says in words what `valid` accepts."""
    return field(default=default, metadata={"meaning": meaning, "valid": valid, "rule": rule, "metavar": metavar})


def _between(low: int, high: int) -> tuple[Callable[[int], bool], str]:
    return lambda value: low <= value <= high, f"from {low} to {high}"


@dataclass(frozen=True)
class DemoOptions:
    """Choices for a demo data set; everything but `workers` decides the bytes of its files.

    Attributes:
        workers: processes that write frames.
        reflectance: (name, share) of materials (`materials.REFLECTANCE`) that send back another share of the light.

    Raises:
        UserError: a value is outside of its range.
    """

    train_frames: int = _choice(
        40, "scans in sequence 00 (see --train_streets), or over the 8 scenes of mini_train", *_between(1, 10000)
    )
    train_streets: int = _choice(
        1,
        "streets of the training scans: 00, 01 and so on (not nuScenes); with --train_frames alone 1",
        *_between(1, 10),
    )
    val_frames: int = _choice(10, "scans in sequence 08, or over the 2 scenes of mini_val", *_between(1, 10000))
    test_frames: int = _choice(4, "scans in sequence 11, or over 2 test scenes", *_between(1, 10000))
    beams: int = _choice(32, "lasers of the LiDAR", *_between(2, 256))
    azimuth_steps: int = _choice(1024, "measurements in a turn", *_between(16, 8192))
    vertical_fov: tuple[float, float] = _choice(
        (2.0, -24.8),
        "elevation of the first and the last laser, degrees",
        lambda fov: 45 >= fov[0] > fov[1] >= -60,
        "two angles, the upper one first, within 45 and -60 degrees",
        ("TOP", "BOTTOM"),
    )
    range_noise: float = _choice(
        0.02, "standard deviation of a range, metres", lambda metres: 0 <= metres <= 1, "from 0 to 1 metre"
    )
    dropout: float = _choice(0.02, "share of lost measurements", lambda share: 0 <= share < 1, "at least 0 and below 1")
    image_size: tuple[int, int] = _choice(
        (620, 188),
        "pixels of the pictures",
        lambda size: all(16 <= edge <= 4096 for edge in size),
        "from 16 to 4096 pixels each way",
        ("W", "H"),
    )
    sweeps: int = _choice(0, "LiDAR sweeps between two key frames (nuScenes only)", *_between(0, 9))
    seed: int = _choice(0, "another seed, other streets", lambda seed: seed >= 0, "at least 0")
    workers: int = 1
    reflectance: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for choice in fields(self):
            value, about = getattr(self, choice.name), choice.metadata
            if about and not about["valid"](value):
                raise UserError(f"--{choice.name} has to be {about['rule']}, not {value}; change it")
        names = [material.name for material in REFLECTANCE]
        for name, share in self.reflectance:
            if name not in names:
                nearest = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0)[0]
                raise UserError(f"--reflectance {name}: no such material, did you mean {nearest}?")
            if not 0 <= share <= 1:
                raise UserError(f"--reflectance {name} has to be from 0 to 1, not {share}; change it")
        if self.train_frames < self.train_streets:
            raise UserError(
                f"--train_streets {self.train_streets}: more streets than --train_frames, which is "
                f"{self.train_frames}; change one of them"
            )

    def identity(self) -> dict[str, Any]:
        """Returns the options that decide the files' bytes, in the types that JSON returns."""
        chosen = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in ("workers", "reflectance") and (name, value) not in (("sweeps", 0), ("train_streets", 1))
        }
        return {**chosen, "reflectance": dict(self.reflectance)} if self.reflectance else chosen


DEFAULTS = {
    "semantickitti": DemoOptions(train_frames=80, train_streets=4),
    "nuscenes": DemoOptions(
        test_frames=2, azimuth_steps=1090, vertical_fov=(10.67, -30.67), image_size=(480, 270), sweeps=2
    ),
}
"""What is made of each data set unless something else is asked for; sensors about as on the real cars."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each choice except `workers` and `reflectance`; a flag that is not given is None."""
    for choice in fields(DemoOptions):
        if not choice.metadata:
            continue
        several = isinstance(choice.default, tuple)
        usual = in_words({name: getattr(default, choice.name) for name, default in DEFAULTS.items()})
        parser.add_argument(
            f"--{choice.name}",
            type=type(choice.default[0] if several else choice.default),  # type: ignore[index]
            nargs=len(choice.default) if several else None,  # type: ignore[arg-type]
            metavar=choice.metadata["metavar"],
            help=f"{choice.metadata['meaning']} ({usual})",
        )


def in_words(values: Mapping[str, object]) -> str:
    """Writes a value of each data set for a help text; equal values are written once."""
    if len(set(map(str, values.values()))) == 1:
        return str(next(iter(values.values())))
    return ", ".join(f"{name}: {value}" for name, value in values.items())
