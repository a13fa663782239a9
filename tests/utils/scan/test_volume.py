from __future__ import annotations

import numpy as np

from utils.scan.volume import in_volume


def test_volume_is_open_and_excludes_nan(make_scan):
    low, high = (-10, -8, -3), (10, 9, 2)
    scan = make_scan()
    scan.xyz[:8] = [
        [10, 0, 0], [-10, 0, 0], [0, 9, 0], [0, -8, 0], [0, 0, 2], [0, 0, -3], [np.nan, 0, 0], [9.999, 8.999, 1.999],
    ]  # fmt: skip
    wanted = [all(low[a] < p[a] < high[a] for a in range(3)) for p in scan.xyz.tolist()]
    assert np.array_equal(in_volume(scan.xyz, low, high), wanted)
    assert wanted[7] and not any(wanted[:7])
