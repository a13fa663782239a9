"""The last step of `make demo`: prints the IoU of each class, draws the segmented street, and lists the results.

python tools/demo_summary.py --log_dir demo
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from rich.console import Console
from rich.table import Table

from dataloader.datasets.semantickitti.sequences import sequences_of
from tools.making.notes import read_note
from tools.viewing.semantickitti import SemanticKITTIFrames
from utils.command.flags import Parser
from utils.command.process import run_command
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import REPOSITORY, expand_home, resolve_path
from utils.results.conditions import Conditions
from utils.results.history import read_history
from utils.results.run_folder import HISTORY, run_root

CONFIG = REPOSITORY / "config" / "2DPASS-demo.yaml"
FRAMES = ("000002", "000007")


def summarise(config_path: str | Path, log_dir: str, console: Console) -> None:
    """Prints the summary of the newest demo run and draws its street.

    Args:
        config_path: config of the demo.
        log_dir: name of the run.
        console: console to print to.

    Raises:
        UserError: there is no finished test of that run below logs/ in the current folder.
    """
    config = load_config(config_path)
    root = run_root(config.dataset_params.pc_dataset_type, log_dir)
    tests = sorted(root.glob("test_*/scores.json"))
    if not tests:
        raise UserError(f"{root}: no finished test there; run `make demo`")
    folder = tests[-1].parent
    scores = read_note(tests[-1], {"iou": dict}) or {}
    console.print(iou_table(scores))
    console.print(Conditions.of_record(scores).text, soft_wrap=True)
    if "one_view" in scores:
        console.print(f"with one view: mIoU {100 * scores['one_view']['val/mIoU']:.1f} %")
    if (progress := progress_line(root)) is not None:
        console.print(progress, soft_wrap=True)

    label_map = LabelMap.load(resolve_path(config.dataset_params.label_mapping))
    data_path = expand_home(config.dataset_params.val_data_loader.data_path, key="data_path")
    sequence = sequences_of("valid", label_map)[0]
    there = [frame for frame in FRAMES if (data_path / sequence / "velodyne" / f"{frame}.bin").is_file()]
    if there:
        from tools.viewing.scan import draw  # here: it imports matplotlib

        frames = SemanticKITTIFrames(data_path, sequence, label_map, [folder / "predictions"])
        for frame in there:
            index = frames.find(frame)
            frames.require(index)
            draw(frames.read(index), frames, folder / f"street_{frame}.png")
    console.print(
        f"\nLook at   {folder}/street_*.png (the street, from above, from the sensor, through the camera)\n"
        f"          {folder}/confusion.png, {folder}/pictures/\n"
        f"Training  {Path(scores['checkpoint']).parent} (checkpoints, training_curve.png, TensorBoard logs)\n"
        f"Data      {data_path}",
        soft_wrap=True,  # paths stay in one piece
    )


def iou_table(scores: dict) -> Table:
    """Makes the table of per-class IoU, in the official convention and in the convention of the published code."""
    table = Table(title="Demo street", title_justify="left")
    for heading, justify in (("class", "left"), ("IoU %", "right"), ("published convention %", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, iou in scores["iou"].items():
        table.add_row(name, f"{100 * iou:.1f}", f"{100 * scores['published_iou'][name]:.1f}")
    table.add_section()
    table.add_row("mIoU", f"{100 * scores['val/mIoU']:.1f}", f"{100 * scores['val/mIoU_published']:.1f}")
    table.add_row("accuracy", f"{100 * scores['val/acc']:.1f}", "")
    return table


def progress_line(root: Path) -> str | None:
    """Returns a line with the mIoU after each epoch of the newest training; None if there is no training."""
    newest = max(root.glob(f"version_*/{HISTORY}"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return None
    steps = [f"{100 * line['val/mIoU']:.1f}" for line in read_history(newest.parent) if "val/mIoU" in line]
    return f"validation mIoU % after each epoch (one view): {' '.join(steps)}"


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="the demo's YAML (config/2DPASS-demo.yaml)")
    parser.add_argument("--log_dir", default="demo", metavar="NAME", help="the run's name (%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command(lambda: summarise(args.config, args.log_dir, Console()))


if __name__ == "__main__":
    sys.exit(main())
