"""Checks of the scans of a data set when they are listed, before anything slow starts.

Scans that cannot be used are errors; doubtful scans give a note, one for each kind. The sizes of all files are checked,
but the contents of three scans of each sequence only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.files import empty_scan, read_point_file, unequal
from dataloader.formats.point_layout import FEWEST_ROWS
from utils.errors import UserError

_SMALL = 0.1  # a scan with less than this share of the usual number of points is doubtful
_SHARE = 0.02  # share of strange points that is worth a note; crosstalk alone makes 1 % of the points strange
_AROUND = 200.0  # metres; the middle of a scan is not farther than this from its sensor
_FAR, _NEAR = 500.0, 0.5  # metres; the median distance of the points of a scan lies between them
_SCALES = (1, 255, 65535)  # usual largest intensities
_DARK = 0.01  # if all intensities are below this share of the largest, they were divided once too often
_UPRIGHT = 2.0  # a scan that extends this many times farther up and down than to the sides has its axes exchanged
_CUT = 0.1  # share of zero points at the end of a file that is doubtful


@dataclass(frozen=True)
class ScanFormat:
    """A frozen record of the layout of a data set's scan and label files.

    Attributes:
        columns: number of float32 values of a point; the first four are x, y, z (metres) and intensity.
        intensity_max: the largest intensity.
        label_bytes: size of the label of a point, bytes.
    """

    columns: int
    intensity_max: float
    label_bytes: int

    @property
    def point_bytes(self) -> int:
        """The size of a point, bytes."""
        return 4 * self.columns


KITTI = ScanFormat(columns=4, intensity_max=1.0, label_bytes=4)
NUSCENES = ScanFormat(columns=5, intensity_max=255.0, label_bytes=1)


@dataclass
class Notes:
    """The notes on doubtful scans, by kind: one line for each kind, however many files it applies to."""

    _found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str | Path, text: str) -> None:
        """Adds a note on a file; of further files with a note of the same kind, `lines` gives only the number."""
        self._found.setdefault(kind, []).append(f"{path}: {text}")

    def lines(self) -> tuple[str, ...]:
        """Returns one line for each kind."""
        return tuple(
            lines[0] + (f" (likewise {len(lines) - 1} more)" if len(lines) > 1 else "")
            for lines in self._found.values()
        )


def check_sizes(scan: Path, size: int, label: Path | None, label_size: int, form: ScanFormat) -> None:
    """Checks the sizes of a scan and of its label file.

    Args:
        scan: the scan file.
        size: its size, bytes.
        label: the label file, or None if there is none.
        label_size: its size, bytes.
        form: the layout of the files.

    Raises:
        UserError: the scan is empty or not a whole number of points, or the numbers of labels and points differ.
    """
    if size == 0:
        raise empty_scan(scan)
    labels = label_size / form.label_bytes
    if size % form.point_bytes or (label is not None and labels * form.point_bytes != size):
        read_point_file(scan, form.columns)  # raises the error that says what else the file may be
        assert label is not None
        raise unequal(label, labels, size / form.point_bytes, size / max(labels, 1e-9), form.label_bytes)


def note_small_scans(scans: Mapping[Path, int], notes: Notes) -> None:
    """Notes the scans (path -> bytes) that have far fewer points than is usual among them."""
    usual = float(np.median(list(scans.values())))
    small = [path for path, size in scans.items() if size < _SMALL * usual]
    if small:
        notes.add(
            "small", small[0], f"has less than a tenth of the points that are usual here ({len(small)} scans have); "
            "it may be cut off",
        )  # fmt: skip


def look_at_scans(paths: Sequence[Path], form: ScanFormat, notes: Notes) -> dict[Path, NDArray[np.float32]]:
    """Checks the contents of the first, the middle and the last scan of a sequence.

    Args:
        paths: the scans of the sequence.
        form: the layout of the files.
        notes: where doubts are added.

    Returns:
        Path of each scan that was read -> its (N, 3) points in metres, for further checks.

    Raises:
        UserError: a scan cannot be read, or all its points are the same.
    """
    seen = {}
    for path in (paths[number] for number in dict.fromkeys((0, len(paths) // 2, len(paths) - 1))):
        xyz, intensity = read_point_file(path, form.columns)
        seen[path] = xyz
        finite = xyz[np.isfinite(xyz).all(axis=1)]
        if len(finite) >= FEWEST_ROWS and (finite == finite[0]).all():
            place = ", ".join(f"{value:g}" for value in finite[0])
            raise UserError(
                f"{path}: every point is ({place}); unpack the scan again, or remove it with its label file"
            )
        ends = int(np.argmax(np.append(xyz.any(axis=1) | (intensity != 0), True)[::-1][1:]))
        if len(xyz) >= FEWEST_ROWS and ends > _CUT * len(xyz):
            notes.add("cut", path, f"the last {ends} of {len(xyz)} points are zeros; the file may be cut off")
        for kind, text in (_doubts_about_places(finite, len(xyz)) | _doubts_about_intensity(intensity, form)).items():
            notes.add(kind, path, text)
    return seen


def note_added(path: Path, raw: NDArray[np.unsignedinteger], added: Collection[int], notes: Notes) -> None:
    """Adds a note if some of the (N,) raw ids of a label file are ids `added` by a corruption."""
    ids = np.unique(raw[np.isin(raw, list(added))])
    if len(ids):
        names = ", ".join(map(str, ids))
        notes.add("added", path, f"a corruption has added points to the scan (label ids {names}); they are ignored")


def _doubts_about_places(finite: NDArray[np.float32], count: int) -> dict[str, str]:
    """Returns the doubts, kind -> text, about the (M, 3) finite coordinates, metres, of a scan of `count` points."""
    if not len(finite):
        return {"nothing": "no point has usable coordinates"}
    found = {}
    if len(finite) < 0.1 * count:
        found["few"] = f"only {len(finite)} of {count} points have usable coordinates"
    for axis, column in zip("xyz", finite.T, strict=True):
        if not column.any() and len(finite) >= FEWEST_ROWS:
            found[f"no {axis}"] = f"{axis} is 0 for every point; the columns are x, y, z, intensity"
    returns = finite[finite.any(axis=1)].astype(np.float64)
    if len(returns) < FEWEST_ROWS:
        return found
    centre = np.median(returns, axis=0)
    reach, spread = (float(np.median(np.linalg.norm(returns - middle, axis=1))) for middle in (0, centre))
    if np.abs(centre).max() > max(_AROUND, spread):
        place = ", ".join(f"{value:.0f}" for value in centre)
        found["far"] = f"the points lie around ({place}) m, not around their sensor; move them there first"
    elif not found and _spread_up(returns) > _UPRIGHT:
        found["axes"] = "the points lie farther up and down (z) than to the sides; x must be ahead, y left, z up"
    elif reach > _FAR or reach < _NEAR:
        side = "farther away" if reach > _FAR else "nearer"
        found["metres"] = f"half of the points are {side} than {reach:.2g} m; are these metres?"
    return found


def _spread_up(points: NDArray[np.float64]) -> float:
    """Computes the ratio of the spread of (N, 3) points along z to the smaller one of their spreads along x and y."""
    low, high = np.quantile(points, (0.05, 0.95), axis=0)
    x, y, z = high - low
    return float(z / max(min(x, y), 1e-9))


def _doubts_about_intensity(intensity: NDArray[np.float32], form: ScanFormat) -> dict[str, str]:
    """Returns the doubts, kind -> text, about (N,) intensities."""
    top = form.intensity_max
    highest = float(np.quantile(intensity, 1 - _SHARE / 2))
    negative = float(np.mean(intensity < 0))
    if len(intensity) < FEWEST_ROWS:
        return {}
    if not intensity.any():
        return {"no intensity": f"the intensity is 0 for every point; the networks use it (0 to {top:g})"}
    if negative > _SHARE:
        return {
            "negative": f"the intensity of {100 * negative:.0f} % of the points is negative; it is 0 to {top:g}, and "
            "the columns are x, y, z, intensity"
        }
    if intensity[0] and (intensity == intensity[0]).all():
        return {"no intensity": f"the intensity is {intensity[0]:g} for every point; the networks use it"}
    if highest > top:
        scale = next((s for s in _SCALES if highest <= s), None)
        hint = f"divide it by {scale / top:g}" if scale else "scale it to that"
        return {"intensity": f"the intensity goes up to {highest:.0f}, where 0 to {top:g} is wanted; {hint}"}
    if top > 1 and intensity.max() <= 1 and np.count_nonzero(intensity) >= FEWEST_ROWS:
        return {"intensity": f"the intensity ends at 1, where 0 to {top:g} is wanted; multiply it by {top:g}"}
    if top == 1 and intensity.max() <= _DARK:
        return {"intensity": f"the intensity ends at {intensity.max():.2g}, where 0 to 1 is wanted; scale it to that"}
    return {}
