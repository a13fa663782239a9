"""SemanticKITTI on disk -> `Scan` (Behley et al., ICCV 2019; KITTI odometry format, Geiger et al., CVPR 2012).

<data_path>/<sequence>/velodyne/<frame>.bin     float32 N x 4: x, y, z (m), reflectance 0..1
<data_path>/<sequence>/labels/<frame>.label     uint32 N: semantic id (low half), instance id (high half)
<data_path>/<sequence>/image_2/<frame>.png      left colour camera
<data_path>/<sequence>/calib.txt                P2 (camera 0 -> image), Tr (velodyne -> camera 0); see kitti_calibration
<data_path>/<sequence>/poses.txt                one line per scan: pose of camera 0 (past scans only); see `poses`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import image_size, project, read_image
from dataloader.datasets.data_set import DataSet, Part, no_root
from dataloader.datasets.past_sweeps import PastSweep, thinned
from dataloader.datasets.past_thinning import Thinning
from dataloader.datasets.semantickitti.calibration import read_calibration
from dataloader.datasets.semantickitti.corrupted import CorruptedKITTI
from dataloader.datasets.semantickitti.files import read_labels, read_points
from dataloader.datasets.semantickitti.frames import (
    TEST_SCANS,
    is_number,
    missing_numbers,
    some_of,
    unlike_the_benchmark,
)
from dataloader.datasets.semantickitti.poses import Track
from dataloader.datasets.semantickitti.predictions import SemanticKITTIFormat
from dataloader.datasets.semantickitti.sequences import none_there, sequences_of, unlisted
from dataloader.datasets.semantickitti.view import check_view
from dataloader.formats.files import list_sizes, read_bytes
from dataloader.formats.scan_check import (
    KITTI,
    Notes,
    check_sizes,
    look_at_scans,
    note_added,
    note_small_scans,
)
from utils.errors import UserError
from utils.feature_files import FeatureFiles, Picture
from utils.labels import LabelMap
from utils.scan.records import Frame, Scan, constant, no_pixels
from utils.scan.sensor import SEMANTICKITTI

_WHERE = "set data_path of the loader under dataset_params in the config (docs/data/semantickitti.md: where to get it)"


class SemanticKITTI:
    """The scans of one split, in order of sequence and frame; knows nothing of augmentation.

    Only those sequences of the split that are on disk are used, so a part of the data set is a data set.

    Args:
        data_path: the folder that holds the sequence folders "00", "01", ...
        split: which sequences, as listed in `label_map.split`; "trainval" is train and valid. "test" has no labels.
        label_map: raw ids to learning ids, and the split.
        load_image: offer the camera image. Only then are calib.txt and image_2 needed.
        past_scans: number of scans before each one that `past` lists. Only with some are poses.txt and calib.txt
            needed.
        thinning: which past points are kept; None: all.
        labels: read the labels; without them no label file is opened.

    Attributes:
        frames: every scan of the split.
        absent: the sequences of the split that are not on disk.
        notes: lines for the user about what is doubtful.
        label_map: as given.
        num_cameras: images per scan to choose from: 1, or 0 without `load_image`.
        features: kept features, which are read in place of the images; None: images are read.

    Raises:
        UserError: the folder or every sequence is missing, `label_map` lists none, a sequence has no scans, a scan is
            empty or has no label file (but for "test") or one of another length, the first scans of a sequence cannot
            be used, in a sequence of the benchmark's test split a number is left out, or, with `load_image`, an image
            or the calibration is missing, or the camera sees none of the points, or, with `past_scans`, the poses are
            missing or damaged, or, with `thinning`, a prediction is missing or of another length.
    """

    def __init__(
        self,
        data_path: str | Path,
        split: Part,
        label_map: LabelMap,
        load_image: bool = False,
        past_scans: int = 0,
        thinning: Thinning | None = None,
        labels: bool = True,
    ) -> None:
        self.root = Path(data_path)
        self.label_map = label_map
        self.has_labels = labels and split != "test"
        self._submitted = split == "test"
        self.num_cameras = 1 if load_image else 0
        self.features: FeatureFiles | None = None
        wanted = sequences_of(split, label_map)
        if not self.root.is_dir():
            raise no_root(self.root, _WHERE)
        present = [sequence for sequence in wanted if (self.root / sequence).is_dir()]
        if not present:
            raise none_there(self.root, split, wanted, _WHERE)
        self.absent = tuple(sequence for sequence in wanted if sequence not in present)
        self.frames: list[Frame] = []
        self._calibrations: dict[str, NDArray[np.float64]] = {}
        self._past_scans, self._tracks = past_scans, dict[str, Track]()
        self._thinning = thinning
        notes = Notes()
        if said := unlisted(self.root, self.absent, label_map):
            notes.add("unlisted", self.root, said)
        if split == "valid" and (both := sorted(set(present).intersection(label_map.split.get("train", ())))):
            text = (
                f"sequences {some_of(both)} are in split.train and in split.valid: the score is of what was trained on"
            )
            notes.add("both", self.root, text)
        for sequence in present:
            frames = self._list_frames(sequence, notes)
            looked_at = look_at_scans([Path(frame.path) for frame in frames], KITTI, notes)
            if self.has_labels:
                path = self._file(frames[0], "labels", ".label")
                note_added(path, read_bytes(path, "labels").view("<u2")[::2], label_map.added, notes)
            if load_image:
                path = self.root / sequence / "calib.txt"
                calibration = self._calibrations[sequence] = read_calibration(path)
                images = {Path(frame.path): self._file(frame, "image_2", ".png") for frame in frames}
                check_view(path, calibration, [(scan, xyz, images[scan]) for scan, xyz in looked_at.items()], notes)
            if past_scans:
                track = self._tracks[sequence] = Track.read(self.root / sequence, frames)
                if (said := track.spare_lines()) is not None:
                    notes.add("poses", self.root / sequence / "poses.txt", said)
            if thinning is not None:
                thinning.check(frames)
            self.frames += frames
        self.notes = notes.lines()
        if split == "test" and set(label_map.split["test"]) == set(TEST_SCANS):
            counts = Counter(frame.sequence for frame in self.frames)
            self.notes += tuple(filter(None, [unlike_the_benchmark(counts)]))

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """Tells which scan number `index` is."""
        return self.frames[index]

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Reads scan number `index` as it lies on disk.

        Args:
            index: 0 .. len - 1.
            camera: the camera whose image to read (there is one, 0), or None for no image. Without `load_image` there
                is never one.

        Returns:
            All N points of the file, in its order. Labels and instances are 0 in the test split, and without `labels`.
            A coordinate may be NaN or infinite if the file says so; a reflectance that is, reads as 0.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length, or a label id is unknown.
        """
        frame = self.frames[index]
        xyz, intensity = read_points(frame.path)
        count = len(xyz)
        if self.has_labels:
            labels, instances = self._read_labels(frame, count)
        else:
            labels, instances = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.int32)
        scan = Scan(frame, xyz, intensity, labels, instances, np.arange(count, dtype=np.int64), no_pixels(count))
        if camera is None or not self.num_cameras:
            return scan
        features = image = size = None
        if self.features is None:
            image = read_image(self._file(frame, "image_2", ".png"))
            height, width = image.shape[:2]
        else:
            picture = self.picture(index, camera)
            features, size = self.features.read(picture), picture.size
            height, width = size
        pixels = project(scan.xyz, self._calibrations[frame.sequence], width, height)
        return replace(scan, image=image, image_features=features, image_size=size, pixels=pixels)

    def picture(self, index: int, camera: int) -> Picture:
        """Tells which picture the image of a camera is (there is one, 0); only its header is read."""
        path = self._file(self.frames[index], "image_2", ".png")
        width, height = image_size(path)
        return Picture(path, path.relative_to(self.root).as_posix(), (height, width))

    def pixels_of(self, picture: Picture) -> NDArray[np.uint8]:
        """Reads a picture, (H, W, 3) uint8 RGB."""
        return read_image(picture.path)

    def past(self, index: int) -> Sequence[PastSweep]:
        """Lists the scans with the `past_scans` numbers before that of scan `index`, the newest first.

        There are fewer at the start of a sequence and after a gap in its numbers.
        """
        frame = self.frames[index]
        sweeps = self._tracks[frame.sequence].past(frame, self._past_scans) if self._past_scans else ()
        return sweeps if self._thinning is None else thinned(sweeps, self._thinning)

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        """Reads a scan that `past` names, without its image; the errors are those of `read`."""
        frame = sweep.frame
        xyz, intensity = read_points(frame.path, copy=False)  # they are moved next
        count = len(xyz)
        if with_labels and self.has_labels:
            labels, instances = self._read_labels(frame, count)
        else:
            labels, instances = constant(np.uint8(0), count), constant(np.int32(0), count)
        return Scan(frame, xyz, intensity, labels, instances, np.arange(count, dtype=np.int64), no_pixels(count))

    def _read_labels(self, frame: Frame, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        return read_labels(self._file(frame, "labels", ".label"), count, self.label_map)

    def _file(self, frame: Frame, folder: str, suffix: str) -> Path:
        return self.root / frame.sequence / folder / (frame.name + suffix)

    def _list_frames(self, sequence: str, notes: Notes) -> list[Frame]:
        """Lists the scans of a sequence; what must lie beside them is looked for now, not in the middle of an epoch."""
        folder = self.root / sequence
        sizes = list_sizes(folder / "velodyne", ".bin")
        names = sorted(sizes)
        if not names:
            raise UserError(f"{folder / 'velodyne'}: no .bin scans; unpack the velodyne archive, or remove {folder}")
        labels = list_sizes(folder / "labels", ".label")
        if self.has_labels:
            self._require(sequence, "labels", ".label", names, labels)
        if self.num_cameras:
            images = list_sizes(folder / "image_2", ".png")
            self._require(sequence, "image_2", ".png", names, images)
            if empty := [name for name in names if not images[name]]:
                raise UserError(f"{folder / 'image_2' / empty[0]}.png: the file is empty; unpack the image again")
        self._check_numbers(sequence, sizes, labels, notes)
        scans = {name: folder / "velodyne" / f"{name}.bin" for name in names}
        for name, scan in scans.items():
            label = folder / "labels" / f"{name}.label" if self.has_labels else None
            check_sizes(scan, sizes[name], label, labels.get(name, 0), KITTI)
        note_small_scans({scan: sizes[name] for name, scan in scans.items()}, notes)
        return [Frame(sequence, name, str(scan)) for name, scan in scans.items()]

    def _require(self, sequence: str, kind: str, suffix: str, names: list[str], there: Collection[str]) -> None:
        lacking = [name for name in names if name not in there]
        if lacking:
            first = self.root / sequence / kind / (lacking[0] + suffix)
            raise UserError(
                f"{first}: missing ({len(lacking)} of {len(names)} scans of sequence {sequence} have none); "
                f"unpack the {kind} archive there"
            )

    def _check_numbers(self, sequence: str, scans: Collection[str], labels: Collection[str], notes: Notes) -> None:
        """Scans that were there once, by their label file or by their number; a submission must have all of them."""
        folder = self.root / sequence / "velodyne"
        lost = sorted(name for name in labels if name not in scans)
        gaps = missing_numbers(scans)
        strict = self._submitted and sequence in TEST_SCANS
        numbered = [name for name in scans if is_number(name)]
        if numbered and (odd := sorted(set(scans) - set(numbered))):
            text = f"is not called by a number of six digits, as {len(numbered)} scans beside it are"
            if strict:
                raise UserError(f"{folder / odd[0]}.bin: {text}; remove it: a submission must not have more frames")
            notes.add("names", folder / f"{odd[0]}.bin", f"{text} (a copy?)")
        elif strict and not numbered:
            text = "scans of the benchmark are called 000000.bin, 000001.bin and so on; the server knows no others"
            notes.add("names", folder, text)
        if strict and (lost or gaps):
            raise UserError(
                f"{folder / (lost or gaps)[0]}.bin: missing, as {len(lost or gaps)} scans of sequence {sequence} are "
                f"({some_of(lost or gaps)}); a submission needs all of them: unpack the velodyne archive again"
            )
        if lost:
            notes.add("lost", folder, f"{len(lost)} label files have no scan ({some_of(lost)}); they are left out")
        elif gaps and 2 * len(gaps) < len(scans):  # with more it is every second or every tenth scan, on purpose
            notes.add("gap", folder, f"{len(gaps)} scans are missing from the numbering ({some_of(gaps)})")


_VEHICLES = ("car", "bicycle", "bus", "motorcycle", "on-rails", "truck", "other-vehicle")
_PERSONS = ("person", "bicyclist", "motorcyclist")

DATA_SET = DataSet(
    sensor=SEMANTICKITTI,
    label_mapping="config/label_mapping/semantic-kitti.yaml",
    skips_unseen=False,
    open=lambda wanted: SemanticKITTI(
        wanted.path,
        wanted.part,
        wanted.label_map,
        wanted.images,
        wanted.params.past_scans,
        Thinning.of(wanted.params, wanted.label_map),
        wanted.labels,
    ),
    prediction_format=lambda wanted, uses_camera: SemanticKITTIFormat(wanted.label_map),
    open_corrupted=lambda wanted, folder, name, clean: CorruptedKITTI.open(wanted, folder, name),
    things=(*_VEHICLES, *_PERSONS, *(f"moving-{name}" for name in (*_VEHICLES, *_PERSONS))),
    surfaces=("road", "lane-marking", "parking", "sidewalk", "other-ground", "terrain"),
)
"""SemanticKITTI; a part is the sequences that the label mapping lists for it."""
