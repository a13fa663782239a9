"""Shows scans in the browser, with labels, predictions and camera pictures; or draws one into a PNG.

    python tools/view.py --data_path dataset/demo/sequences --sequence 08
    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --predictions logs/a/test_1 logs/b/test_1
    python tools/view.py --dataset nuscenes --data_path dataset/demo/nuscenes --sequence scene-0103
    python tools/view.py --data_path dataset/demo/sequences --subset fog/light --predictions logs/a/robust_test_1
    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --frame 000000 --output scan.png

Labels and camera pictures are shown if they are on disk, predictions with `--predictions`; two of them side by side.
`--subset` shows the scans of a corrupted set; `--predictions` then takes the folder of predictions that robust_test.py
has saved. With `--output scan.png` a scan is drawn from above, as the sensor sees it, and over the camera pictures;
with `--output scene.html` it is saved as a page that opens in a browser by itself.
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
from tools.making.datasets import DATASETS, add_dataset_flag
from tools.viewing.frames import DiskFrames
from tools.viewing.nuscenes import NuScenesFrames
from tools.viewing.scan import draw
from tools.viewing.semantickitti import SemanticKITTIFrames
from utils.command.flags import Parser, count
from utils.command.process import run_command
from utils.errors import UserError
from utils.labels import LabelMap
from utils.robustness.family import default_folder, load_family
from utils.viewer import server

HOST, PORT = "127.0.0.1", 8080
PAGE = (".html", ".htm")
"""Suffixes of --output that ask for a page; every other one asks for a PNG."""


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add_dataset_flag(parser, "what --data_path holds")
    add(
        "--data_path", type=Path, required=True, help="SemanticKITTI: the folder of the sequence folders; nuScenes: "
        "the folder of samples, lidarseg and the version folders",
    )  # fmt: skip
    add(
        "--sequence",
        metavar="NAME",
        help="SemanticKITTI: name of the folder, default 08; nuScenes: a scene, if not all",
    )
    add("--version", help="nuScenes: version of the tables, default v1.0-mini")
    add("--split", help="nuScenes: split of the version, default mini_val")
    add(
        "--frame", "--start", metavar="NAME", help="scan to draw, or to start with: its name, such as 000000; "
        "nuScenes: its number in the split or the scene, or its token; default: the first"
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
    add("--label_mapping", type=Path, metavar="YAML", help="file of the classes, if not the default")
    add(
        "--output", type=Path, metavar="FILE", help="the PNG to draw, or the page (.html) to save, of one scan; "
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
    without = {
        "--output, which writes a file": (flags.output is not None, ("host", "port")),
        "--dataset semantickitti": (flags.dataset == "semantickitti", ("version", "split")),
    }
    for what, (holds, names) in without.items():
        for name in names:
            if holds and getattr(flags, name) is not None:
                raise UserError(f"--{name} has no effect beside {what}; leave out one of them")
    if flags.corruption_path is not None and flags.subset is None:
        raise UserError("--corruption_path has no effect without --subset; give the name of a subset, too")


def open_frames(flags: argparse.Namespace) -> DiskFrames:
    """Opens the scans that the flags name.

    Raises:
        UserError: there are none, or no predictions of them.
    """
    label_map = LabelMap.load(flags.label_mapping or DATA_SETS[DATASETS[flags.dataset]].label_mapping_path)
    root = None if flags.subset is None else subset_root(flags)
    if flags.dataset == "nuscenes":
        subset = None if root is None else (root, flags.subset)
        tables = flags.version or "v1.0-mini", flags.split or "mini_val"
        return NuScenesFrames(flags.data_path, *tables, label_map, flags.predictions, flags.sequence, subset)
    if root is None:
        return SemanticKITTIFrames(flags.data_path, flags.sequence or "08", label_map, flags.predictions)
    return SemanticKITTIFrames(root, flags.subset, label_map, flags.predictions, is_subset=True)


def subset_root(flags: argparse.Namespace) -> Path:
    """Finds the folder of the corrupted subsets, where make_corruptions.py puts and robust_test.py looks for them.

    Raises:
        UserError: it cannot be found from --data_path.
    """
    if flags.corruption_path is not None:
        return flags.corruption_path
    family = "robo3d" if "/" in flags.subset or flags.dataset == "nuscenes" else "yan"
    return default_folder(flags.data_path, load_family(family, DATASETS[flags.dataset]))


def run(flags: argparse.Namespace) -> None:
    """Shows, draws or saves what the flags name."""
    check_together(flags)
    frames = open_frames(flags)
    start = 0 if flags.frame is None else frames.find(flags.frame)
    if flags.output is None:
        for line in frames.notes():
            print(line)
        server.view(frames, flags.host or HOST, PORT if flags.port is None else flags.port, start)
        return
    if flags.output.suffix.lower() in PAGE:
        server.save_html(frames, start, flags.output)
    else:
        frames.require(start)
        draw(frames.read(start), frames, flags.output)
    print(f"wrote {flags.output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_command(lambda: run(flags))


if __name__ == "__main__":
    sys.exit(main())
