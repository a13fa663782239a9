"""Made-up scans that resemble real ones: ground, walls and cars around a sensor, beam after beam."""

from __future__ import annotations

import numpy as np


def sweep(beams: int = 16, turn: int = 256, top: float = 1.0, seed: int = 0) -> np.ndarray:
    """Makes (beams * turn, 4) float32 x, y, z (m) and an intensity of 0..`top`, in the order of KITTI's files."""
    rng = np.random.default_rng(seed)
    elevation = np.radians(np.linspace(3, -25, beams))[:, None]
    azimuth = np.linspace(0, 2 * np.pi, turn, endpoint=False)[None, :] + 0 * elevation
    walls = 8 + 6 * np.abs(np.sin(2 * azimuth)) + rng.normal(0, 0.02, azimuth.shape)
    ground = 1.73 / np.maximum(np.tan(-elevation), 1e-3)
    reach = np.minimum(walls, ground)
    intensity = top * np.clip(0.3 + 0.2 * np.sin(5 * azimuth) + rng.normal(0, 0.1, azimuth.shape), 0, 1)
    columns = (reach * np.cos(azimuth), reach * np.sin(azimuth), reach * np.tan(elevation), intensity)
    return np.stack(columns, axis=2).reshape(-1, 4).astype(np.float32)
