"""The test of main.py, once per corruption: `python robust_test.py --checkpoint <path> --num_vote 12 --gpu 0`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before what takes seconds to import
    from utils.command.start import begin

    begin()

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from dataloader.datamodule import DEBUG_ITEMS, DataModule
from dataloader.datasets.catalogue import (
    lidar_of,
    load_label_map,
    open_corrupted,
    open_source,
    prediction_format,
    skips_unseen,
)
from dataloader.datasets.corrupted import CorruptedKITTI, CorruptedNuScenes, Origin, SubsetFormat
from dataloader.datasets.source import Source
from network.assemble import load_for_test
from network.models.segmentation_network import SegmentationNetwork
from network.training.task import SegmentationTask
from network.training.trainer import build_trainer
from network.weights.configuration import open_for_test
from network.weights.loading import has_image_branch
from utils.command.devices import Devices, choose_devices, device_notice, loader_notice
from utils.command.flags import Parser, add_shared_flags, count
from utils.command.process import run_program
from utils.command.terminal import say
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import sha256_of
from utils.labels import LabelMap
from utils.metrics import ScoreCard
from utils.paths import expand_home
from utils.results.evaluation import EvaluationOutput
from utils.results.predictions import PredictionFormat
from utils.robustness.family import CLEAN, CONVENTIONS, FAMILIES, Family, Profile, Subset, default_folder, load_family
from utils.robustness.report import Conditions, RobustReport
from utils.robustness.results import SubsetResult
from utils.robustness.run import RobustRun, beginning, find_baseline, find_run, start_run

say = rank_zero_only(say)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of the README."""
    parser = Parser(description="2DPASS: how much of the mIoU corrupted scans leave")
    add_shared_flags(parser)
    parser.add_argument(
        "--family", choices=FAMILIES, default="yan", help="whose corruptions: Yan et al. (IJCV 2024) or Robo3D (2023)"
    )
    parser.add_argument(
        "--corruption_path",
        metavar="FOLDER",
        help="the corrupted scans; default: the data_path of val_data_loader with `sequences` replaced by "
        "SemanticKITTI-C (yan) or Robo3D/SemanticKITTI-C, or for nuScenes Robo3D/nuScenes-C beside it",
    )
    parser.add_argument(
        "--subsets", nargs="+", metavar="NAME", help="only these: corruptions (fog) or subsets (fog_light)"
    )
    parser.add_argument("--allow_missing", action="store_true", help="go on without the subsets that are not there")
    parser.add_argument(
        "--num_vote",
        type=count(1, 1000),
        metavar="N",
        help="views per scan; default: 12 (yan), 1 (robo3d)",
    )
    parser.add_argument(
        "--convention", choices=CONVENTIONS, default="official", help="which reading of the mIoU the report is about"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="what to compare with: a published row, a summary.csv of ours, or `none`"
    )
    parser.add_argument("--save_prediction", action="store_true", help="keep the predicted label files")
    parser.add_argument(
        "--output", metavar="FOLDER", help="where robust_test_<date> goes; default: beside the checkpoint"
    )
    parser.add_argument("--restart", action="store_true", help="a new folder, even if there is one to go on with")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Experiment:
    """What is tested, and how.

    Attributes:
        config, label_map, checkpoint: the model.
        family, root: the corruptions, and where they lie.
        origin: the note of the tool that made them, if one did.
        num_vote: views per scan.
    """

    config: Config
    label_map: LabelMap
    checkpoint: Path
    family: Family
    root: Path
    origin: Origin | None
    num_vote: int


def main(argv: Sequence[str]) -> None:
    args = parse_arguments(argv)
    experiment = prepare(args)
    devices = choose_devices(args.gpu, args.cpu, args.num_nodes, args.precision)
    say(device_notice(devices, args.cpu))
    if (notice := loader_notice(experiment.config, fit=False, debug=args.debug)) is not None:
        say(notice)
    family, root = experiment.family, experiment.root
    options = None if experiment.origin is None else experiment.origin.options
    baseline, remarks = find_baseline(args.baseline, family, args.convention, experiment.num_vote, root, options)
    wanted = family.select(args.subsets) if args.subsets else family.subsets
    sources = open_subsets(experiment, wanted, args.allow_missing, args.debug)
    pl.seed_everything(args.seed, workers=True, verbose=False)
    scans = {subset: min(len(source), DEBUG_ITEMS if args.debug else len(source)) for subset, source in sources.items()}
    parent, settings = _place(args, experiment)
    found = None if args.restart else find_run(parent, settings, family)
    todo = list(scans) if found is None else found.lacking(scans)
    if not todo:
        assert found is not None
        say(f"all {len(sources)} subsets are finished in {found.folder}; --restart tests them anew")
        _report(args, experiment, found, baseline, remarks)
        return
    # Before there is a folder: a checkpoint of another network leaves none.
    network, content = load_for_test(experiment.config, experiment.checkpoint)
    run = _open_run(parent, settings, family, args.restart)
    with run.claim(scans) as todo:
        evaluate(args, experiment, devices, network, content, sources, todo, run)
    _report(args, experiment, run, baseline, remarks)


