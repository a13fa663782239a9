"""The conditions of a robustness test: what decides its figures, and what its report says of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.config.schema import Config
from utils.files import sha256_of
from utils.results import conditions
from utils.results.conditions import TrainedOn
from utils.robustness.family import Family


@dataclass(frozen=True)
class Conditions:
    """The conditions of one robustness test.

    Attributes:
        checkpoint, config, model: paths, and the architecture.
        root: folder of the corrupted scans.
        made_with: options of tools/make_corruptions.py that made them; None: it did not.
        num_vote: views per scan.
        precision, seed, debug: as the flags.
        trained_on: corruptions that the config trains on (`corruption_aug`). Where the config is given, what the
            checkpoint was trained with is not looked up.
        training: what the checkpoint says that it was trained on; None: it does not say.
    """

    checkpoint: str
    config: str
    model: str
    root: str
    made_with: Mapping[str, Any] | None
    num_vote: int
    precision: str
    seed: int
    debug: bool
    trained_on: tuple[str, ...] = ()
    training: TrainedOn | None = None

    @staticmethod
    def of(
        args: argparse.Namespace,
        config: Config,
        checkpoint: Path,
        root: Path,
        made_with: Mapping[str, Any] | None,
        training: TrainedOn | None,
    ) -> Conditions:
        """Gathers them from the flags of robust_test.py and what was opened for these.

        Args:
            args: the flags, --num_vote filled in.
            config, checkpoint: of the model.
            root, made_with, training: see above.
        """
        augmentation = config.dataset_params.corruption_aug
        return Conditions(
            str(checkpoint),
            args.config or "that of the checkpoint",
            config.model_params.model_architecture,
            str(root),
            made_with,
            args.num_vote,
            args.precision,
            args.seed,
            args.debug,
            () if augmentation is None else augmentation.corruptions,
            training,
        )

    def of_scores(self, scans: int, subset: str = "") -> conditions.Conditions:
        """Returns the conditions of the scores of a subset of so many scans."""
        return conditions.Conditions("validation", scans, self.num_vote, self.checkpoint, self.training, subset)

    def settings(self, family: Family, config: Config, save_prediction: bool) -> dict[str, Any]:
        """Lists what decides the figures and the files of a run: another with the same goes on from where it ended.

        Args:
            family: the corruptions.
            config: that of the model.
            save_prediction: the predictions are kept.
        """
        return {
            "format": 1,
            "family": family.name,
            "dataset": family.dataset,
            "checkpoint_sha256": sha256_of(Path(self.checkpoint)),
            "config": config.model_dump(mode="json"),
            "num_vote": self.num_vote,
            "corruption_path": str(Path(self.root).resolve()),
            "corruption_options": self.made_with,
            "seed": self.seed,
            "precision": self.precision,
            "debug": self.debug,
            "save_prediction": save_prediction,
        }
