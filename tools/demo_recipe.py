"""Writes down how the published model of the demo was made, so that a test can tell whether it would be made so today.

    python tools/demo_recipe.py --log_dir demo-model --output checkpoint/demo

It is the last step of `make demo-model`. The first epoch of the training is repeated, and must have the mean loss that
the history of the run has; the losses of its first steps are written into recipe.json of the folder, with the options
of the data. A scan of the street is put beside it. The test `tests/test_demo_model.py` repeats the first steps.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from network.weights.reading import read_outline
from tools.making.notes import read_note, write_note
from tools.publishing.origin import Origin
from utils.command.flags import Parser
from utils.command.importing import importing
from utils.command.process import run_program
from utils.config.loading import load_config
from utils.errors import UserError
from utils.files import write_bytes
from utils.paths import REPOSITORY
from utils.results.history import read_history
from utils.results.published import model_file
from utils.results.run_folder import find_checkpoint, run_root

CONFIG = "config/2DPASS-demo.yaml"
RECIPE = "recipe.json"
SCAN, SCAN_OF = "street.bin", (11, 1)
"""A scan without labels that lies beside the model, and its sequence and number in the data of the demo. Its size fits
rows of four numbers alone, so that predict.py need not ask for its columns."""
SEED = 0
STEPS = 2
_ALIKE = 1e-3  # relative difference of the mean losses of two trainings that differ in rounding alone


def record(log_dir: str, output: Path) -> str:
    """Writes recipe.json and the scan into the published folder; returns a line about it.

    Args:
        log_dir: name of the run that the model comes from.
        output: the published folder.

    Raises:
        UserError: the model is not of that run, or the run did not begin as the recipe does now.
    """
    config = load_config(REPOSITORY / CONFIG)
    data = Path(config.dataset_params.train_data_loader.data_path)
    root = run_root(config.dataset_params.pc_dataset_type, log_dir)
    run = find_checkpoint("last", root).parent
    made = Origin.of(read_outline(model_file(output))).training or {}
    if made != Origin.of(read_outline(run / "last.ckpt")).training or made.get("--seed") != SEED:
        raise UserError(f"{output}: was not published from {run}, with --seed {SEED}; run `make demo-model`")
    note = read_note(data / "demo_world.json", {"options": dict, "format": int})
    if note is None:
        raise UserError(f"{data}: no data of the demo there; run `make demo-model`")
    with importing():
        from tools.publishing.first_steps import first_losses

    losses = first_losses(config, SEED)
    mean, logged = sum(losses) / len(losses), read_history(run)[0]["train/loss_epoch"]
    if abs(mean - logged) > _ALIKE * logged:
        raise UserError(
            f"{run}: the mean loss of its first epoch is {logged:.6g}, and today's recipe gives {mean:.6g}: code, "
            "config or data have changed since; run `make demo-model`"
        )
    libraries = {name: version(name) for name in ("torch", "numpy", "pytorch-lightning")}
    recipe = {
        "command": "make demo-model",
        "config": CONFIG,
        "seed": SEED,
        "data": {"options": note["options"], "format": note["format"]},
        "first_losses": losses[:STEPS],
        "mean_loss_of_first_epoch": {"of the run": logged, "repeated": mean},
        "versions": {"python": platform.python_version(), **libraries},
    }
    write_bytes(output / SCAN, (data / f"{SCAN_OF[0]:02d}" / "velodyne" / f"{SCAN_OF[1]:06d}.bin").read_bytes())
    write_note(output / RECIPE, recipe)
    return f"{output / RECIPE}: mean loss of the first epoch {mean:.6g}, of the run {logged:.6g}"


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    parser.add_argument("--log_dir", required=True, metavar="NAME", help="name of the run: logs/<dataset>/<NAME>")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the published folder")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_program(lambda: print(record(flags.log_dir, flags.output)))


if __name__ == "__main__":
    sys.exit(main())
