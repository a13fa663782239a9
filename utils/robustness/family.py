"""Families of corrupted validation sets, what is published on them, and the metrics of both.

    yan      Yan et al., "Benchmarking the Robustness of LiDAR Semantic Segmentation Models", IJCV 2024
    robo3d   Kong et al., "Robo3D: Towards Robust and Reliable 3D Perception against Corruptions", ICCV 2023

Both call a data set "SemanticKITTI-C", and it is not the same one. Subsets and published rows are data:
`config/robustness/<family>-<data set>.yaml`. Everything here is in percent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from utils.errors import UserError
from utils.metrics import Convention
from utils.paths import REPOSITORY
from utils.yaml_file import YamlError, read_yaml

FAMILIES = ("yan", "robo3d")
CLEAN = "clean"
"""`Subset.corruption` of the uncorrupted scans."""
CLEAN_NAMES = (CLEAN, "clean_data")
"""What --subsets may call them, in either family: by `CLEAN`, or by their folder in the layout of Yan et al."""
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True)
class Subset:
    """One corruption at one severity, or the clean scans.

    Attributes:
        name: its folder ("fog_light", "fog/light"); that of the clean scans need not exist.
        corruption: "fog"; `CLEAN` for the clean scans.
        severity: "light"; "" for the clean scans.
    """

    name: str
    corruption: str
    severity: str


@dataclass(frozen=True)
class Profile:
    """The mIoU (%) of one model over a family.

    Attributes:
        name: of the model.
        clean: on the clean scans; None if not known.
        severities: corruption -> severity -> mIoU, as far as known.
        means: corruption -> mean over all its severities, where only that is known.
        published: further figures as printed beside them ("mCE", "mRR", "RmIoU", "mR"; "R" by corruption).
    """

    name: str
    clean: float | None
    severities: Mapping[str, Mapping[str, float]]
    means: Mapping[str, float]
    published: Mapping[str, Any]

    def mean(self, corruption: str, over: Collection[str], all_of_them: bool) -> float | None:
        """Mean mIoU over some severities of a corruption; None where it is not known.

        Args:
            corruption: its name.
            over: the severities.
            all_of_them: there are no others, so a published mean will do.
        """
        single = self.severities.get(corruption, {})
        if over and all(severity in single for severity in over):
            return sum(single[severity] for severity in over) / len(over)
        return self.means.get(corruption) if all_of_them else None


@dataclass(frozen=True)
class Family:
    """A family of corruptions of one data set.

    Attributes:
        name: one of `FAMILIES`.
        dataset: "SemanticKITTI" or "nuScenes".
        title: with its source, for headings.
        num_vote: views per scan in its protocol.
        votes_allowed: whether more are within its protocol.
        baseline: the published row to compare with by default.
        titles: corruption -> how it is called in tables, in their order.
        subsets: the clean scans, then all subsets in order.
        models: the published rows.
    """

    name: str
    dataset: str
    title: str
    num_vote: int
    votes_allowed: bool
    baseline: str
    titles: dict[str, str]
    subsets: tuple[Subset, ...]
    models: dict[str, Profile]

    def severities(self, corruption: str) -> tuple[str, ...]:
        """The severities of a corruption, in order."""
        return tuple(s.severity for s in self.subsets if s.corruption == corruption)

    def select(self, names: Collection[str]) -> tuple[Subset, ...]:
        """The subsets that are named, in order: by folder, or by corruption ("fog") all of its
        severities; by `CLEAN_NAMES` the clean scans.

        Raises:
            UserError: one of the names is neither.
        """
        known = {s.name for s in self.subsets} | {s.corruption for s in self.subsets} | set(CLEAN_NAMES)
        for name in names:
            if name not in known:
                corruptions = ", ".join((CLEAN, *self.titles))
                example = self.subsets[1].name
                raise UserError(
                    f"--subsets {name}: {self.title} has none of that name; give corruptions ({corruptions}) or single "
                    f"subsets such as {example}"
                )
        wanted = {CLEAN if name in CLEAN_NAMES else name for name in names}
        return tuple(s for s in self.subsets if s.name in wanted or s.corruption in wanted)


def load_family(name: str, dataset: str) -> Family:
    """A family as `config/robustness` has it.

    Raises:
        UserError: it has no such data set, or the file was damaged.
    """
    folder = REPOSITORY / "config" / "robustness"
    path = folder / f"{name}-{dataset.lower()}.yaml"
    if not path.is_file():
        others = ", ".join(other for other in FAMILIES if (folder / f"{other}-{dataset.lower()}.yaml").is_file())
        raise UserError(f"--family {name}: is not there for {dataset}; use --family {others}")
    try:
        return _family(read_yaml(path))
    except (YamlError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{path}: not a table of a family ({type(error).__name__}: {problem}); restore it") from error


def _family(content: dict[str, Any]) -> Family:
    corruptions: dict[str, dict[str, Any]] = content["corruptions"]
    subsets = [Subset(content["clean"], CLEAN, "")]
    for corruption, entry in corruptions.items():
        subsets += [Subset(entry["folder"].replace("*", s), corruption, s) for s in entry["severities"]]
    severities = {corruption: entry["severities"] for corruption, entry in corruptions.items()}
    models = {name: _profile(name, row, severities) for name, row in content["models"].items()}
    plain = {key: content[key] for key in ("title", "num_vote", "votes_allowed", "baseline", "dataset")}
    if plain["baseline"] not in models:
        raise ValueError(f"no row of the baseline {plain['baseline']}")
    titles = {corruption: entry["title"] for corruption, entry in corruptions.items()}
    return Family(name=content["family"], titles=titles, subsets=tuple(subsets), models=models, **plain)


def _profile(name: str, row: dict[str, Any], severities: dict[str, list[str]]) -> Profile:
    by_severity = {
        corruption: dict(zip(severities[corruption], map(float, figures), strict=True))
        for corruption, figures in zip(severities, row["severities"], strict=True)
    } if "severities" in row else {}  # fmt: skip
    means = dict(zip(severities, map(float, row["mIoU"]), strict=True))
    published = {key: value for key, value in row.items() if key not in ("clean", "mIoU", "severities")}
    if "R" in published:
        published["R"] = dict(zip(severities, map(float, row["R"]), strict=True))
    return Profile(name, float(row["clean"]), by_severity, means, published)


def find_model(name: str, family: Family) -> Profile | None:
    """The published row of that name, in whatever case; None if there is none."""
    return next((row for key, row in family.models.items() if key.lower() == name.strip().lower()), None)


def default_folder(data_path: Path, family: Family) -> Path:
    """Where the corrupted scans lie unless --corruption_path says otherwise.

    Yan et al.: the clean `data_path` with "sequences" replaced by "SemanticKITTI-C", as published. Robo3D: in its place
    "Robo3D/SemanticKITTI-C", since the names clash; for nuScenes "Robo3D/nuScenes-C" beside `data_path`.

    Raises:
        UserError: no folder of `data_path` is called "sequences".
    """
    if family.dataset == "nuScenes":
        return data_path.parent / "Robo3D" / "nuScenes-C"
    parts = list(data_path.parts)
    if "sequences" not in parts:
        raise UserError(
            f"{data_path}: no folder of this data_path is called sequences, so the corrupted scans cannot be found "
            "from it; give --corruption_path"
        )
    place = len(parts) - 1 - parts[::-1].index("sequences")
    parts[place : place + 1] = ["SemanticKITTI-C"] if family.name == "yan" else ["Robo3D", "SemanticKITTI-C"]
    return Path(*parts)
