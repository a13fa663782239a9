"""Flags that several benchmarks have, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from utils.command.flags import count
from utils.paths import REPOSITORY

CONFIG = REPOSITORY / "config" / "2DPASS-semantickitti.yaml"
PRECISIONS = {"32": "fp32", "bf16": "bf16"}
GPU_PRECISIONS = {"32": "fp32", "tf32": "TF32", "bf16": "bf16"}
"""The names that tables give to the values of the flag."""
LIMIT = 1800.0
"""Seconds: a process that takes longer is ended, unless `--limit` says otherwise."""


def add_experiment_flags(parser: argparse.ArgumentParser, runs: int) -> None:
    """Adds --config, --set, --runs and --output, which every benchmark has."""
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="YAML", help="the experiment")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of the config"
    )
    parser.add_argument(
        "--runs", type=count(1), default=runs, metavar="N", help="timed calls of each, after a warm-up (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the tables here too, as Markdown, after every row"
    )


def add_frame_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --data_path, --sequence and --frame, which say what frame to measure on."""
    parser.add_argument("--data_path", type=Path, help="the folder that holds the sequence folders (default: a demo)")
    parser.add_argument("--sequence", default="00", help="such as 00")
    parser.add_argument("--frame", default="000000", help="such as 000000")


def add_precisions_flag(parser: argparse.ArgumentParser, choices: Mapping[str, str] = PRECISIONS) -> None:
    """Adds --precisions, in which networks are measured."""
    parser.add_argument(
        "--precisions", nargs="+", choices=choices, default=list(choices), help="of the networks (default: all)"
    )


def add_process_flags(parser: argparse.ArgumentParser, device: str) -> None:
    """Adds --device and --limit, for benchmarks that measure in processes of their own."""
    parser.add_argument("--device", choices=("cuda", "cpu"), default=device, help="where to run (%(default)s)")
    parser.add_argument(
        "--limit", type=positive, default=LIMIT, metavar="SECONDS",
        help="that a process may take; then its row says so, and the next begins (%(default)g)",
    )  # fmt: skip


def positive(text: str) -> float:
    """Reads a finite number above 0, as a type for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value
