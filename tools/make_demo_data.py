"""Makes a small SemanticKITTI data set of a procedural street: labelled LiDAR scans, camera pictures, calibration.

    python tools/make_demo_data.py                       # ./dataset/demo/sequences, about a minute
    python tools/make_demo_data.py --beams 64 --azimuth_steps 2048 --image_size 1241 376

No download, no licence to sign; what it shows is simple, but files, label ids and geometry are the real data set's.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import Summary, write_tree
from utils.errors import UserError, run_command


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    default = DemoOptions()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--output", type=Path, default=Path("dataset/demo/sequences"), help="folder of the sequences (./%(default)s)")
    add("--train_frames", type=int, default=default.train_frames, help="scans in sequence 00 (%(default)s)")
    add("--val_frames", type=int, default=default.val_frames, help="scans in sequence 08 (%(default)s)")
    add("--test_frames", type=int, default=default.test_frames, help="scans in sequence 11 (%(default)s)")
    add("--beams", type=int, default=default.beams, help="lasers of the LiDAR (%(default)s)")
    add("--azimuth_steps", type=int, default=default.azimuth_steps, help="measurements in a turn (%(default)s)")
    add("--vertical_fov", type=float, nargs=2, default=default.vertical_fov, metavar=("TOP", "BOTTOM"),
        help="elevation of the first and the last laser, degrees (%(default)s)")  # fmt: skip
    add("--range_noise", type=float, default=default.range_noise, help="of a range, metres (%(default)s)")
    add("--dropout", type=float, default=default.dropout, help="share of lost measurements (%(default)s)")
    add("--image_size", type=int, nargs=2, default=default.image_size, metavar=("W", "H"), help="pixels (%(default)s)")
    add("--reflectance", nargs="+", action="extend", default=[], metavar="MATERIAL=SHARE",
        help="share of laser light (0..1) that a material sends back, such as ASPHALT=0.2 METAL=0.6")  # fmt: skip
    add("--seed", type=int, default=default.seed, help="another seed, other streets (%(default)s)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (one for each processor)")
    add("--overwrite", action="store_true", help="replace a data set that this tool made with other options")
    return parser.parse_args(arguments)


def _share(text: str) -> tuple[str, float]:
    """A material and its reflectance, from NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise UserError(f"--reflectance {text} must read MATERIAL=SHARE, such as ASPHALT=0.2; change it") from error


def make(flags: argparse.Namespace) -> Summary:
    """Writes what the flags ask for, under a progress bar."""
    options = DemoOptions(
        train_frames=flags.train_frames,
        val_frames=flags.val_frames,
        test_frames=flags.test_frames,
        beams=flags.beams,
        azimuth_steps=flags.azimuth_steps,
        vertical_fov=tuple(flags.vertical_fov),
        range_noise=flags.range_noise,
        dropout=flags.dropout,
        image_size=tuple(flags.image_size),
        seed=flags.seed,
        workers=flags.workers,
        reflectance=tuple(_share(text) for text in flags.reflectance),
    )
    columns = TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=None)
        return write_tree(
            flags.output, options, lambda done, total: bar.update(task, completed=done, total=total), flags.overwrite
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    flags = parse(arguments)
    return run_command(lambda: report(make(flags), flags.output))


def report(summary: Summary, output: Path) -> None:
    """Says what lies in `output` now."""
    state = "" if summary.fresh else "already complete, nothing to do: "
    classes = ", ".join(f"{len(names)} of 19 classes in {sequence}" for sequence, names in summary.classes.items())
    print(f"{state}{output}: {summary.frames} frames, about {summary.points} points each, {classes}")


if __name__ == "__main__":
    sys.exit(main())
