"""Draws one scan of SemanticKITTI under every corruption of a family, and counts the points that each changes.

    python tools/draw_corruptions.py --family yan --data_path dataset/demo/sequences --sequence 08 --output pictures
    python tools/draw_corruptions.py --family robo3d --data_path dataset/demo/sequences --sequence 08 --output pictures

One picture per corruption: the clean scan, then each severity; from above, and ahead as the sensor sees it. White
points were altered and are ignored by the metrics. The scans are those that tools/make_corruptions.py writes with the
same seed and mode.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from dataloader.corruptions.families import CorruptedSubset, robo3d, yan
from dataloader.corruptions.sweep import Sweep
from tools.corrupting import clean as clean_sets
from tools.corrupting.clean import CleanFrame, CleanSet
from tools.corrupting.frame import Corruptor
from tools.corrupting.options import add_corruption_flags
from utils.command.flags import Parser
from utils.command.process import run_command
from utils.corruptions import CLEAN_FOLDER
from utils.errors import UserError
from utils.files import whole_file
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED, Pixels, birds_eye_view, paint, paint_altered, range_view
from utils.scan.sensor import SEMANTICKITTI

SIZE = 512
"""The width of a panel in pixels."""
TURN = 4 * SIZE
"""The width of the whole turn of the sensor in pixels, one for each point of KITTI; a panel shows a quarter of it."""
TALL = 3
"""The height of a beam in pixels."""
TITLES = {"yan": "SemanticKITTI-C style of Yan et al.", "robo3d": "SemanticKITTI-C style of Robo3D"}


@dataclass(frozen=True)
class Corrupted:
    """A scan after a corruption, or clean.

    Attributes:
        name: name of the subset.
        severity: severity, such as "light"; "clean" without corruption.
        parameters: the parameters that differ between severities or were drawn for this scan: "sigma 0.05".
        sweep: the scan after the corruption.
        before: number of points of the clean scan.
    """

    name: str
    severity: str
    parameters: str
    sweep: Sweep
    before: int

    @property
    def change(self) -> float:
        """The change of the number of points, percent."""
        return 100 * (len(self.sweep) / self.before - 1)

    @property
    def altered(self) -> float:
        """The share of points that weather or noise has put there, percent."""
        return 100 * np.count_nonzero(self.sweep.altered) / max(len(self.sweep), 1)

    @property
    def ignored(self) -> float:
        """The share of points that the metrics ignore, percent: altered, or unlabelled from the beginning."""
        return 100 * np.count_nonzero(self.sweep.altered | (self.sweep.labels == 0)) / max(len(self.sweep), 1)


def corrupt(
    clean: CleanSet, frame: CleanFrame, family: str, subsets: Sequence[CorruptedSubset], seed: int
) -> tuple[Corrupted, list[tuple[str, list[Corrupted]]]]:
    """Corrupts one frame by every subset, as tools/make_corruptions.py does.

    Returns:
        The clean scan, and a pair for each type of corruption: its name and the scans of its severities.

    Raises:
        UserError: a file of the frame is missing or damaged.
    """
    sweep, _ = clean.read(frame)
    makes = Corruptor(clean, family, seed, Path(), {})
    found: dict[str, list[Corrupted]] = {}
    for subset in subsets:
        alike = [other.parameters for other in subsets if other.type == subset.type]
        shown = {key: value for key, value in subset.parameters.items() if any(o[key] != value for o in alike)}
        shown |= subset.draw(makes.generator(subset.name, frame))
        words = ", ".join(f"{key} {value}" for key, value in shown.items())
        after = subset.apply(sweep, makes.generator(subset.name, frame))
        corrupted = Corrupted(subset.name, subset.severity, words, after, len(sweep))
        found.setdefault(subset.type, []).append(corrupted)
    return Corrupted(CLEAN_FOLDER, "clean", "", sweep, len(sweep)), list(found.items())


def draw(columns: Sequence[Corrupted], label_map: LabelMap, title: str, path: Path) -> None:
    """Draws clean and corrupted scans side by side.

    Args:
        columns: the scans.
        label_map: names and colours.
        title: line above the picture.
        path: path of the PNG to write.
    """
    from utils.pictures.scans import draw_panels  # here: it imports matplotlib

    above, ahead = [], []
    for column in columns:
        sweep = column.sweep
        rgb = paint_altered(sweep.labels, sweep.altered, label_map.colors)
        what = "" if column.name == CLEAN_FOLDER else f", {column.change:+.1f} %; {column.altered:.1f} % altered"
        caption = f"{column.severity}: {len(sweep):,} points{what}"
        above.append((caption, birds_eye_view(sweep.xyz, SEMANTICKITTI, rgb, SIZE)))
        turn = range_view(sweep.xyz, SEMANTICKITTI, rgb, TURN).repeat(TALL, axis=0)
        caption = column.parameters or "ahead, as the sensor sees it"
        ahead.append((caption, turn[:, (TURN - SIZE) // 2 : (TURN + SIZE) // 2]))
    draw_panels([above, ahead], _legend(columns, label_map), path, title)
    _shrink(path)


def _legend(columns: Sequence[Corrupted], label_map: LabelMap) -> Mapping[str, Sequence[int]]:
    present = np.unique(np.concatenate([column.sweep.labels[~column.sweep.altered] for column in columns]))
    legend = {label_map.names[label]: paint(label, label_map.colors).tolist() for label in present}
    return {**legend, "altered": ALTERED} if any(column.sweep.altered.any() for column in columns) else legend


def _shrink(path: Path) -> None:
    """Stores a picture with a palette of its 256 most frequent colours, at half the size.

    Every class colour is among them, since the legend has a swatch of it; only a few shades of letters are rounded.
    """
    with Image.open(path) as file:
        pixels = np.asarray(file.convert("RGB")).reshape(-1, 3)
        height, width = file.height, file.width
    colors, places, counts = np.unique(_packed(pixels), return_inverse=True, return_counts=True)
    rgb = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1)
    palette = rgb[np.argsort(-counts, kind="stable")[:256]]
    nearest = np.abs(rgb[:, None].astype(int) - palette[None].astype(int)).sum(axis=2).argmin(axis=1)
    picture = Image.fromarray(nearest[places].reshape(height, width).astype(np.uint8))
    picture.putpalette(palette.astype(np.uint8).tobytes())
    with whole_file(path) as file:
        picture.save(file, "PNG", optimize=True)


def _packed(pixels: Pixels) -> NDArray[np.uint32]:
    return pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)


def table(rows: Sequence[Corrupted]) -> str:
    """Writes the figures as a table in Markdown."""
    lines = ["| subset | parameters | points | change, % | altered, % | ignored, % |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        figures = f"{len(row.sweep):,} | {row.change:+.2f} | {row.altered:.2f} | {row.ignored:.2f}"
        lines.append(f"| {row.name} | {row.parameters} | {figures} |")
    return "\n".join(lines)


def run(flags: argparse.Namespace) -> None:
    """Draws the pictures and prints the table for the flags.

    Raises:
        UserError: the scan does not exist.
    """
    clean = clean_sets.semantickitti(flags.data_path, flags.sequence)
    frame = next((frame for frame in clean.frames if frame.key == flags.frame), None)
    if frame is None:
        raise UserError(
            f"--frame {flags.frame}: no such scan in {flags.data_path / flags.sequence}; give one of "
            f"{clean.frames[0].key} to {clean.frames[-1].key}"
        )
    subsets = yan(flags.mode) if flags.family == "yan" else robo3d("SemanticKITTI", flags.mode)
    untouched, types = corrupt(clean, frame, flags.family, subsets, flags.seed)
    for name, severities in types:
        title = f"{name}, {TITLES[flags.family]}: sequence {flags.sequence}, scan {flags.frame}, {flags.mode} mode"
        draw([untouched, *severities], clean.label_map, title, flags.output / f"{flags.family}_{name}.png")
    print(table([untouched, *(row for _, severities in types for row in severities)]))
    print(f"\nwrote {len(types)} pictures to {flags.output}")


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add_corruption_flags(parser)
    add("--data_path", type=Path, required=True, help="the folder of the sequence folders")
    add("--sequence", default="00", help="default: %(default)s")
    add("--frame", default="000000", help="name of the scan, default: %(default)s")
    add("--output", type=Path, required=True, help="folder of the pictures")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_command(lambda: run(flags))


if __name__ == "__main__":
    sys.exit(main())
