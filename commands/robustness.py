"""The test of a checkpoint on corrupted scans, subset by subset, and its report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from commands.testing import metrics_of, on_all
from dataloader.datamodule import DataModule
from dataloader.datasets.corrupted_set import CorruptedSet
from dataloader.datasets.source import Source
from dataloader.experiment import Experiment
from network.assemble import load_for_test
from network.models.segmentation_network import SegmentationNetwork
from network.testing import Place, test_network
from network.weights.configuration import Tested
from network.weights.loading import has_image_branch
from utils.command.devices import is_first_process, say_first
from utils.corruptions import Subset
from utils.errors import UserError
from utils.paths import expand_home
from utils.results.published import is_shared
from utils.robustness.conditions import Conditions
from utils.robustness.output import SubsetOutput
from utils.robustness.report import RobustReport
from utils.robustness.results import SubsetResult
from utils.robustness.run import RobustRun, find_run, open_run


def test_subsets(
    args: argparse.Namespace,
    experiment: Experiment,
    tested: Tested,
    corrupted: CorruptedSet,
    sources: Mapping[Subset, Source],
    conditions: Conditions,
) -> RobustRun:
    """Tests the subsets that are not finished, in a new run or in one that can be continued."""
    torch.manual_seed(args.seed)
    scans = {subset: experiment.evaluated(source) for subset, source in sources.items()}
    beside = experiment.root if is_shared(args.checkpoint, tested.path) else tested.path.parent
    parent = expand_home(args.output) if args.output else beside
    settings = conditions.settings(corrupted.family, experiment.config, args.save_prediction)
    run = None if args.restart else find_run(parent, settings, corrupted.family)
    if run is not None and not run.lacking(scans):
        say_first(f"all {len(sources)} subsets are finished in {run.folder}; --restart tests them again")
        return run
    # Before there is a folder: a checkpoint of another network leaves none.
    network, content = load_for_test(tested.config, tested.path, tested.content)
    run = open_run(parent, settings, corrupted.family, args.restart, first=is_first_process())
    with run.claim(scans) as todo:
        _evaluate(args, experiment, corrupted, network, content, sources, todo, run, conditions)
    return run


def write_report(run: RobustRun, report: RobustReport) -> None:
    """Writes the tables and the picture in the first process, and says the figures."""
    if not is_first_process():
        return
    run.write(report.convention)
    for line in [*report.write(run.folder), f"scores and pictures of each subset: {run.folder / 'subsets'}"]:
        say_first(line)


def _evaluate(
    args: argparse.Namespace,
    experiment: Experiment,
    corrupted: CorruptedSet,
    network: SegmentationNetwork,
    content: Mapping[str, Any],
    sources: Mapping[Subset, Source],
    todo: Sequence[Subset],
    run: RobustRun,
    conditions: Conditions,
) -> None:
    """Tests the subsets of `todo`; each result is kept as soon as it is there."""
    checkpoint, num_vote, done = experiment.checkpoint, args.num_vote, len(sources) - len(todo)
    going_on = f"; {done} of {len(sources)} subsets are finished there" if done else ""
    say_first(f"testing {checkpoint}, {num_vote} vote(s) each; results in {run.folder}{going_on}")
    assert checkpoint is not None
    uses_camera = has_image_branch(content, checkpoint)

    def share(place: Place) -> None:
        place.prepare(network)
        for number, (subset, source) in enumerate(sources.items(), start=1):
            if subset not in todo:
                continue
            data = DataModule.of(experiment, num_vote=num_vote, images=False, source=source)
            say_first(f"[{number} of {len(sources)}] {subset.name}: {len(data.evaluation_set)} scans")
            measured = conditions.of_scores(len(data.evaluation_set), subset.name)
            output = SubsetOutput(
                run.folder / "subsets" / subset.name,
                experiment.label_map,
                data.expected_frames,
                corrupted.prediction_format(source, uses_camera),
                experiment.data_set.sensor,
                measured,
                save_predictions=args.save_prediction,
            )
            batches = data.val_dataloader(place.rank, place.world_size, place.device.type == "cuda")
            found = test_network(network, batches, partial(metrics_of, experiment), output, place)
            if found.voted.points == 0:
                raise UserError(
                    f"{corrupted.root / subset.name}: no point has a label that counts; make the subset again"
                )
            result = SubsetResult.of(subset, measured, found.voted, found.one_view)
            if place.rank == 0:
                run.add(result, args.convention)
            miou, accuracy = result.miou[args.convention], result.accuracy[args.convention]
            single = "" if result.one_view is None else f" (with one view {result.one_view[args.convention]:.2f} %)"
            figures = f"mIoU {miou:.2f} %{single}, accuracy {accuracy:.2f} %"
            say_first(f"[{number} of {len(sources)}] {subset.name}: {figures}")

    on_all(experiment.devices, share)
