"""Exports a trained network as a model that runs without this repository.

    python tools/export.py --checkpoint best.ckpt --format onnx --output model/
    python tools/export.py --checkpoint best.ckpt --format torch --output model/

`onnx`: a model of standard operators and a runner of one file, which needs NumPy and ONNX Runtime. `torch`: a program
of torch.export, for Python and C++. Both go from the points of a scan to the class of each point.
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

from network.export.model_file import MODELS, WEIGHTS, check_folder, describe, refuse, write_description
from network.weights.configuration import open_for_test
from utils.command.flags import Parser, override
from utils.command.importing import importing
from utils.command.process import run_command
from utils.command.terminal import say
from utils.errors import UserError
from utils.fetching.references import FORMS

_NOT_EXPORTED = {
    "--num_vote": "a model sees each scan once; votes are for predict.py, main.py and robust_test.py",
    "--past_scans": "a model takes one scan; past scans are for predict.py",
    "--poses": "a model takes one scan; past scans are for predict.py",
}
"""Flags of other programs that ask for what an exported model does not do -> why."""


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="NAME", help=FORMS)
    add("--format", required=True, choices=tuple(MODELS), help="of the model")
    add("--output", required=True, type=Path, metavar="FOLDER", help="where the files go: an empty folder or an export")
    add("--weights", choices=WEIGHTS, default="fp32", help="how the weights are stored; the arithmetic stays fp32")
    add("--compile", action="store_true", help="torch: compile the program for this kind of CPU, too, as C++ needs it")
    add("--config", metavar="YAML", help="of checkpoints that do not hold theirs: published ones, and earlier versions")
    add(
        "--set", type=override, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of "
        "the config"
    )  # fmt: skip
    add("--log_dir", default="default", metavar="NAME", help="name of the run of `last` or `best`")
    for flag in _NOT_EXPORTED:
        add(flag, nargs="*", help=argparse.SUPPRESS)
    return parser


def export(flags: argparse.Namespace) -> list[Path]:
    """Writes the model that the flags ask for, and returns its files.

    Raises:
        UserError: the checkpoint cannot be exported, or the folder holds something else.
    """
    for flag, reason in _NOT_EXPORTED.items():
        if getattr(flags, flag.removeprefix("--")) is not None:
            raise UserError(f"{flag}: {reason}; leave it out")
    if flags.compile and flags.format != "torch":
        raise UserError(f"--compile has no effect on --format {flags.format}; leave it out")
    tested = open_for_test(flags.checkpoint, flags.log_dir, flags.config, flags.set, say)
    refuse(tested)
    description = describe(tested)
    kept = check_folder(flags.output, description, MODELS[flags.format])
    with importing():
        from network.assemble import load_for_test

        if flags.format == "onnx":
            try:
                from network.export.onnx_model import write_model as write
            except ModuleNotFoundError as error:
                raise UserError(
                    f"--format onnx needs {error.name}, which is not installed; pip install -r requirements-export.txt"
                ) from None
        else:
            from network.export.program import write_program as write
    network, _ = load_for_test(tested.config, tested.path, tested.content)
    network = network.eval().requires_grad_(False)
    write_description(flags.output, description, kept)  # the folder is that of an export from now on
    written = write(network, description, flags.output, flags.weights, **({"compiled": True} if flags.compile else {}))
    write_description(flags.output, description, {**kept, **written})
    return [flags.output / name for name in sorted([*written, "model.json"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)

    def command() -> None:
        for path in export(flags):
            say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
