"""SemanticKITTI on disk -> `Scan` (Behley et al., ICCV 2019; KITTI odometry format, Geiger et al., CVPR 2012).

<data_path>/<sequence>/velodyne/<frame>.bin     float32 N x 4: x, y, z (m), reflectance 0..1
<data_path>/<sequence>/labels/<frame>.label     uint32 N: semantic id (low half), instance id (high half)
<data_path>/<sequence>/image_2/<frame>.png      left colour camera
<data_path>/<sequence>/calib.txt                P2 (camera 0 -> image), Tr (velodyne -> camera 0)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataloader.camera import project, read_image
from dataloader.files import list_stems, read_bytes, read_point_file
from utils.errors import UserError
from utils.labels import LabelMap
from utils.structures import Frame, Scan, no_pixels

Split = Literal["train", "valid", "test", "trainval"]

_WHERE = "set data_path of the loader under dataset_params in the config (the README says how to get the data)"


class SemanticKITTI:
    """The scans of one split, in order of sequence and frame; knows nothing of augmentation.

    Only those sequences of the split that are on disk are used, so a part of the data set is a data set.

    Args:
        data_path: the folder that holds the sequence folders "00", "01", ...
        split: which sequences, as listed in `label_map.split`; "trainval" is train and valid. "test" has no labels.
        label_map: raw ids to learning ids, and the split.
        load_image: offer the camera image. Only then are calib.txt and image_2 needed.

    Attributes:
        frames: every scan of the split.
        absent: the sequences of the split that are not on disk.
        label_map: as given.
        num_cameras: images per scan to choose from: 1, or 0 without `load_image`.

    Raises:
        UserError: the folder or every sequence is missing, `label_map` lists none, a sequence has no scans, a scan has
            no label file (but for "test"), or, with `load_image`, an image or the calibration is missing.
    """

    def __init__(self, data_path: str | Path, split: Split, label_map: LabelMap, load_image: bool = False) -> None:
        self.root = Path(data_path)
        self.label_map = label_map
        self.has_labels = split != "test"
        self.num_cameras = 1 if load_image else 0
        wanted = _sequences(split, label_map)
        if not self.root.is_dir():
            raise UserError(f"{data_path}: no such folder; {_WHERE}")
        present = [sequence for sequence in wanted if (self.root / sequence).is_dir()]
        if not present:
            raise UserError(f"{data_path}: holds none of the sequences {', '.join(wanted)} ({split}); {_WHERE}")
        self.absent = tuple(sequence for sequence in wanted if sequence not in present)
        self.frames: list[Frame] = []
        self._calibrations: dict[str, NDArray[np.float64]] = {}
        for sequence in present:
            self.frames += self._list_frames(sequence)
            if load_image:
                self._calibrations[sequence] = read_calibration(self.root / sequence / "calib.txt")

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """Which scan number `index` is."""
        return self.frames[index]

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Scan number `index` as it lies on disk.

        Args:
            index: 0 .. len - 1.
            camera: the camera whose image to read (there is one, 0), or None for no image. Without `load_image` there
                is never one.

        Returns:
            All N points of the file, in its order. Labels and instances are 0 in the test split. A coordinate may be
            NaN or infinite if the file says so; a reflectance that is, reads as 0.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length, or a label id is unknown.
        """
        frame = self.frames[index]
        xyz, intensity = read_points(frame.path)
        count = len(xyz)
        if self.has_labels:
            labels, instances = read_labels(self._file(frame, "labels", ".label"), count, self.label_map)
        else:
            labels, instances = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.int32)
        image = None
        if camera is not None and self.num_cameras:
            image = read_image(self._file(frame, "image_2", ".png"))
            height, width = image.shape[:2]
            pixels = project(xyz, self._calibrations[frame.sequence], width, height)
        else:
            pixels = no_pixels(count)
        index_in_file = np.arange(count, dtype=np.int64)
        return Scan(frame, xyz, intensity, labels, instances, index_in_file, pixels, image)

    def _file(self, frame: Frame, folder: str, suffix: str) -> Path:
        return self.root / frame.sequence / folder / (frame.name + suffix)

    def _list_frames(self, sequence: str) -> list[Frame]:
        """The scans of a sequence; what must lie beside them is looked for now, not in the middle of an epoch."""
        folder = self.root / sequence
        names = sorted(list_stems(folder / "velodyne", ".bin"))
        if not names:
            raise UserError(f"{folder / 'velodyne'}: no .bin scans; unpack the velodyne archive, or remove {folder}")
        beside = [("labels", ".label")] if self.has_labels else []
        beside += [("image_2", ".png")] if self.num_cameras else []
        for kind, suffix in beside:
            lacking = sorted(set(names) - list_stems(folder / kind, suffix))
            if lacking:
                first = folder / kind / (lacking[0] + suffix)
                raise UserError(
                    f"{first}: missing ({len(lacking)} of {len(names)} scans of sequence {sequence} have none); "
                    f"unpack the {kind} archive there"
                )
        return [Frame(sequence, name, str(folder / "velodyne" / f"{name}.bin")) for name in names]


