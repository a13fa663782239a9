"""Corrupts a clean validation set: weather, noise, missing beams, in the layouts of the published benchmarks.

    python tools/make_corruptions.py --family yan                        # SemanticKITTI-C of Yan et al., IJCV 2024
    python tools/make_corruptions.py --family robo3d                     # SemanticKITTI-C of Robo3D, ICCV 2023
    python tools/make_corruptions.py --family robo3d --dataset nuscenes  # nuScenes-C of Robo3D

The subsets follow the equations of the papers, in the style of those data sets: scores on them do not compare with
scores on the published ones. The same command continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from dataloader.corruptions.families import GENERATOR
from tools.corrupting import clean as clean_sets
from tools.corrupting.clean import CleanFrame, CleanSet
from tools.corrupting.frame import Corruptor, FrameResult
from tools.corrupting.ledger import Ledger
from tools.corrupting.options import SEQUENCE, add_flags, check, chosen, complete, wanted_subsets
from tools.making.datasets import DATASETS
from tools.making.frames import map_frames, progress_bar
from utils.command.flags import Parser
from utils.command.process import run_command
from utils.corruptions import CLEAN_FOLDER


def make(flags: argparse.Namespace) -> list[str]:
    """Writes the subsets that the flags ask for, under a progress bar.

    Returns:
        A line about each subset.

    Raises:
        UserError: a flag is wrong, the clean set is missing or damaged, or other files are in the output folder.
    """
    check(flags)
    choices = chosen(flags)
    subsets, names = wanted_subsets(flags, choices)
    clean = _clean_set(flags)
    options = {
        "generator": GENERATOR,
        "family": flags.family,
        "dataset": DATASETS[flags.dataset],
        "seed": flags.seed,
        "mode": flags.mode,
        "choices": asdict(choices),
        "clean": clean.about,
    }
    ledger = Ledger(flags.output, options, [*(subset.name for subset in subsets), CLEAN_FOLDER])
    by_name = {subset.name: subset for subset in subsets}
    corrupt = Corruptor(replace(clean, frames=()), flags.family, flags.seed, flags.output, by_name)
    _write_subsets(corrupt, [name for name in names if not ledger.finished(name, clean.frames)], clean, flags, ledger)
    return [ledger.line(name) for name in names]


def _clean_set(flags: argparse.Namespace) -> CleanSet:
    if flags.dataset == "semantickitti":
        return clean_sets.semantickitti(flags.data_path, SEQUENCE if flags.sequence is None else flags.sequence)
    return clean_sets.nuscenes(flags.data_path, flags.version)


def _write_subsets(
    corrupt: Corruptor, names: Sequence[str], clean: CleanSet, flags: argparse.Namespace, ledger: Ledger
) -> None:
    """Writes all frames of the subsets `names`, and notes each finished subset in the ledger."""
    jobs: list[tuple[str, CleanFrame]] = [(name, frame) for name in names for frame in clean.frames]
    for folder in {path.parent for job in jobs for path in corrupt.files(*job)}:
        folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, FrameResult]] = {name: {} for name in names}
    with progress_bar() as progress:
        for (name, frame), result in map_frames(corrupt, jobs, flags.workers, progress):
            results[name][frame.key] = result
            if len(results[name]) == len(clean.frames):
                ledger.complete(name, corrupt.subsets.get(name), results[name])


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = complete(build_parser().parse_args(arguments))
    return run_command(lambda: print("\n".join([f"{flags.output}:", *make(flags)])))


if __name__ == "__main__":
    sys.exit(main())
