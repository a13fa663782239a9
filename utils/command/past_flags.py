"""The flags that say where the sensor was at each scan, for networks that take the scans before it."""

from __future__ import annotations

import argparse

from utils.command.flags import count
from utils.errors import UserError
from utils.scan.past_cloud import MOST_PAST


def add_past_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --poses, --past_scans and --times."""
    group = parser.add_argument_group("past scans, for networks that were trained with them (multi-scan)")
    add = group.add_argument
    add("--poses", action="append", metavar="FILE", help="poses of the sensor, one line for each scan, in the axes and "
        "the unit of the scans: KITTI's poses.txt (of camera 0, if calib.txt lies beside it) or TUM's form; for "
        "several folders or bags once for each, in their order, or the name alone of the file in or beside each"
        )  # fmt: skip
    add("--past_scans", type=count(0, MOST_PAST), metavar="N", help="scans before each one that are added to it; "
        "default: as in the training; 0: none")  # fmt: skip
    add("--times", action="append", metavar="FILE", help="seconds of each pose, one a line, for networks of nuScenes, "
        "where the poses have no times; files as for --poses")  # fmt: skip


def check_past_flags(flags: argparse.Namespace) -> None:
    """Checks that the flags go together.

    Raises:
        UserError: --past_scans or --times is given without --poses.
    """
    if not flags.poses and (flags.past_scans or flags.times):
        flag = "--times" if flags.times else f"--past_scans {flags.past_scans}"
        raise UserError(f"{flag} goes with --poses, the poses of the sensor at each scan")
