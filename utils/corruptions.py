"""The names of corruptions: the subsets of the two published families, and what training can draw.

    yan      Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024
    robo3d   Kong et al., "Robo3D: Towards Robust and Reliable 3D Perception against Corruptions", ICCV 2023

`dataloader.corruptions.families` says what each of them does to a sweep, and `config/robustness` has their published
scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from utils.paths import REPOSITORY

SEVERITIES = ("light", "moderate", "heavy")

CLEAN = "clean"
"""Value of `Subset.corruption` for the uncorrupted scans."""
CLEAN_FOLDER = "clean_data"
"""Name of the folder of the uncorrupted scans in the layout of Yan et al.; Robo3D has none."""
CLEAN_NAMES = (CLEAN, CLEAN_FOLDER)
"""Names of the uncorrupted scans that --subsets accepts, in either family."""


@dataclass(frozen=True)
class Subset:
    """A frozen record of one corruption at one severity, or of the clean scans.

    Attributes:
        name: name of its folder: "fog_light" (Yan et al.) or "fog/light" (Robo3D). That of the clean scans need not
            exist.
        corruption: name of the corruption, such as "fog"; `CLEAN` for the clean scans. The metrics of both papers take
            the mean over the severities of a corruption first.
        severity: "light", "moderate", "heavy"; "dense", "sparse" for fewer beams (Yan et al.); "" for the clean scans.
    """

    name: str
    corruption: str
    severity: str


TITLES: dict[str, dict[str, str]] = {
    "yan": {
        "fog": "fog",
        "snowfall": "snowfall",
        "local": "local distortion",
        "global": "global outliers",
        "32beam": "32 beams",
        "16beam": "16 beams",
    },
    "robo3d": {
        "fog": "fog",
        "wet_ground": "wet ground",
        "snow": "snow",
        "motion_blur": "motion blur",
        "beam_missing": "missing beams",
        "crosstalk": "crosstalk",
        "incomplete_echo": "incomplete echo",
        "cross_sensor": "cross-sensor",
    },
}
"""Family -> its corruptions in the order of its tables -> their names in tables and pictures."""


def _subset_of_yan(corruption: str, severity: str) -> Subset:
    name = f"{severity}_{corruption}" if corruption.endswith("beam") else f"{corruption}_{severity}"
    return Subset(name, corruption, severity)


SUBSETS: dict[str, tuple[Subset, ...]] = {
    "yan": (
        Subset(CLEAN_FOLDER, CLEAN, ""),
        *(
            _subset_of_yan(corruption, severity)
            for corruption in TITLES["yan"]
            for severity in (("dense", "sparse") if corruption.endswith("beam") else SEVERITIES)
        ),
    ),
    "robo3d": (Subset(CLEAN, CLEAN, ""), *(Subset(f"{c}/{s}", c, s) for c in TITLES["robo3d"] for s in SEVERITIES)),
}
"""Family -> the clean scans, then its subsets in the order of its evaluation."""
FAMILIES = tuple(SUBSETS)

DRAWN: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("robo3d", (name,)) for name in TITLES["robo3d"]},
    "local_distortion": ("yan", ("local",)),
    "global_outliers": ("yan", ("global",)),
    "reduce_beams": ("yan", ("32beam", "16beam")),
}
"""Name in `corruption_aug` -> its family, and the corruptions of that family whose severities are drawn."""

LOOK_AT_LABELS = frozenset({"wet_ground", "snow", "incomplete_echo"})
"""Names of `DRAWN` whose effect on a sweep depends on its labels: Robo3D finds the ground and the cars by them."""


def table_of(family: str, dataset: str) -> Path:
    """Returns the name of the file with the published scores of a family on a data set that it has corrupted."""
    return REPOSITORY / "config" / "robustness" / f"{family}-{dataset.lower()}.yaml"


def families_of(dataset: str) -> tuple[str, ...]:
    """Lists the families that have corrupted a data set."""
    return tuple(family for family in FAMILIES if table_of(family, dataset).is_file())
