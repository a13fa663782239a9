"""Makes a small SemanticKITTI or nuScenes data set of generated streets: labelled LiDAR scans, camera pictures, poses.

    python tools/make_demo_data.py                       # ./dataset/demo/sequences, about a minute
    python tools/make_demo_data.py --dataset nuscenes    # ./dataset/demo/nuscenes, about a minute
    python tools/make_demo_data.py --beams 64 --azimuth_steps 2048 --image_size 1241 376

It needs no download and no licence. The streets are simple, but files, label ids and geometry are as in the real data
set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from tools.demo_world.options import DEFAULTS, DemoOptions, add_flags, in_words
from tools.demo_world.tree import Summary
from tools.making.datasets import DEMO_FOLDERS, add_dataset_flag
from tools.making.frames import add_workers_flag, progress_bar
from utils.command.flags import Parser
from utils.command.importing import importing
from utils.command.process import run_command
from utils.command.terminal import say
from utils.errors import UserError
from utils.locks import locked

_WAITING = "{}: another process writes there; waiting for its end"


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add_dataset_flag(parser, "data set whose files to write")
    add("--output", type=Path, help=f"folder of the data set ({in_words(DEMO_FOLDERS)})")
    add_flags(parser)
    add("--reflectance", nargs="+", action="extend", metavar="MATERIAL=SHARE",
        help="share of laser light (0..1) that a material sends back, such as ASPHALT=0.2 METAL=0.6")  # fmt: skip
    add_workers_flag(parser)
    add("--overwrite", action="store_true", help="replace a data set that this tool made with other options")
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the flags, and fills in the default of --output."""
    flags = build_parser().parse_args(arguments)
    flags.output = flags.output or DEMO_FOLDERS[flags.dataset]
    return flags


def _share(text: str) -> tuple[str, float]:
    """Reads a material and its reflectance from NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise UserError(f"--reflectance {text} must read MATERIAL=SHARE, such as ASPHALT=0.2; change it") from error


def chosen(flags: argparse.Namespace) -> DemoOptions:
    """Returns the data set's defaults, changed by the flags that were given.

    Raises:
        UserError: a value is impossible.
    """
    given = {field.name: getattr(flags, field.name) for field in fields(DemoOptions)}
    if flags.sweeps and flags.dataset != "nuscenes":
        raise UserError("--sweeps: every scan of SemanticKITTI is a frame of its own; leave --sweeps out")
    if flags.train_streets and flags.dataset == "nuscenes":
        raise UserError("--train_streets: every scene of nuScenes is a street of its own; leave --train_streets out")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    if given["reflectance"] is not None:
        given["reflectance"] = tuple(_share(text) for text in given["reflectance"])
    usual = DEFAULTS[flags.dataset]
    if flags.train_frames is not None:  # of one street, unless several are asked for
        usual = replace(usual, train_frames=flags.train_frames, train_streets=1)
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def make(flags: argparse.Namespace) -> Summary:
    """Writes the data set that the flags ask for, under a progress bar."""
    options = chosen(flags)
    output: Path = flags.output
    output.parent.mkdir(parents=True, exist_ok=True)
    with importing():
        from tools.demo_world import nuscenes, semantickitti
    write = {"semantickitti": semantickitti.write_tree, "nuscenes": nuscenes.write_tree}[flags.dataset]
    lock = locked(output.parent / f".{output.name}.lock", waiting=lambda: say(_WAITING.format(output)))
    with lock, progress_bar() as progress:
        return write(output, options, progress, flags.overwrite)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = parse(arguments)
    return run_command(lambda: report(make(flags), flags.output))


def report(summary: Summary, output: Path) -> None:
    """Prints what the folder `output` now holds."""
    state = "" if summary.fresh else "already complete, nothing to do: "
    classes = ", ".join(
        f"{len(names)} of {summary.benchmark} classes in {part}" for part, names in summary.classes.items()
    )
    print(f"{state}{output}: {summary.frames} frames, about {summary.points} points each, {classes}")


if __name__ == "__main__":
    sys.exit(main())
