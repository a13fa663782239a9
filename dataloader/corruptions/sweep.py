"""What every corruption takes and gives: one LiDAR sweep as columns, and what must be known of its sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.scan.sensor import Sensor


@dataclass(frozen=True)
class Sweep:
    """One sweep; row i of every column is one point.

    A corruption never writes into a column: it returns a sweep with new ones (`dataclasses.replace`, `select`).

    Attributes:
        xyz: (N, 3) float32, metres, the sensor at the origin, z up.
        intensity: (N,) float32, 0 .. `sensor.intensity_max`.
        labels: (N,) uint8 learning ids, 0 is ignored.
        ring: (N,) int32 beam of the point, 0 .. `sensor.beams` - 1.
        rows: (N,) int64 row of the point in the file it was read from.
        altered: (N,) bool, a return of weather or noise instead of a surface: its label is not to be scored.
        sensor: the LiDAR that saw it.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    labels: np.ndarray
    ring: np.ndarray
    rows: np.ndarray
    altered: np.ndarray
    sensor: Sensor

    def __len__(self) -> int:
        return len(self.xyz)

    def select(self, keep: np.ndarray) -> Sweep:
        """The sweep of some points.

        Args:
            keep: (N,) bool mask, or (M,) rows in the wanted order.
        """
        columns = (self.xyz, self.intensity, self.labels, self.ring, self.rows, self.altered)
        return Sweep(*(column[keep] for column in columns), sensor=self.sensor)

    def ranges(self) -> np.ndarray:
        """(N,) float64, metres from the sensor."""
        return np.linalg.norm(self.xyz.astype(np.float64), axis=1)
