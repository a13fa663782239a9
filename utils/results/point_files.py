"""Files of labelled points, in the order of the points: labels, arrays, and clouds that other programs open."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.scan.point_cloud import PointCloud
from utils.text import printable


@dataclass(frozen=True)
class LabelledPoints:
    """A frozen record of N points with their labels.

    Attributes:
        xyz: (N, 3) floats as in the file or array they come from; a row may be NaN.
        intensity: (N,) float32 as there, or None.
        labels: (N,) uint8 learning ids, numbers into `names` and `colors`; 0 where there is no return.
        confidence: (N,) float32, 0..1, of the label among the classes; 0 where there is no return, and where a point
            was not seen by the network and has the label of the nearest that was.
        names: K names of the classes, the ignored one first.
        colors: (K, 3) uint8 RGB of the classes.
        raw_ids: (K,) uint32 ids of the classes in label files.
    """

    xyz: NDArray[np.floating[Any]]
    intensity: NDArray[np.float32] | None
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    names: Sequence[str]
    colors: NDArray[np.uint8]
    raw_ids: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def raw_labels(self) -> NDArray[np.uint32]:
        """The (N,) uint32 raw ids, as label files have them."""
        return self.raw_ids[self.labels]

    @property
    def unseen(self) -> int:
        """The number of points with a label that the network has not seen, since they lie outside its volume."""
        return int(np.count_nonzero((self.labels > 0) & (self.confidence == 0)))

    def counts(self) -> dict[str, int]:
        """Counts the points of each class that occurs, the most frequent first."""
        found = np.bincount(self.labels, minlength=len(self.names))
        order = np.argsort(-found, kind="stable").tolist()
        return {str(self.names[number]): int(found[number]) for number in order if found[number]}


def label_file(points: LabelledPoints, confidence: bool) -> bytes:
    """Encodes raw ids as SemanticKITTI stores labels: little-endian uint32, one for each point, and nothing else."""
    return points.raw_labels.astype("<u4").tobytes()


def array_file(points: LabelledPoints, confidence: bool) -> bytes:
    """Encodes raw ids as a `.npy` file of an (N,) uint32 array."""
    return _npy(points.raw_labels)


def confidence_file(points: LabelledPoints, confidence: bool = True) -> bytes:
    """Encodes the confidence of each point as a `.npy` file of an (N,) float32 array."""
    return _npy(points.confidence)


def ply_file(points: LabelledPoints, confidence: bool) -> bytes:
    """Encodes a coloured cloud as a binary little-endian `.ply` file; `label` is the raw id.

    Coordinates are float32 if they are so already, else float64: map coordinates need it.
    """
    real = "<f4" if points.xyz.dtype == np.float32 else "<f8"
    fields = [("x", real), ("y", real), ("z", real), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("label", "<u4")]
    if points.intensity is not None:
        fields.append(("intensity", "<f4"))
    if confidence:
        fields.append(("confidence", "<f4"))
    rows = np.zeros(len(points), dtype=fields)
    for axis, name in enumerate("xyz"):
        rows[name] = points.xyz[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = points.colors[points.labels, channel]
    rows["label"] = points.raw_labels
    if points.intensity is not None:
        rows["intensity"] = points.intensity
    if confidence:
        rows["confidence"] = points.confidence
    words = {"<f4": "float", "<f8": "double", "u1": "uchar", "<u4": "uint"}
    classes = zip(points.raw_ids.tolist(), points.names, strict=True)
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment label {raw} {printable(name)}" for raw, name in classes),
        f"element vertex {len(points)}",
        *(f"property {words[kind]} {name}" for name, kind in fields),
        "end_header",
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii", "backslashreplace") + rows.tobytes()


_LAS_STEP = 0.0001  # metres; the coordinates of a file are whole numbers of steps
_LAS_MOST = 2**31 - 2  # steps from the offset
_LAS_NAME = 15  # bytes of a class name in the lookup table


def las_file(points: LabelledPoints, confidence: bool) -> bytes:
    """Encodes a cloud as a `.las` file (LAS 1.4, point format 6).

    `classification` holds the learning id, whose name is in the file's classification lookup; the extra dimensions
    `label` and `confidence` hold the raw id and the confidence. Point format 6 has no NaN: a point without a return
    (NaN or 0, 0, 0) keeps its place in the file, at the offset, and is marked as withheld. At 0, it would cost map
    coordinates their millimetres.

    Raises:
        UserError: laspy is not installed, or the coordinates are spread over more than 32 bits of steps.
    """
    try:
        import laspy
        from laspy.vlrs.known import ClassificationLookupVlr
    except ImportError:
        raise UserError("laspy is not installed, which .las files need; pip install 'laspy[lazrs]'") from None
    xyz = points.xyz.astype(np.float64)
    there = PointCloud("", xyz).measured
    low = np.floor(xyz[there].min(axis=0)) if there.any() else np.zeros(3)
    extent = float((xyz[there] - low).max()) if there.any() else 0.0
    step = _LAS_STEP
    while extent / step > _LAS_MOST:
        step *= 10
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.offsets, header.scales = low, np.full(3, step)
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams("label", "u4", "raw id of the class"),
            laspy.ExtraBytesParams("confidence", "f4", "0 to 1"),
        ]
    )
    lookup = ClassificationLookupVlr()
    for number, name in enumerate(points.names):
        lookup[number] = name.encode("ascii", "replace")[:_LAS_NAME].decode("ascii")
    header.vlrs.append(lookup)
    las = laspy.LasData(header)
    placed = np.where(there[:, None], xyz, low)
    las.x, las.y, las.z = placed[:, 0], placed[:, 1], placed[:, 2]
    if points.intensity is not None:
        las.intensity = _sixteen_bits(points.intensity)
    las.classification = points.labels
    las.withheld = (~there).astype(np.uint8)
    las["label"], las["confidence"] = points.raw_labels, points.confidence
    stream = io.BytesIO()
    las.write(stream)
    return stream.getvalue()


def _sixteen_bits(intensity: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Returns intensities as LAS has them, 0..65535; reflectances of 0..1 fill that range."""
    full = 65535.0 if len(intensity) and intensity.max() <= 1 else 1.0
    return np.clip(np.round(intensity * full), 0, 65535).astype(np.uint16)


def _classes_file(points: LabelledPoints, confidence: bool) -> bytes:
    """Encodes learning ids as a `.npy` file of an (N,) uint8 array."""
    return _npy(points.labels)


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


Encode = Callable[[LabelledPoints, bool], bytes]
"""A function that encodes points as the content of a file; the flag asks for confidences, where they are optional."""

FORMATS: dict[str, Encode] = {"label": label_file, "npy": array_file, "ply": ply_file, "las": las_file}
"""Name of the format, which is the suffix of its files -> its encoder."""

CONFIDENCE = "confidence.npy"
"""The suffix of the confidences of a scan."""

PARTS = ("bag.classes.npy", "bag.confidence.npy")
"""The suffixes of what a bag is put together from: the learning ids of each scan and, if asked for, confidences."""

ENCODERS: dict[str, Encode] = {
    **FORMATS, CONFIDENCE: confidence_file, PARTS[0]: _classes_file, PARTS[1]: confidence_file,
}  # fmt: skip
"""The suffix of a file of a scan -> its encoder."""
