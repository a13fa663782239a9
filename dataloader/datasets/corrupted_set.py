"""A corrupted validation set on disk: where it lies, who made it, and the scans of its subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dataloader.datasets.corrupted import Origin, SubsetFormat
from dataloader.datasets.data_set import CorruptedSource, DataSet, Request
from dataloader.datasets.past_sweeps import refuse_lone_scans
from dataloader.datasets.source import Source
from utils.corruptions import CLEAN, Subset
from utils.errors import UserError
from utils.paths import expand_home
from utils.results.predictions import PredictionFormat
from utils.robustness.family import Family, default_folder


@dataclass(frozen=True)
class CorruptedSet:
    """The subsets of a family in a folder.

    Attributes:
        family: the corruptions.
        data_set: the data set that was corrupted.
        clean: the request for the clean validation split.
        root: the folder of the subsets.
        origin: the note of the tool that made them, if one did.
    """

    family: Family
    data_set: DataSet
    clean: Request
    root: Path
    origin: Origin | None

    @staticmethod
    def find(family: Family, data_set: DataSet, clean: Request, folder: str | None) -> CorruptedSet:
        """Finds the set that `folder` names, or that lies where the family's usually do.

        Raises:
            UserError: there is no usual place, or what lies there was made of something else.
        """
        root = expand_home(folder) if folder else default_folder(clean.path, family)
        origin = Origin.read(root)
        if origin is not None:
            for key, expected in (("family", family.name), ("dataset", family.dataset)):
                if origin.options.get(key, expected) != expected:
                    raise UserError(
                        f"{root}: was made with {key} {origin.options[key]}, this is a test of {expected}; correct "
                        "--family, --config or --corruption_path"
                    )
        return CorruptedSet(family, data_set, clean, root, origin)

    @property
    def made_with(self) -> dict[str, Any] | None:
        """The options of the tool that made the set; None: it did not."""
        return None if self.origin is None else self.origin.options

    def open(self, wanted: Sequence[Subset]) -> tuple[dict[Subset, Source], list[Subset]]:
        """Opens the scans of the wanted subsets, in order.

        Returns:
            The scans of those that are there, and those that are missing.

        Raises:
            UserError: the scans of one lack labels, or some of them are missing, or past sweeps are wanted of scans
                that are known one by one.
        """

        @cache
        def clean() -> Source:
            return self.data_set.open(self.clean)

        there: dict[Subset, Source] = {}
        missing = []
        for subset in wanted:
            source = clean() if self._is_validation_split(subset) else self._open_folder(subset, clean)
            if source is None or not len(source):
                missing.append(subset)
            else:
                refuse_lone_scans(self.clean.params, source)
                there[subset] = source
        return there, missing

    def refuse_missing(self, there: Sequence[Subset], missing: Sequence[Subset], allowed: bool) -> None:
        """Raises UserError unless every subset is there, or the missing ones may be left out and some are not."""
        if missing and (not allowed or all(map(self._is_validation_split, there))):
            raise UserError(
                f"{self.root}: {len(missing)} of {len(missing) + len(there)} subsets are missing: {names_of(missing)}; "
                "make them with tools/make_corruptions.py, correct --corruption_path, or leave them out with "
                "--allow_missing"
            )

    def prediction_format(self, source: Source, uses_camera: bool) -> PredictionFormat:
        """Chooses how predictions on the scans of a subset are filed: as its labels are, or as the benchmark wants."""
        if isinstance(source, CorruptedSource):
            return SubsetFormat(source.files)
        return self.data_set.prediction_format(self.clean, uses_camera)

    def _is_validation_split(self, subset: Subset) -> bool:
        return subset.corruption == CLEAN and not self.family.has_clean_folder

    def _open_folder(self, subset: Subset, clean: Callable[[], Source]) -> CorruptedSource | None:
        """Opens the folder of a subset; None if the note of the tool says that the subset is not finished."""
        if self.origin is not None and subset.name not in self.origin.finished:
            return None
        assert self.data_set.open_corrupted is not None  # since a family has corrupted it
        source = self.data_set.open_corrupted(self.clean, self.root / subset.name, subset.name, clean)
        made = 0 if self.origin is None else self.origin.finished[subset.name]
        if source.takes_all and 0 < len(source) < made:
            raise UserError(
                f"{self.root / subset.name}: {len(source)} of its {made} scans are there; make them again with the "
                "same tools/make_corruptions.py command, which leaves the others as they are"
            )
        return source


def names_of(subsets: Sequence[Subset]) -> str:
    """Writes the names of subsets in a line."""
    return ", ".join(subset.name for subset in subsets)
