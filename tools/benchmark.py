"""Times each stage beside the plain way of doing it, on the CPU, in one run, and compares the results of both.

    python tools/benchmark.py                                      # on a made-up sweep of 64 beams x 2048
    python tools/benchmark.py --data_path dataset/SemanticKitti/dataset/sequences --sequence 00 --frame 000000
    python tools/benchmark.py --stages item voxels --output table.md

Ours and plain take turns, so that whatever else the machine does hits both; times are medians after a warm-up.
What the plain way is can be read in tools/benchmarking/plain_versions.py and plain_network.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the tool runs from anywhere

import torch
from rich.console import Console
from rich.table import Table

from tools.benchmarking.stage import Measurement, measure
from tools.benchmarking.stages import all_stages
from tools.benchmarking.subject import Subject
from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import write_tree
from utils import cli
from utils.config import REPOSITORY, load_config, resolve_path
from utils.errors import UserError
from utils.labels import LabelMap

FILES = ("velodyne/{}.bin", "labels/{}.label", "image_2/{}.png", "calib.txt")
LOADERS = ("train_data_loader", "val_data_loader")
FULL_SIZE = DemoOptions(1, 1, 1, beams=64, azimuth_steps=2048, image_size=(1241, 376))
COLUMNS = ("stage", "ours, ms", "plain way", "plain, ms", "ratio", "largest difference")
CONFIG = REPOSITORY / "config" / "2DPASS-semantickitti.yaml"
NOTE = (
    "Difference: the largest absolute one, of the largest absolute value; for label map, voxels, kernel maps and "
    "points to labels, how many entries differ, of how many."
)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_path", type=Path, help="the folder that holds the sequence folders (default: a demo)")
    parser.add_argument("--sequence", default="00", help="such as 00")
    parser.add_argument("--frame", default="000000", help="such as 000000")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="timed calls of each, after a warm-up")
    parser.add_argument("--precision", nargs="+", choices=("32", "bf16"), default=["32", "bf16"], help="of networks")
    parser.add_argument("--stages", nargs="+", metavar="TEXT", help="only stages whose name contains one of these")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here too, as Markdown")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="YAML", help="the experiment")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of the config"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse_arguments(argv)
    if args.runs < 1:
        raise UserError("--runs takes a count of 1 or more")
    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has room for the whole table
    with tempfile.TemporaryDirectory() as folder, console.status("making the input") as status:
        subject = prepare(args.data_path, args.sequence, args.frame, args.config, args.set, Path(folder))
        facts = [machine(), *describe(subject)]
        measurements = []
        for stage in all_stages(subject, args.precision, lambda name: _is_wanted(name, args.stages)):
            status.update(stage.name)
            measurements.append(measure(stage, args.runs))
    if not measurements:
        raise UserError(f"--stages {' '.join(args.stages)}: no stage has such a name; leave the flag out to see all")
    closing = [f"Medians of {args.runs} calls each, in turns.", NOTE]
    if (memory := peak_memory()) is not None:
        closing.append(f"Peak memory of the process, plain versions included: {memory / 2**30:.2f} GiB.")
    for part in (*facts, table(measurements), *closing):
        console.print(part, soft_wrap=isinstance(part, str), highlight=False)
    if args.output is not None:
        _write(args.output, markdown(facts, measurements, closing))
        console.print(f"wrote {args.output}")


def _is_wanted(name: str, texts: Sequence[str] | None) -> bool:
    return texts is None or any(text.lower() in name.lower() for text in texts)


def prepare(
    data_path: Path | None, sequence: str, frame: str, config: str | Path, overrides: Sequence[str], folder: Path
) -> Subject:
    """One frame as a data set of its own: the first training and the first validation sequence, under `folder`.

    Args:
        data_path: the folder of the sequences to take the frame from; None makes a full-size sweep up.
        sequence, frame: such as "00" and "000000".
        config: the experiment.
        overrides: of its keys.
        folder: an empty folder.

    Raises:
        UserError: a file of the frame is missing, or the configuration is wrong.
    """
    if data_path is None:
        data_path = folder / "demo"
        write_tree(data_path, replace(FULL_SIZE, workers=os.cpu_count() or 1))
        sequence, frame = "00", "000000"
    paths = [f"dataset_params.{part}.data_path={json.dumps(str(folder))}" for part in LOADERS]
    # Random weights are as fast as ImageNet's, and need no download.
    checked = load_config(config, [*overrides, *paths, "model_params.pretrained2d=false"])
    split = LabelMap.load(resolve_path(checked.dataset_params.label_mapping)).split
    for part in ("train", "valid"):
        _copy_frame(data_path / sequence, frame, folder / split[part][0])
    return Subject(checked)


def _copy_frame(source: Path, frame: str, target: Path) -> None:
    for pattern in FILES:
        name = pattern.format(frame)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source / name, target / name)
        except OSError as error:
            raise UserError(
                f"{source / name}: cannot read it ({error.strerror}); a frame is measured with its scan, labels, image "
                "and calibration: choose another with --data_path, --sequence and --frame"
            ) from error


def machine() -> str:
    """Cores, processor, torch and its threads, and how busy the machine is, in a line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = found[1]
    load = f", load average {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    return f"Machine: {cores} cores, {model}; torch {torch.__version__}, threads: {torch.get_num_threads()}{load}."


def describe(subject: Subject) -> list[str]:
    """The input: points, and voxels at each scale."""
    voxels = " / ".join(f"{len(subject.voxel_set(scale)):,}" for scale in subject.scales)
    whole = subject.batch.whole[0]
    model = subject.model
    return [
        f"Input: {len(whole.xyz):,} points, {len(subject.batch.points):,} of them in the volume; {voxels} voxels at "
        f"scales {' / '.join(map(str, subject.scales))}.",
        f"Network: {len(model.scale_list)} scales x {model.hiden_size} channels.",
    ]


def peak_memory() -> int | None:
    """Largest resident size of this process so far, bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cells(measurement: Measurement) -> tuple[str, ...]:
    """A measurement as the columns of the table."""
    stage, m = measurement.stage, measurement
    ratio = f"{m.plain / m.ours:.1f} x"
    return (stage.name, _milliseconds(m.ours), stage.plain_name, _milliseconds(m.plain), ratio, str(m.difference))


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(measurements: Sequence[Measurement]) -> Table:
    """For the terminal."""
    drawn = Table()
    for name in COLUMNS:
        number = name.endswith("ms") or name == "ratio"
        drawn.add_column(name, justify="right" if number else "left", no_wrap=number)
    for measurement in measurements:
        drawn.add_row(*cells(measurement))
    return drawn


def markdown(facts: Sequence[str], measurements: Sequence[Measurement], closing: Sequence[str]) -> str:
    """The same as a Markdown text."""
    rows = [COLUMNS, ["---:" if name.endswith("ms") or name == "ratio" else "---" for name in COLUMNS]]
    rows += [cells(measurement) for measurement in measurements]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["  \n".join(facts), "", *lines, "", "  \n".join(closing), ""])


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write the table ({error.strerror}); choose another --output") from error


if __name__ == "__main__":
    sys.exit(cli.run(lambda: main(sys.argv[1:])))
