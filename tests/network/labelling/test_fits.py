"""What is said about groups of scans that do not fit the training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from dataloader.inputs import InputScan
from network.labelling.fits import Fits
from utils.scan.alignment import Alignment
from utils.scan.fitting import Misfit
from utils.scan.point_cloud import PointCloud


def test_the_same_misfit_of_many_folders_is_said_a_few_times() -> None:
    def diagnose(clouds):
        odd = clouds[0].name == "d7/0.bin"
        return (Misfit("height", "too high", "--sensor_height 9" if odd else "--sensor_height 0"),), Alignment()

    segmenter: Any = SimpleNamespace(alignment=Alignment(), statistics=object(), diagnose=diagnose)
    scans = [InputScan(f"d{number}/0.bin", 0, f"d{number}/0", f"d{number}") for number in range(9)]
    said: list[str] = []
    fits = Fits(
        segmenter,
        scans,
        lambda scan: PointCloud(scan.name, np.ones((1, 3))),
        "warn",
        lambda line, number: said.append(line),
    )
    for scan in scans:
        fits.of(scan)
    assert [line.split()[1] for line in said] == ["d0/0.bin", "d1/0.bin", "d2/0.bin", "d7/0.bin"]
    assert "not said again" in said[2] and "--sensor_height 9" in said[3]


def test_scans_of_another_sensor_among_others_are_named() -> None:
    def diagnose(clouds):
        odd = len(clouds) == 1 and clouds[0].name == "d/2.bin"
        return ((Misfit("intensity", "too large", "--intensity_scale 1/255"),) if odd else ()), Alignment()

    segmenter: Any = SimpleNamespace(alignment=Alignment(), statistics=object(), diagnose=diagnose)
    scans = [InputScan(f"d/{number}.bin", 0, f"d/{number}", "d/*.bin") for number in range(4)]
    said: list[str] = []
    cloud = np.ones((1, 3))
    fits = Fits(segmenter, scans, lambda scan: PointCloud(scan.name, cloud), "warn", lambda line, _: said.append(line))
    fits.of(scans[0])
    (line,) = said
    assert line.startswith("warning: d/2.bin differs from the other scans of d/*.bin in intensity")
