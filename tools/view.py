"""Draws one scan of SemanticKITTI or nuScenes: from above, as the sensor sees it, and over the camera pictures.

    python tools/view.py --data_path dataset/demo/sequences --sequence 08 --frame 000000 --output scan.png
    python tools/view.py --dataset nuscenes --data_path dataset/demo/nuscenes --frame 0 --output scan.png
    python tools/view.py --data_path dataset/demo/sequences --subset fog/light --frame 000000 --output scan.png

Labels and camera pictures are shown if they are on disk, predictions with `--predictions`. `--subset` draws a scan of
a corrupted set; `--predictions` then takes the folder of predictions that robust_test.py has saved.
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
from tools.viewing import nuscenes, semantickitti
from tools.viewing.scan import ShownScan
from utils.command.flags import Parser
from utils.command.process import run_command
from utils.labels import LabelMap
from utils.robustness.family import default_folder, load_family


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add_dataset_flag(parser, "what --data_path holds")
    parser.add_argument(
        "--data_path", type=Path, required=True, help="SemanticKITTI: the folder of the sequence folders; "
        "nuScenes: the folder of samples, lidarseg and the version folders",
    )  # fmt: skip
    parser.add_argument("--sequence", default="08", help="SemanticKITTI: name of the folder, default 08")
    parser.add_argument("--version", default="v1.0-mini", help="nuScenes: version of the tables, default v1.0-mini")
    parser.add_argument("--split", default="mini_val", help="nuScenes: split of the version, default mini_val")
    parser.add_argument(
        "--frame",
        default="000000",
        help="name of the scan, such as 000000; nuScenes: its number in the split, or its token",
    )
    parser.add_argument(
        "--predictions", type=Path, help="folder that a test has written with --save_prediction or --submit_to_server, "
        "or the folder of a run of robust_test.py"
    )  # fmt: skip
    parser.add_argument(
        "--subset", metavar="NAME", help="corrupted subset, in place of a sequence or of the clean scans: fog_light "
        "(Yan et al.), fog/light (Robo3D)"
    )  # fmt: skip
    parser.add_argument(
        "--corruption_path", type=Path, metavar="FOLDER", help="folder of the subsets, if not the default"
    )
    parser.add_argument("--label_mapping", type=Path, help="file of the classes, if not the default")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    return parser


def read_scan(flags: argparse.Namespace) -> ShownScan:
    """Reads the scan that the flags name.

    Raises:
        UserError: a file is missing or broken, or there are neither labels nor predictions.
    """
    label_map = LabelMap.load(flags.label_mapping or DATA_SETS[DATASETS[flags.dataset]].label_mapping_path)
    what = (flags.frame, flags.predictions, label_map)
    root = None if flags.subset is None else subset_root(flags)
    if flags.dataset == "nuscenes":
        subset = None if root is None else (root, flags.subset)
        return nuscenes.read_scan(flags.data_path, flags.version, flags.split, *what, subset)
    if root is None:
        return semantickitti.read_scan(flags.data_path, flags.sequence, *what)
    return semantickitti.read_scan(root, flags.subset, *what, is_subset=True)


def subset_root(flags: argparse.Namespace) -> Path:
    """Finds the folder of the corrupted subsets, where make_corruptions.py puts and robust_test.py looks for them.

    Raises:
        UserError: it cannot be found from --data_path.
    """
    if flags.corruption_path is not None:
        return flags.corruption_path
    family = "robo3d" if "/" in flags.subset or flags.dataset == "nuscenes" else "yan"
    return default_folder(flags.data_path, load_family(family, DATASETS[flags.dataset]))


def draw(flags: argparse.Namespace) -> None:
    """Draws the scan that the flags name."""
    read_scan(flags).draw(flags.output)
    print(f"wrote {flags.output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_command(lambda: draw(flags))


if __name__ == "__main__":
    sys.exit(main())
