"""The record that every corruption takes and returns: one LiDAR sweep as columns, with its sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.scan.sensor import Sensor


@dataclass(frozen=True)
class Sweep:
    """A frozen record of one sweep, column by column; row i of every column is the same point.

    A corruption never writes into a column: it returns a sweep with new ones (`dataclasses.replace`, `select`).

    Attributes:
        xyz: (N, 3) float32, metres, the sensor at the origin, z up.
        intensity: (N,) float32, 0 .. `sensor.intensity_max`.
        labels: (N,) uint8 learning ids, 0 is ignored.
        ring: (N,) int32 beam of the point, 0 .. `sensor.beams` - 1 from the top beam down.
        rows: (N,) int64 row of the point in the file it was read from; -1 for an added point.
        altered: (N,) bool, whether the point is a return of weather or noise instead of a surface; it is not scored.
        sensor: the LiDAR that took the sweep.
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
        """Returns the sweep of some of the points.

        Args:
            keep: (N,) bool mask, or (M,) int64 rows in the wanted order.
        """
        columns = (self.xyz, self.intensity, self.labels, self.ring, self.rows, self.altered)
        return Sweep(*(column[keep] for column in columns), sensor=self.sensor)

    def ranges(self) -> np.ndarray:
        """Computes the (N,) float64 distances from the sensor, metres."""
        return np.linalg.norm(self.xyz.astype(np.float64), axis=1)
