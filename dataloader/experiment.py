"""The experiment that the flags of a program name, opened once for all that the program does with it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dataloader.catalogue import data_set_of, load_label_map, request
from dataloader.datasets.data_set import DataSet, Part, Request
from dataloader.datasets.source import Source
from dataloader.opening import DEBUG_ITEMS, Sources, open_sources, refuse_too_few
from utils.command.devices import Devices, choose_devices, device_notice, loader_notice, say_first
from utils.command.flags import DEFAULT_CONFIG
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.labels import LabelMap
from utils.results.run_folder import find_checkpoint, run_root


class TestedCheckpoint(Protocol):
    """A checkpoint to be tested; `network.weights.configuration.Tested` is one."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def config(self) -> Config:
        """The config to test it with."""
        ...

    @property
    def label_map(self) -> LabelMap | None:
        """The label map to test it with; None: that of the config."""
        ...


@dataclass(frozen=True)
class Experiment:
    """An experiment as the flags name it: the same for training, test and robustness test.

    Attributes:
        config: the configuration.
        data_set: the data set of `config`.
        label_map: its classes.
        devices: where to run.
        root: logs/<data set>/<log_dir>, the folder of the runs.
        checkpoint: what --checkpoint names; None: nothing.
        seed: of all that is random.
        debug: a hundred items, no workers.
        notes: lines for the user about all this.
    """

    config: Config
    data_set: DataSet
    label_map: LabelMap
    devices: Devices
    root: Path
    checkpoint: Path | None
    seed: int
    debug: bool
    notes: tuple[str, ...] = ()

    def request(self, part: Part) -> Request:
        """Asks for the scans of a part of the data set to evaluate."""
        loader = self.config.dataset_params.val_data_loader
        return request(self.config, part, loader, self.label_map, debug=self.debug)

    def open_sources(self, fit: bool, submit: bool = False, images: bool = True, labels: bool = True) -> Sources:
        """Finds the scans on disk; see `dataloader.opening.open_sources`.

        Raises:
            UserError: something is missing there, or there are fewer scans to evaluate than processes.
        """
        found = open_sources(self.config, self.label_map, fit, submit, self.debug, images, labels)
        refuse_too_few(self.evaluated(found.evaluated), self.devices.count)
        return found

    def evaluated(self, source: Source) -> int:
        """Counts the scans of `source` that are evaluated."""
        return min(len(source), DEBUG_ITEMS) if self.debug else len(source)


def open_experiment(args: argparse.Namespace, tested: TestedCheckpoint | None = None) -> Experiment:
    """Opens the experiment that the flags of `utils.command.flags.add_shared_flags` name.

    Args:
        args: the flags.
        tested: the checkpoint that is to be tested, with its config. None: a training, of the config of the flags.

    Raises:
        UserError: something of it is not there, or does not fit together.
    """
    notes: list[str] = []
    config = load_config(args.config or DEFAULT_CONFIG, args.set, notes.append) if tested is None else tested.config
    data_set = data_set_of(config)
    devices = choose_devices(args.gpu, args.cpu, args.num_nodes, args.precision, args.peer_timeout)
    notes += filter(None, [device_notice(devices, args.cpu), loader_notice(config, tested is None, args.debug)])
    label_map = load_label_map(config, None if tested is None else tested.label_map)
    root = run_root(data_set.name, args.log_dir)
    if tested is not None:
        checkpoint = tested.path
    else:
        checkpoint = find_checkpoint(args.checkpoint, root, say_first) if args.checkpoint else None
    return Experiment(config, data_set, label_map, devices, root, checkpoint, args.seed, args.debug, tuple(notes))
