"""Made-up scans of a street on a slope, with cars, persons and walls, in memory or in the layout of SemanticKITTI.

The ground is a plane that is known, so that a test can tell how high above it something stands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.scan.records import Frame, Scan, no_pixels

CAR, PERSON, ROAD, SIDEWALK, BUILDING = 1, 6, 9, 11, 13
RAW = {CAR: 10, PERSON: 30, ROAD: 40, SIDEWALK: 48, BUILDING: 50}
LIFT = {CAR: 0.25, PERSON: 0.05}
"""How high above the ground the lowest point of an object is, metres."""


def ground_at(x, y):
    """Computes the height z of the ground."""
    return -1.7 + 0.02 * np.asarray(x) - 0.01 * np.asarray(y)


def street_scan(number: int, sequence: str = "00", cars: int = 3, persons: int = 4) -> Scan:
    """Makes a scan: road where |y| < 7, sidewalk beyond, three walls, and objects that do not touch.

    The intensity of a point is its own among all scans: 100 times the number of the scan, and a thousandth of its row.
    """
    rng = np.random.default_rng([number, int(sequence)])
    x, y = rng.uniform(-40, 40, 12_000), rng.uniform(-16, 16, 12_000)
    parts = [(np.column_stack([x, y, ground_at(x, y)]), np.where(np.abs(y) < 7, ROAD, SIDEWALK), 0)]
    for _ in range(3):
        at, side = rng.uniform(-30, 30), rng.choice([-13.0, 13.0])
        xyz = np.column_stack(
            [rng.uniform(at, at + 8, 400), rng.uniform(-0.3, 0.3, 400) + side, rng.uniform(-1, 3, 400)]
        )
        parts.append((xyz, np.full(400, BUILDING), 0))
    for instance in range(1, cars + persons + 1):
        kind = CAR if instance <= cars else PERSON
        place = -36 + 9.0 * instance + rng.uniform(0, 2)
        side = rng.choice([-4.0, 4.0]) if kind == CAR else rng.choice([-9.5, 9.5])
        half = np.array([2.0, 0.9, 0.7] if kind == CAR else [0.3, 0.3, 0.85])
        turn, corner = rng.uniform(0, np.pi), rng.uniform(-1, 1, (60, 3)) * half
        xy = corner[:, :2] @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]] + [place, side]
        z = ground_at(place, side) + LIFT[kind] + corner[:, 2] - corner[:, 2].min()
        parts.append((np.column_stack([xy, z]), np.full(60, kind), instance))
    labels = np.concatenate([label for _, label, _ in parts]).astype(np.uint8)
    count = len(labels)
    return Scan(
        frame=Frame(sequence, f"{number:06d}", f"made up {number}"),
        xyz=np.concatenate([xyz for xyz, _, _ in parts]).astype(np.float32),
        intensity=(100 * number + np.arange(count) / 1000).astype(np.float32),
        labels=labels,
        instances=np.concatenate([np.full(len(xyz), instance) for xyz, _, instance in parts]).astype(np.int32),
        index=np.arange(count),
        pixels=no_pixels(count),
    )


class Street:
    """A source of such scans."""

    num_cameras, absent, notes = 0, (), ()

    def __init__(self, count: int = 4) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def frame(self, index: int) -> Frame:
        """Returns the frame of a scan."""
        return street_scan(index).frame

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Makes a scan."""
        return street_scan(index)


def write_streets(root: Path, train: int = 4, valid: int = 2) -> Path:
    """Writes sequences 00 and 08 of such scans, and returns `root`."""
    for sequence, count in (("00", train), ("08", valid)):
        for kind in ("velodyne", "labels"):
            (root / sequence / kind).mkdir(parents=True)
        for number in range(count):
            scan = street_scan(number, sequence)
            name = f"{number:06d}"
            points = np.column_stack([scan.xyz, scan.intensity]).astype("<f4")
            points.tofile(root / sequence / "velodyne" / f"{name}.bin")
            raw = np.array([RAW[label] for label in scan.labels.tolist()], dtype="<u4")
            (raw | scan.instances.astype("<u4") << 16).astype("<u4").tofile(
                root / sequence / "labels" / f"{name}.label"
            )
    return root