def prepare(args: argparse.Namespace) -> Experiment:
    """What the flags name.

    Raises:
        UserError: something of it is not there, or does not fit together.
    """
    if not args.checkpoint:
        raise UserError("robust_test.py needs --checkpoint: a path, or `best` or `last` of --log_dir")
    # Whether votes are within a protocol does not depend on the data set, which the checkpoint may have to say.
    if (args.num_vote or 1) > 1 and not load_family(args.family, "SemanticKITTI").votes_allowed:
        raise UserError(
            f"--num_vote {args.num_vote}: Robo3D's protocol allows no test-time augmentation; leave out --num_vote, or "
            "give 1"
        )
    tested = open_for_test(args.checkpoint, args.log_dir, args.config, args.set, say)
    config, checkpoint = tested.config, tested.path
    data = config.dataset_params
    family = load_family(args.family, data.pc_dataset_type)
    if args.corruption_path:
        root = expand_home(args.corruption_path)
    else:
        root = default_folder(expand_home(data.val_data_loader.data_path, key="data_path"), family)
    origin = Origin.read(root)
    if origin is not None:
        for key, expected in (("family", family.name), ("dataset", family.dataset)):
            if origin.options.get(key, expected) != expected:
                raise UserError(
                    f"{root}: was made with {key} {origin.options[key]}, this is a test of {expected}; correct "
                    "--family, --config or --corruption_path"
                )
    return Experiment(
        config,
        load_label_map(config, tested.label_map),
        checkpoint,
        family,
        root,
        origin,
        args.num_vote or family.num_vote,
    )


def open_subsets(
    experiment: Experiment, wanted: Sequence[Subset], allow_missing: bool, debug: bool
) -> dict[Subset, Source]:
    """The scans of the wanted subsets, in order.

    Raises:
        UserError: subsets are missing and may not, all are, or one lacks labels or some of its scans.
    """
    config, label_map, root, origin = experiment.config, experiment.label_map, experiment.root, experiment.origin
    clean: Source | None = None
    own_clean = experiment.family.name == "robo3d"  # it is the validation split, not a folder beside the subsets
    if own_clean and (experiment.family.dataset == "nuScenes" or any(s.corruption == CLEAN for s in wanted)):
        clean = open_source(config, "valid", config.dataset_params.val_data_loader, label_map, debug=debug)
    sources: dict[Subset, Source] = {}
    missing = []
    for subset in wanted:
        if own_clean and subset.corruption == CLEAN:
            assert clean is not None
            sources[subset] = clean
        elif origin is not None and subset.name not in origin.finished:
            missing.append(subset)
        else:
            source = open_corrupted(config, root / subset.name, subset.name, label_map, clean, debug)
            made = 0 if origin is None else origin.finished[subset.name]
            # Of nuScenes the smaller tables may be tested on what the larger ones were made into.
            if isinstance(source, CorruptedKITTI) and 0 < len(source) < made:
                raise UserError(
                    f"{root / subset.name}: {len(source)} of its {made} scans are there; make them again with the same "
                    "tools/make_corruptions.py command, which leaves the others as they are"
                )
            sources |= {subset: source} if len(source) else {}
            missing += [] if len(source) else [subset]
    if missing:
        names = ", ".join(subset.name for subset in missing)
        if not allow_missing or all(own_clean and s.corruption == CLEAN for s in sources):
            raise UserError(
                f"{root}: {len(missing)} of {len(wanted)} subsets are missing: {names}; make them with "
                "tools/make_corruptions.py, correct --corruption_path, or leave them out with --allow_missing"
            )
        say(f"missing and left out: {names}")
    return sources


