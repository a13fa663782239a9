"""Families of corrupted validation sets: how each is tested, and what is published on it.

Both families of `utils.corruptions` call a data set "SemanticKITTI-C", and it is not the same one. Protocol, titles and
published rows are data: `config/robustness/<family>-<data set>.yaml`. Everything here is in percent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from utils.corruptions import CLEAN, CLEAN_NAMES, SUBSETS, TITLES, Subset, families_of, table_of
from utils.errors import UserError
from utils.metrics import Convention
from utils.yaml_file import YamlError, read_yaml

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True)
class Protocol:
    """The protocol by which a family is tested.

    Attributes:
        num_vote: views per scan.
        votes_allowed: whether more are within its protocol.
    """

    num_vote: int
    votes_allowed: bool


PROTOCOLS = {
    "yan": Protocol(num_vote=12, votes_allowed=True),  # as the published script has it
    "robo3d": Protocol(num_vote=1, votes_allowed=False),  # "no test-time augmentation"
}


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
        """Computes the mean mIoU over some severities of a corruption; None where it is not known.

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
        name: one of `utils.corruptions.FAMILIES`.
        dataset: the data set that was corrupted, as `pc_dataset_type` calls it.
        title: with its source, for headings.
        baseline: the published row to compare with by default.
        folder: of the subsets, as they are usually unpacked: below the parent of `in_place_of`, or of data_path.
        in_place_of: the folder of data_path that `folder` takes the place of; None: it lies beside data_path.
        titles: corruption -> how it is called in tables, in their order.
        subsets: the clean scans, then all subsets in order.
        models: the published rows.
    """

    name: str
    dataset: str
    title: str
    baseline: str
    folder: str
    in_place_of: str | None
    titles: dict[str, str]
    subsets: tuple[Subset, ...]
    models: dict[str, Profile]

    @property
    def protocol(self) -> Protocol:
        """The protocol by which the family is tested."""
        return PROTOCOLS[self.name]

    @property
    def has_clean_folder(self) -> bool:
        """True if the clean scans lie in a folder beside the subsets; otherwise they are the validation split."""
        return self.subsets[0].name != CLEAN

    def severities(self, corruption: str) -> tuple[str, ...]:
        """Lists the severities of a corruption, in order."""
        return tuple(s.severity for s in self.subsets if s.corruption == corruption)

    def select(self, names: Collection[str]) -> tuple[Subset, ...]:
        """Selects the subsets that are named, in order: by folder, or by corruption ("fog") all of its
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
    """Loads a family as `config/robustness` has it.

    Raises:
        UserError: it has no such data set, or the file was damaged.
    """
    path = table_of(name, dataset)
    if not path.is_file():
        others = ", ".join(families_of(dataset))
        hint = f"use --family {others}" if others else "no family has corrupted this data set"
        raise UserError(f"--family {name}: is not there for {dataset}; {hint}")
    try:
        return _family(read_yaml(path))
    except (YamlError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{path}: not a table of a family ({type(error).__name__}: {problem}); restore it") from error


def _family(content: dict[str, Any]) -> Family:
    name, titles = content["family"], TITLES[content["family"]]
    if content["corruptions"] != list(titles):
        raise ValueError(f"corruptions must be {', '.join(titles)}")
    family = Family(
        name=name,
        titles=titles,
        subsets=SUBSETS[name],
        models={},
        in_place_of=content.get("in_place_of"),
        **{key: content[key] for key in ("title", "baseline", "dataset", "folder")},
    )
    severities = {corruption: family.severities(corruption) for corruption in titles}
    models = {model: _profile(model, row, severities) for model, row in content["models"].items()}
    if family.baseline not in models:
        raise ValueError(f"no row of the baseline {family.baseline}")
    return replace(family, models=models)


def _profile(name: str, row: dict[str, Any], severities: Mapping[str, tuple[str, ...]]) -> Profile:
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
    """Finds the published row of that name, in whatever case; None if there is none."""
    return next((row for key, row in family.models.items() if key.lower() == name.strip().lower()), None)


def default_folder(data_path: Path, family: Family) -> Path:
    """Finds where the corrupted scans lie unless --corruption_path says otherwise.

    Yan et al.: the clean `data_path` with "sequences" replaced by "SemanticKITTI-C", as published. Robo3D: in its place
    "Robo3D/SemanticKITTI-C", since the names clash; for nuScenes "Robo3D/nuScenes-C" beside `data_path`.

    Raises:
        UserError: no folder of `data_path` is called "sequences".
    """
    if family.in_place_of is None:
        return data_path.parent / family.folder
    parts = list(data_path.parts)
    if family.in_place_of not in parts:
        raise UserError(
            f"{data_path}: no folder of this data_path is called {family.in_place_of}, so the corrupted scans cannot "
            "be found from it; give --corruption_path"
        )
    place = len(parts) - 1 - parts[::-1].index(family.in_place_of)
    return Path(*parts[:place], family.folder, *parts[place + 1 :])
