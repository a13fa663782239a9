"""A test: a checkpoint on the scans of an experiment, over one view or many, in one process or several."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch

from commands.data import open_data, with_past
from dataloader.experiment import Experiment
from dataloader.opening import Sources
from network.assemble import load_for_test
from network.testing import Place, test_network
from network.weights.configuration import Tested
from network.weights.loading import has_image_branch
from utils.command.devices import Devices, say_first
from utils.point_counts import SegmentationMetrics
from utils.results.conditions import Conditions
from utils.results.evaluation import EvaluationOutput
from utils.results.run_folder import test_folder


def test(args: argparse.Namespace, experiment: Experiment, tested: Tested, sources: Sources) -> None:
    """Evaluates a checkpoint; writes scores, pictures and, if asked for, a submission."""
    config, checkpoint, data_set = experiment.config, tested.path, experiment.data_set
    torch.manual_seed(args.seed)
    data = open_data(experiment, num_vote=args.num_vote, images=False, sources=sources)
    network, content = load_for_test(config, checkpoint, tested.content)
    split = "test" if args.submit_to_server else "validation"
    if args.submit_to_server and (absent := data.evaluation_set.source.absent):
        names = " ".join(absent[:11]) + (f" and {len(absent) - 11} more" if len(absent) > 11 else "")
        say_first(f"note: of the test split {names} are not on disk; the server takes complete submissions only")
    scans = f"{len(data.evaluation_set)} scans of the {split} split{with_past(config)}"
    say_first(f"testing {checkpoint} on {scans}, {args.num_vote} vote(s) each")
    number = len(data.evaluation_set)
    trained_on, digest = tested.trained_on(experiment.label_map), tested.sha256
    conditions = Conditions(split, number, args.num_vote, str(checkpoint), trained_on, checkpoint_sha256=digest)
    key = config.dataset_params.past_key
    past = {key: config.dataset_params.past} if config.model_params.input_dims > 4 else {}
    evaluated = experiment.request("test" if args.submit_to_server else "valid")
    output = EvaluationOutput(
        test_folder(experiment.root),
        experiment.label_map,
        data.expected_frames,
        data_set.prediction_format(evaluated, has_image_branch(content, checkpoint)),
        data_set.sensor,
        conditions,
        args.submit_to_server,
        args.save_prediction,
        settings=past,
    )

    def share(place: Place) -> None:
        place.prepare(network)
        batches = data.val_dataloader(place.rank, place.world_size, place.device.type == "cuda")
        test_network(network, batches, partial(metrics_of, experiment), output, place)

    on_all(experiment.devices, share)


def metrics_of(experiment: Experiment) -> SegmentationMetrics:
    """Makes the counter of the scores of an experiment."""
    label_map = experiment.label_map
    return SegmentationMetrics(label_map.names, experiment.data_set.skips_unseen, label_map.moving)


def on_all(devices: Devices, work: Callable[[Place], object]) -> None:
    """Runs the share of each process."""
    if devices.count == 1:
        device = torch.device("cuda", devices.ids[0]) if devices.accelerator == "gpu" else torch.device("cpu")
        work(Place(device, precision=devices.precision))
        return
    from network.training.sharing import share_out  # here: Lightning, which starts processes, takes seconds to import

    share_out(devices, lambda device, rank, world_size: work(Place(device, rank, world_size, devices.precision)))