def evaluate(
    args: argparse.Namespace,
    experiment: Experiment,
    devices: Devices,
    network: SegmentationNetwork,
    content: Mapping[str, Any],
    sources: Mapping[Subset, Source],
    todo: Sequence[Subset],
    run: RobustRun,
) -> None:
    """Test the subsets of `todo`; each result is kept as soon as it is there."""
    done = len(sources) - len(todo)
    going_on = f"; {done} of {len(sources)} subsets are finished there" if done else ""
    say(f"testing {experiment.checkpoint}, {experiment.num_vote} vote(s) each; results in {run.folder}{going_on}")
    config, label_map = experiment.config, experiment.label_map
    clean_format = prediction_format(
        config, "valid", label_map, has_image_branch(content, experiment.checkpoint), args.debug
    )
    trainer = build_trainer(devices)
    for number, (subset, source) in enumerate(sources.items(), start=1):
        if subset not in todo:
            continue
        data = DataModule(
            config, label_map, fit=False, num_vote=experiment.num_vote, seed=args.seed, debug=args.debug, images=False,
            num_devices=devices.count, source=source,
        )  # fmt: skip
        say(f"[{number} of {len(sources)}] {subset.name}: {len(data.evaluation_set)} scans")
        output = _SubsetOutput(
            run.folder / "subsets" / subset.name,
            label_map,
            data.expected_frames,
            _format_of(source, clean_format),
            lidar_of(config),
            save_predictions=args.save_prediction,
            settings={"checkpoint": str(experiment.checkpoint), "num_vote": experiment.num_vote, "subset": subset.name},
        )
        task = SegmentationTask(
            network, config.train_params, label_map.names, output=output, skip_unseen=skips_unseen(config)
        )
        trainer.test(task, datamodule=data, verbose=False)
        assert task.scores is not None
        if task.scores.points == 0:
            raise UserError(f"{experiment.root / subset.name}: no point has a label that counts; make the subset again")
        result = SubsetResult.of(subset, len(data.evaluation_set), task.scores)
        if trainer.is_global_zero:
            run.add(result, args.convention)
        miou, accuracy = result.miou[args.convention], result.accuracy[args.convention]
        say(f"[{number} of {len(sources)}] {subset.name}: mIoU {miou:.2f} %, accuracy {accuracy:.2f} %")


class _SubsetOutput(EvaluationOutput):
    """Of one subset among others: in a folder with them, and silent at its end, since the report speaks for all."""

    def make_folder(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def finish(self, scores: ScoreCard | None) -> list[str]:
        super().finish(scores)
        return []


def _format_of(source: Source, clean_format: PredictionFormat) -> PredictionFormat:
    if isinstance(source, (CorruptedKITTI, CorruptedNuScenes)):
        return SubsetFormat(source.files)
    return clean_format


def _place(args: argparse.Namespace, experiment: Experiment) -> tuple[Path, dict[str, Any]]:
    """Where the folder of the run is, or will be, and what decides its figures."""
    parent = expand_home(args.output) if args.output else experiment.checkpoint.parent
    settings = {
        "format": 1,
        "family": experiment.family.name,
        "dataset": experiment.family.dataset,
        "checkpoint_sha256": sha256_of(experiment.checkpoint),
        "config": experiment.config.model_dump(mode="json"),
        "num_vote": experiment.num_vote,
        "corruption_path": str(experiment.root.resolve()),
        "corruption_options": None if experiment.origin is None else experiment.origin.options,
        "seed": args.seed,
        "precision": args.precision,
        "debug": args.debug,
        "save_prediction": args.save_prediction,
    }
    return parent, settings


def _open_run(parent: Path, settings: Mapping[str, Any], family: Family, restart: bool) -> RobustRun:
    """The run to go on with, or a new one."""
    if rank_zero_only.rank != 0:
        # The first process makes the folder, and tells its name when the first test begins. It has begun to test by
        # now, so what it lacks is what it lacked then.
        found = None if restart else find_run(parent, settings, family)
        return RobustRun(parent / "of the first process", family, () if found is None else found.results)
    with beginning(parent):
        found = None if restart else find_run(parent, settings, family)
        return start_run(parent, settings, family) if found is None else found


@rank_zero_only
def _report(
    args: argparse.Namespace, experiment: Experiment, run: RobustRun, baseline: Profile | None, remarks: list[str]
) -> None:
    """Write the tables and the picture, and say the figures."""
    run.write(args.convention)
    # Of the given config only: what the checkpoint was trained with is not looked up.
    corrupted = experiment.config.dataset_params.corruption_aug
    conditions = Conditions(
        str(experiment.checkpoint),
        args.config or "that of the checkpoint",
        experiment.config.model_params.model_architecture,
        str(experiment.root),
        None if experiment.origin is None else experiment.origin.options,
        experiment.num_vote,
        args.precision,
        args.seed,
        args.debug,
        () if corrupted is None else corrupted.corruptions,
    )
    report = RobustReport(experiment.family, run.results, args.convention, baseline, conditions, remarks)
    for line in [*report.write(run.folder), f"scores and pictures of each subset: {run.folder / 'subsets'}"]:
        say(line)


if __name__ == "__main__":
    sys.exit(
        run_program(
            lambda: main(sys.argv[1:]),
            resume="the same command (without --restart) goes on after the last finished subset",
        )
    )
