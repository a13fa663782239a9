"""What can be chosen about a made-up data set."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from tools.demo_world.geometry.materials import REFLECTANCE
from utils.errors import UserError


@dataclass(frozen=True)
class DemoOptions:
    """Choices for a demo data set; everything but `workers` decides the bytes of its files.

    Attributes:
        train_frames, val_frames, test_frames: sweeps in each split.
        beams, azimuth_steps: the LiDAR's lasers, and their measurements in a turn.
        vertical_fov: elevation of the first and the last laser, degrees.
        range_noise: standard deviation of a measured range, metres.
        dropout: share of the measurements that are lost.
        image_size: width and height of the pictures, pixels.
        seed: another seed, other streets.
        workers: processes that write frames.
        reflectance: (name, share) of materials (`materials.REFLECTANCE`) that send back another share of the light.

    Raises:
        UserError: a value makes no sense.
    """

    train_frames: int = 40
    val_frames: int = 10
    test_frames: int = 4
    beams: int = 32
    azimuth_steps: int = 1024
    vertical_fov: tuple[float, float] = (2.0, -24.8)
    range_noise: float = 0.02
    dropout: float = 0.02
    image_size: tuple[int, int] = (620, 188)
    seed: int = 0
    workers: int = 1
    reflectance: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        top, bottom = self.vertical_fov
        for name, valid, rule in (
            ("train_frames", 1 <= self.train_frames <= 10000, "from 1 to 10000"),
            ("val_frames", 1 <= self.val_frames <= 10000, "from 1 to 10000"),
            ("test_frames", 1 <= self.test_frames <= 10000, "from 1 to 10000"),
            ("beams", 2 <= self.beams <= 256, "from 2 to 256"),
            ("azimuth_steps", 16 <= self.azimuth_steps <= 8192, "from 16 to 8192"),
            ("vertical_fov", 45 >= top > bottom >= -60, "two angles, the upper one first, within 45 and -60 degrees"),
            ("range_noise", 0 <= self.range_noise <= 1, "from 0 to 1 metre"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
            ("image_size", all(16 <= edge <= 4096 for edge in self.image_size), "from 16 to 4096 pixels each way"),
            ("seed", self.seed >= 0, "at least 0"),
            ("workers", self.workers >= 1, "at least 1"),
        ):
            if not valid:
                raise UserError(f"--{name} has to be {rule}, not {getattr(self, name)}; change it")
        names = [material.name for material in REFLECTANCE]
        for name, share in self.reflectance:
            if name not in names:
                nearest = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0)[0]
                raise UserError(f"--reflectance {name}: no such material, did you mean {nearest}?")
            if not 0 <= share <= 1:
                raise UserError(f"--reflectance {name} has to be from 0 to 1, not {share}; change it")

    def identity(self) -> dict[str, Any]:
        """What decides the files' bytes, as JSON would give it back."""
        chosen = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in ("workers", "reflectance")
        }
        return {**chosen, "reflectance": dict(self.reflectance)} if self.reflectance else chosen


DEFAULTS = {
    "semantickitti": DemoOptions(),
    "nuscenes": DemoOptions(test_frames=2, azimuth_steps=1090, vertical_fov=(10.67, -30.67), image_size=(480, 270)),
}
"""What is made of each data set unless something else is asked for; sensors about as on the real cars."""
