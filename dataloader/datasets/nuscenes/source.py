"""nuScenes-lidarseg on disk -> `Scan` (Caesar et al., CVPR 2020; Fong et al., RA-L 2022).

<data_path>/<version>/*.json                                 tables; see `dataloader.datasets.nuscenes.tables`
<data_path>/samples/LIDAR_TOP/*.pcd.bin                      float32 N x 5: x, y, z (m), intensity 0..255, ring
<data_path>/sweeps/LIDAR_TOP/*.pcd.bin                       the sweeps between key frames, if past sweeps are wanted
<data_path>/samples/CAM_*/*.jpg                              six cameras, 1600 x 900
<data_path>/lidarseg/<version>/<token>_lidarseg.bin          uint8 N: index in category.json

The scans are the key frames. The tables are read once for a version; see `dataloader.datasets.nuscenes.index`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.datasets.camera import project, read_image
from dataloader.datasets.data_set import DataSet, Request
from dataloader.datasets.nuscenes import tables
from dataloader.datasets.nuscenes.build import build_apart
from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.files import read_labels
from dataloader.datasets.nuscenes.history import History, NuScenesSweep
from dataloader.datasets.nuscenes.index import open_index
from dataloader.datasets.nuscenes.predictions import NuScenesFormat
from dataloader.datasets.nuscenes.splits import scenes_of
from dataloader.datasets.nuscenes.versions import WHERE, version_and_split, version_folder
from dataloader.datasets.past_sweeps import PastSweep
from dataloader.datasets.source import Source
from dataloader.formats.files import file_sizes, missing_files, read_bytes, read_point_file
from dataloader.formats.scan_check import (
    NUSCENES,
    Notes,
    check_sizes,
    look_at_scans,
    note_added,
    note_small_scans,
)
from utils.config.data import NuScenesImages
from utils.errors import UserError
from utils.feature_files import FeatureFiles, Picture
from utils.labels import LabelMap
from utils.names import checked_name, checked_path
from utils.scan import sensor
from utils.scan.records import Frame, Scan, no_pixels

CAMERAS = tables.CAMERAS


class NuScenes:
    """The key frames of one split, in order of scene name and time; knows nothing of augmentation.

    Only those scenes of the split that are in the tables are used, so a part of the data set is a data set.

    Args:
        data_path: the folder that holds the folder `version`, samples and lidarseg.
        version: "v1.0-trainval", "v1.0-mini" or "v1.0-test".
        split: an official split of that version: "train", "val" or both as "trainval"; "mini_train" or "mini_val";
            "test", which has no labels.
        label_map: category names to learning ids.
        image_size: offer the camera images, brought to this (width, height). None: no images; then none are needed.
        past_sweeps: number of sweeps before each key frame that `past` lists. Only with some are ego_pose.json and the
            sweeps between key frames needed.
        labels: read the labels; without them no label file is opened.

    Attributes:
        absent: the scenes of the split that are not in the tables.
        label_map: as given, but for the raw ids, which are those of this tree's category.json (not for "test").
        notes: lines for the user about what is doubtful.
        num_cameras: images per scan to choose from: 6, or 0 without `image_size`.
        features: kept features, which are read in place of the images; None: images are read.

    Raises:
        UserError: the folder, the version, a table or every scene is missing, a table is damaged, the split is none of
            the version's, labels are wanted and there are none, or a scan, a label file or, with `image_size`, an
            image is missing, a scan is empty or has another number of points than its labels, the first scans cannot
            be used, or no camera sees any of their points, or, with `past_sweeps`, a sweep is missing, empty or no
            whole number of points, or a scan has no pose.
    """

    def __init__(
        self,
        data_path: str | Path,
        version: str,
        split: str,
        label_map: LabelMap,
        image_size: tuple[int, int] | None = None,
        past_sweeps: int = 0,
        labels: bool = True,
    ) -> None:
        self.root = Path(data_path)
        self.has_labels = labels and split != "test"
        self.num_cameras = len(CAMERAS) if image_size is not None else 0
        self._image_size = image_size
        self.features: FeatureFiles | None = None
        self._folder = version_folder(self.root, version, split)
        self._index = open_index(self._folder, partial(build_apart, self.root, version))
        names = scenes_of(split)
        scenes = self._index.records["scene"]
        present = set(_decoded(np.unique(scenes)))
        self.absent = tuple(name for name in names if name not in present)
        self._rows = np.flatnonzero(np.isin(scenes, np.array([name.encode() for name in names]))).astype(np.int32)
        if not len(self._rows):
            raise UserError(f"{self._folder}: the tables hold no scene of the split {split}; {WHERE}")
        self.label_map = self._match_categories(label_map) if self.has_labels else label_map
        notes, sizes = Notes(), self._check_files(version, split)
        self._history = None
        if past_sweeps:
            self._history = History.open(self.root, version, self._index, self._rows, past_sweeps)
            self._history.look(split, version, notes)
        self.notes = self._look_at_scans(sizes, notes)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def knows_images(self) -> bool:
        """True if the tables have the images of all scans, so that `image_size` may be asked for."""
        return bool((self._column("images") != b"").all())

    def frame(self, index: int) -> Frame:
        """Tells which scan number `index` is: its scene, and the token of its LIDAR_TOP sample_data."""
        record = self._record(index)
        return Frame(record["scene"].decode(), record["token"].decode(), str(self.root / record["lidar"].decode()))

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Reads scan number `index` as it lies on disk.

        Args:
            index: 0 .. len - 1.
            camera: which of `CAMERAS` to read, or None for no image. Without `image_size` there is never one.

        Returns:
            All N points of the file, in its order; intensity 0..255. Labels are 0 in the test split, instances always.
            A coordinate may be NaN or infinite if the file says so; an intensity that is, reads as 0. Pixels are those
            of the resized image.

        Raises:
            UserError: a file is missing, truncated, empty or of the wrong length, or a label is not in category.json.
        """
        record = self._record(index)
        scan = self._read_points(self.frame(index), record["lidarseg"].decode() if self.has_labels else "")
        if camera is None or self._image_size is None:
            return scan
        pixels = project(scan.xyz, self.projection(index, camera), *self._image_size, front="depth")
        if self.features is None:
            return replace(scan, image=self.image(index, camera), pixels=pixels)
        picture = self.picture(index, camera)
        return replace(scan, image_features=self.features.read(picture), image_size=picture.size, pixels=pixels)

    def picture(self, index: int, camera: int) -> Picture:
        """Tells which picture the image of one of `CAMERAS` is, at `image_size`, which must have been given."""
        name = self._record(index)["images"][camera].decode()
        assert self._image_size is not None
        width, height = self._image_size
        return Picture(self.root / name, name, (height, width))

    def pixels_of(self, picture: Picture) -> NDArray[np.uint8]:
        """Reads a picture, (H, W, 3) uint8 RGB of its size."""
        return read_image(picture.path, self._image_size)

    def past(self, index: int) -> Sequence[PastSweep]:
        """Lists the `past_sweeps` sweeps before scan `index`, key frames among them, the newest first.

        There are fewer at the start of a scene. Points closer than a metre to the sensor are returns of the own car.
        """
        return () if self._history is None else self._history.past(index)

    def read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        """Reads a sweep that `past` names; only key frames have labels. The errors are those of `read`."""
        assert isinstance(sweep, NuScenesSweep)
        labels = sweep.lidarseg if with_labels and self.has_labels else ""
        return self._read_points(sweep.frame, labels, copy=False)  # they are moved next

    def _read_points(self, frame: Frame, lidarseg: str, copy: bool = True) -> Scan:
        """Reads a sweep; labels are 0 without the file `lidarseg` below data_path."""
        xyz, intensity = read_point_file(frame.path, columns=5, copy=copy)
        count = len(xyz)
        labels = np.zeros(count, dtype=np.uint8)
        if lidarseg:
            path = self.root / checked_path(lidarseg, "filename", self._index.path or self._folder)
            labels = read_labels(path, count, self.label_map)
        instances, rows = np.zeros(count, dtype=np.int32), np.arange(count, dtype=np.int64)
        return Scan(frame, xyz, intensity, labels, instances, rows, no_pixels(count))

    def image(self, index: int, camera: int) -> NDArray[np.uint8]:
        """Reads the image of one of `CAMERAS`, (H, W, 3) uint8 RGB of `image_size`, which must have been given.

        Raises:
            UserError: the file is missing, truncated or no JPEG.
        """
        return read_image(self.root / self._record(index)["images"][camera].decode(), self._image_size)

    def projection(self, index: int, camera: int) -> NDArray[np.float64]:
        """Computes where a camera sees a point, in the image as `image` reads it.

        Returns:
            (3, 4) float64, from (x, y, z, 1) in the lidar frame to (u, v, depth): metres; u / depth and v / depth are
            the column and the row.
        """
        record = self._record(index)
        assert self._image_size is not None
        scale = np.append(self._image_size / record["sizes"][camera], 1.0)
        return scale[:, None] * record["matrices"][camera]

    def _look_at_scans(self, sizes: Mapping[str, int], notes: Notes) -> tuple[str, ...]:
        """Looks at the `sizes` of all files and into some scans of the split; returns all lines for the user."""
        scans, labels = ([name.decode() for name in self._column(kind)] for kind in ("lidar", "lidarseg"))
        for scan, label in zip(scans, labels, strict=True):
            labelled = self.root / label if self.has_labels else None
            check_sizes(self.root / scan, sizes[scan], labelled, sizes.get(label, 0), NUSCENES)
        note_small_scans({self.root / scan: sizes[scan] for scan in scans}, notes)
        seen = look_at_scans([self.root / scan for scan in scans], NUSCENES, notes)
        if self.has_labels:
            path = self.root / labels[0]
            note_added(path, read_bytes(path, "labels"), self.label_map.added, notes)
        if self.num_cameras:
            self._check_view(seen, notes)
        return notes.lines()

    def _check_view(self, seen: Mapping[Path, NDArray[np.float32]], notes: Notes) -> None:
        """Looks whether the cameras see points of the first scan of `seen`; of others too, before it is refused."""
        blind = set(range(self.num_cameras))
        rows = {self.root / name.decode(): index for index, name in enumerate(self._column("lidar"))}
        for path, xyz in seen.items():
            record = self._record(rows[path])
            for camera in tuple(blind):
                width, height = record["sizes"][camera].tolist()
                if (project(xyz, record["matrices"][camera], width, height, front="depth")[:, 0] >= 0).any():
                    blind.remove(camera)
            if not blind:
                return
        names = ", ".join(CAMERAS[camera] for camera in sorted(blind))
        text = f"no point of {self.frame(0).path} falls into the image of {names}"
        table = self._folder / "calibrated_sensor.json"
        if len(blind) == self.num_cameras:
            raise UserError(f"{table}: {text}; unpack the metadata archive again")
        notes.add("view", table, text)

    def _record(self, index: int) -> Any:
        return self._index.records[self._rows[index]]

    def _match_categories(self, label_map: LabelMap) -> LabelMap:
        table = self._folder / "category.json"
        version = self._folder.name
        if not (self._folder / "lidarseg.json").is_file():
            raise UserError(f"{self._folder}: no lidarseg.json, so no labels; {tables.get_lidarseg(version)}")
        if not self._index.categories:
            raise UserError(f"{table}: {tables.without_index(version)}")
        return label_map.with_raw_names(self._index.categories, table)

    def _check_files(self, version: str, split: str) -> dict[str, int]:
        """Looks for all files now, not in the middle of an epoch; returns the sizes of scans and labels, by name."""
        origin = self._index.path or self._folder  # checked when it was built; but it may have come with the data
        for token in _decoded(self._column("token")):
            checked_name(token, "token", origin)
        if self.num_cameras:
            self._require_cameras(version, split)
        if self.has_labels:
            self._require_labels(version, split)

        def names_in(column: NDArray[Any]) -> list[str]:
            return [checked_path(name, "filename", origin) for name in _decoded(column)]

        def refuse(missing: list[str], kind: str, archive: str) -> None:
            if missing:
                raise UserError(
                    f"{self.root / missing[0]}: missing ({len(missing)} of {len(self)} {kind} files of {split} are); "
                    f"unpack {archive} into {self.root}"
                )

        sensors, lidarseg = f"the sensor archives of {version}", f"the nuScenes-lidarseg archive of {version}"
        sizes: dict[str, int] = {}
        for column, kind, archive in (("lidar", tables.LIDAR, sensors), ("lidarseg", "lidarseg", lidarseg)):
            if column == "lidar" or self.has_labels:
                names = names_in(self._column(column))
                sizes |= file_sizes(self.root, names)
                refuse(sorted(name for name in names if name not in sizes), kind, archive)
        if self.num_cameras:
            for column, camera in zip(self._column("images").T, CAMERAS, strict=True):
                refuse(missing_files(self.root, names_in(column)), camera, sensors)  # quicker than sizes
        return sizes

    def _require_labels(self, version: str, split: str) -> None:
        lacking = np.flatnonzero(self._column("lidarseg") == b"")
        if len(lacking):
            raise UserError(
                f"{self._folder / 'lidarseg.json'}: no labels for {len(lacking)} of {len(self)} scans of {split}, "
                f"such as {self.frame(lacking[0]).name}; {tables.get_lidarseg(version)}"
            )

    def _require_cameras(self, version: str, split: str) -> None:
        lacking = self._column("images") == b""
        if lacking.any():
            row, camera = np.argwhere(lacking)[0]
            raise UserError(
                f"{self._folder}: the tables lack the key frame, calibration or pose of {CAMERAS[camera]} for "
                f"{np.count_nonzero(lacking[:, camera])} of {len(self)} scans of {split}, such as "
                f"{self.frame(row).name}; unpack the metadata archive of {version} again, or train without images"
            )

    def _column(self, name: str) -> NDArray[Any]:
        return self._index.records[name][self._rows]


