"""Shows scans in the browser, with labels, predictions and camera pictures; or draws one into a PNG.

    python tools/view.py --data_path dataset/demo/sequences --sequence 08
    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --predictions logs/a/test_1 logs/b/test_1
    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --past_scans 4
    python tools/view.py --dataset nuscenes --data_path dataset/demo/nuscenes --sequence scene-0103
    python tools/view.py --data_path dataset/demo/sequences --subset fog/light --predictions logs/a/robust_test_1
    python tools/view.py --scans drive/ --predictions out/ --checkpoint best.ckpt
    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --frame 000000 --output scan.png
    python tools/view.py --config config/MinkowskiNet-demo.yaml --epoch 3

Labels and camera pictures are shown if they are on disk, predictions with `--predictions`; two of them side by side.
`--past_scans` shows the points of the scans before each one, too, by class or by age; the scores are those of the scan
alone. `--subset` shows the scans of a corrupted set; `--predictions` then takes the folder of predictions that
robust_test.py has saved. `--scans` shows files, folders and bags of your own; `--predictions` then takes the --output
of predict.py.
`--config` shows the training scans of a config as the network gets them: mixed and augmented, with the part of the
picture that belongs to them; an item depends on --seed, on --epoch and on its number. Points can be coloured by their
origin, the scan itself or another one that was mixed in.
With `--output scan.png` a scan is drawn from above, as the sensor sees it, and over the camera pictures; with
`--output scene.html` it is saved as a page that opens in a browser by itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from dataloader.catalogue import DATA_SETS
from dataloader.formats.layout import FLOAT32, Layout, parse_columns, parse_dtype
from network.weights.description import read_description
from network.weights.reading import read_outline
from tools.making.datasets import DATASETS, DEFAULT, add_dataset_flag
from tools.viewing.frames import DiskFrames
from tools.viewing.nuscenes import NuScenesFrames
from tools.viewing.scan_files import ScanFileFrames
from tools.viewing.semantickitti import SemanticKITTIFrames
from tools.viewing.training import open_training_frames
from utils.command.flags import MAX_SEED, Parser, count, override
from utils.command.process import run_command
from utils.command.terminal import say
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.run_folder import checkpoint_at
from utils.robustness.family import default_folder, load_family
from utils.scan.sensor import Sensor, sensor_called
from utils.viewer.saving import save_html
from utils.viewer.server import view

HOST, PORT = "127.0.0.1", 8080
PAGE = (".html", ".htm")
"""Suffixes of --output that ask for a page; every other one asks for a PNG."""


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add_dataset_flag(parser, "what --data_path holds", default=None)
    add(
        "--data_path", type=Path, metavar="FOLDER", help="SemanticKITTI: the folder of the sequence folders; nuScenes: "
        "the folder of samples, lidarseg and the version folders",
    )  # fmt: skip
    add(
        "--scans", nargs="+", metavar="SCAN", help="in place of a data set: files, folders, patterns and bags, as they "
        "were given to predict.py"
    )  # fmt: skip
    add(
        "--config", metavar="YAML", help="in place of a data set: training scans of this experiment, mixed and "
        "augmented as the network gets them"
    )  # fmt: skip
    add(
        "--set", type=override, nargs="+", action="extend", metavar="KEY=VALUE", help="of --config: override keys of "
        "it, such as dataset_params.train_data_loader.data_path"
    )  # fmt: skip
    add("--seed", type=count(0, MAX_SEED), help="of --config: seed of the augmentation, default 0")
    add("--epoch", type=count(0), metavar="N", help="of --config: epoch of the items, from 0, which is the default")
    add(
        "--sequence",
        metavar="NAME",
        help="SemanticKITTI: name of the folder, default 08; nuScenes: a scene, if not all",
    )
    add("--version", help="nuScenes: version of the tables, default v1.0-mini")
    add("--split", help="nuScenes: split of the version, default mini_val")
    add(
        "--frame", "--start", metavar="NAME", help="scan to draw, or to start with: its name, such as 000000; "
        "nuScenes: its number in the split or the scene, or its token; with --config: its number in the training set, "
        "or 00/000000; default: the first"
    )  # fmt: skip
    add(
        "--predictions", type=Path, nargs="+", default=[], metavar="FOLDER", help="folder that a test has written with "
        "--save_prediction or --submit_to_server, of a run of robust_test.py, or the --output of predict.py; two are "
        "shown side by side"
    )  # fmt: skip
    add(
        "--subset", metavar="NAME", help="corrupted subset, in place of a sequence or of the clean scans: fog_light "
        "(Yan et al.), fog/light (Robo3D)"
    )  # fmt: skip
    add("--corruption_path", type=Path, metavar="FOLDER", help="folder of the subsets, if not the default")
    add("--label_mapping", type=Path, metavar="YAML", help="file of the classes, if not that of --dataset")
    add("--checkpoint", metavar="NAME", help="checkpoint whose classes count, in place of --label_mapping")
    add("--columns", type=parse_columns, metavar="NAMES", help="of --scans, as in predict.py: x,y,z,i,_")
    add("--dtype", type=parse_dtype, metavar="TYPE", help="of --scans, as in predict.py: float64")
    add("--topic", metavar="NAME", help="of --scans, as in predict.py")
    add(
        "--past_scans", "--past_sweeps", type=count(0, 100), metavar="N", help="show the points of so many scans "
        "before each one, too, moved by the poses into its frame, with their age; nuScenes: of so many sweeps"
    )  # fmt: skip
    add("--frames", type=count(1, 100), metavar="N", help="scans of a page, from --frame on; default 1")
    add(
        "--output", type=Path, metavar="FILE", help="the PNG to draw, or the page (.html) to save; "
        "default: show all in the browser"
    )  # fmt: skip
    add("--host", help=f"address of this machine that the browser asks, default {HOST}: only browsers on this machine")
    add("--port", type=count(0, 65535), metavar="N", help=f"default {PORT}, or the next free one; 0 for any")
    return parser


def check_together(flags: argparse.Namespace) -> None:
    """Refuses flags that do not go together, which would have no effect.

    Raises:
        UserError: there are some; the message names both.
    """
    given = {name for name, value in vars(flags).items() if value not in (None, [])}
    if len(given & {"data_path", "scans", "config"}) != 1:
        raise UserError(
            "give --data_path, the folder of a data set, or --scans, scans of your own, or --config, for the training "
            "scans of an experiment; one of them"
        )
    for first, others in _APART.items():
        for other in others:
            if {first, other} <= given:
                raise UserError(f"--{other} has no effect beside --{first}; leave out one of them")
    if flags.dataset != "nuscenes":
        for name in ("version", "split"):
            if name in given:
                raise UserError(f"--{name} is for --dataset nuscenes; leave it out, or give that")
    if flags.frames is not None and not _is_page(flags):
        raise UserError("--frames is for a page; give --output FILE.html, too, or leave it out")
    for name, wanted in _WITH.items():
        if name in given and wanted not in given:
            raise UserError(f"--{name} has no effect without --{wanted}; leave it out, or give both")


_APART = {
    "output": ("host", "port"),
    "config": (
        *("dataset", "sequence", "version", "split", "subset", "corruption_path", "predictions", "past_scans"),
        *("label_mapping", "checkpoint", "columns", "dtype", "topic"),
    ),
    "scans": ("sequence", "version", "split", "subset", "corruption_path", "past_scans"),
    "subset": ("past_scans",),
    "checkpoint": ("label_mapping",),
}
"""Flag -> those that have no effect beside it."""
_WITH = {
    "set": "config",
    "seed": "config",
    "epoch": "config",
    "corruption_path": "subset",
    "columns": "scans",
    "topic": "scans",
    "dtype": "columns",
}
"""Flag -> the one that it needs."""


def load_classes(flags: argparse.Namespace) -> tuple[LabelMap, Sensor]:
    """Loads the classes that the flags name, and the sensor of the training.

    Raises:
        UserError: the file is missing or damaged, or the checkpoint does not hold its classes.
    """
    if flags.checkpoint is None:
        data_set = DATA_SETS[DATASETS[flags.dataset or DEFAULT]]
        return LabelMap.load(flags.label_mapping or data_set.label_mapping_path), data_set.sensor
    path = checkpoint_at(flags.checkpoint, say)
    description = read_description(read_outline(path), path)
    if description is None:
        raise UserError(
            f"{path}: does not hold its classes, as published checkpoints and those of earlier versions do "
            "not; give --label_mapping in its place"
        )
    return description.label_map, sensor_called(description.config.dataset_params.pc_dataset_type)


def open_frames(flags: argparse.Namespace) -> DiskFrames:
    """Opens the scans that the flags name.

    Raises:
        UserError: there are none, or no predictions of them.
    """
    if flags.config is not None:
        return open_training_frames(load_config(flags.config, flags.set or ()), flags.seed or 0, flags.epoch or 0)
    label_map, sensor = load_classes(flags)
    if flags.scans is not None:
        layout = Layout(flags.columns, flags.dtype or FLOAT32, flags.topic)
        return ScanFileFrames(flags.scans, layout, sensor, label_map, flags.predictions)
    root = None if flags.subset is None else subset_root(flags)
    past = flags.past_scans or 0
    if flags.dataset == "nuscenes":
        subset = None if root is None else (root, flags.subset)
        tables = flags.version or "v1.0-mini", flags.split or "mini_val"
        return NuScenesFrames(flags.data_path, *tables, label_map, flags.predictions, flags.sequence, subset, past)
    if root is None:
        sequence = flags.sequence or "08"
        return SemanticKITTIFrames(flags.data_path, sequence, label_map, flags.predictions, past_scans=past)
    return SemanticKITTIFrames(root, flags.subset, label_map, flags.predictions, is_subset=True)


def subset_root(flags: argparse.Namespace) -> Path:
    """Finds the folder of the corrupted subsets, where make_corruptions.py puts and robust_test.py looks for them.

    Raises:
        UserError: it cannot be found from --data_path.
    """
    if flags.corruption_path is not None:
        return flags.corruption_path
    family = "robo3d" if "/" in flags.subset or flags.dataset == "nuscenes" else "yan"
    return default_folder(flags.data_path, load_family(family, DATASETS[flags.dataset or DEFAULT]))


def run(flags: argparse.Namespace) -> None:
    """Shows, draws or saves what the flags name."""
    check_together(flags)
    frames = open_frames(flags)
    start = 0 if flags.frame is None else frames.find(flags.frame)
    if flags.output is None or _is_page(flags):  # a picture is not drawn if something is missing
        for line in frames.notes():
            say(line)
    if flags.output is None:
        view(frames, flags.host or HOST, PORT if flags.port is None else flags.port, start)
        return
    if _is_page(flags):
        save_html(frames, range(start, len(frames))[: flags.frames or 1], flags.output)
    else:
        frames.require(start)
        from tools.viewing.scan import draw  # here: it imports matplotlib, which the viewer does not need

        draw(frames.read(start), frames, flags.output)
    print(f"wrote {flags.output}")


def _is_page(flags: argparse.Namespace) -> bool:
    return flags.output is not None and flags.output.suffix.lower() in PAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_command(lambda: run(flags))


if __name__ == "__main__":
    sys.exit(main())