def _sequences(split: Split, label_map: LabelMap) -> tuple[str, ...]:
    names = ("train", "valid") if split == "trainval" else (split,)
    for name in names:
        if name not in label_map.split:
            raise UserError(
                f"dataset_params.label_mapping: the file has no sequences under split.{name}; take SemanticKITTI's"
            )
    return tuple(sequence for name in names for sequence in label_map.split[name])


def read_points(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A KITTI velodyne file.

    Returns:
        xyz: (N, 3) float32, metres, N > 0. intensity: (N,) float32, finite.

    Raises:
        UserError: the file is missing, empty, or not a whole number of points.
    """
    return read_point_file(path, columns=4)


def read_labels(path: str | Path, count: int, label_map: LabelMap) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A SemanticKITTI label file.

    Args:
        path: the file.
        count: points in the scan.
        label_map: raw ids to learning ids.

    Returns:
        labels: (count,) uint8 learning ids. instances: (count,) int32.

    Raises:
        UserError: the file is missing, has another number of points, or holds an id that the map does not know.
    """
    content = read_bytes(path, "labels")
    if content.size != 4 * count:
        raise UserError(
            f"{path}: {content.size / 4:g} labels for {count} points; scan and labels do not belong together or one "
            "is truncated: unpack both again"
        )
    halves = content.view("<u2").reshape(-1, 2)
    return label_map.learning_ids(halves[:, 0], path), halves[:, 1].astype(np.int32)


def read_calibration(path: str | Path) -> NDArray[np.float64]:
    """The (3, 4) float64 map from (x, y, z, 1) in the velodyne frame to (u, v, w): P2 @ [Tr; 0 0 0 1].

    Raises:
        UserError: the file is missing, or lacks P2 or Tr, or one of them is not 12 finite numbers.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the calibration ({error.strerror}); unpack the KITTI odometry calibration there"
        ) from error
    entries = {key.strip(): numbers for key, colon, numbers in (line.partition(":") for line in lines) if colon}
    p2, tr = (_matrix(entries, key, path) for key in ("P2", "Tr"))
    return p2 @ np.vstack([tr, [0.0, 0.0, 0.0, 1.0]])


def _matrix(entries: dict[str, str], key: str, path: str | Path) -> NDArray[np.float64]:
    if key not in entries:
        raise UserError(f"{path}: key {key} is missing; take calib.txt from the KITTI odometry calibration archive")
    try:
        matrix = np.array([float(number) for number in entries[key].split()]).reshape(3, 4)
    except ValueError as error:
        raise UserError(f"{path}: key {key} must hold 12 numbers; unpack the calibration again") from error
    if not np.isfinite(matrix).all():
        raise UserError(f"{path}: key {key} must hold finite numbers only; unpack the calibration again")
    return matrix