def _decoded(values: Iterable[bytes]) -> list[str]:
    """Decodes names; what is no ASCII becomes a character that no name may hold."""
    return [value.decode("ascii", errors="replace") for value in values]


def _open(wanted: Request) -> NuScenes:
    version, split = version_and_split(wanted)
    image_size = wanted.params.resize if wanted.images and isinstance(wanted.params, NuScenesImages) else None
    past, labels = wanted.params.past_sweeps, wanted.labels
    return NuScenes(wanted.path, version, split, wanted.label_map, image_size, past, labels)


def _open_corrupted(wanted: Request, folder: Path, name: str, clean: Callable[[], Source]) -> CorruptedNuScenes:
    split = clean()
    assert isinstance(split, NuScenes)
    return CorruptedNuScenes(folder, name, split, version_and_split(wanted)[0])


_THINGS = (
    *(f"human.pedestrian.{who}" for who in ("adult", "child", "construction_worker", "police_officer")),
    *("movable_object.barrier", "movable_object.trafficcone", "vehicle.bicycle", "vehicle.bus.bendy"),
    *("vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.motorcycle", "vehicle.trailer"),
    "vehicle.truck",
)
"""The categories of the ten thing classes of the panoptic challenge (Fong et al., RA-L 2022)."""

DATA_SET = DataSet(
    sensor=sensor.NUSCENES,
    label_mapping="config/label_mapping/nuscenes.yaml",
    skips_unseen=True,
    open=_open,
    prediction_format=lambda wanted, uses_camera: NuScenesFormat(version_and_split(wanted)[1], uses_camera),
    open_corrupted=_open_corrupted,
    things=_THINGS,
    surfaces=("flat.driveable_surface", "flat.sidewalk", "flat.terrain", "flat.other"),
    has_instances=False,
)
"""nuScenes-lidarseg; a part is an official split of the version that the config or --debug chooses."""
