from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from utils.scan.records import Frame, Scan

COLUMNS = ("xyz", "intensity", "labels", "instances", "index", "pixels")


def a_scan(count: int) -> Scan:
    rng = np.random.default_rng(0)
    return Scan(
        frame=Frame("00", "000000", "made/up.bin"),
        xyz=rng.normal(size=(count, 3)).astype(np.float32),
        intensity=rng.random(count).astype(np.float32),
        labels=rng.integers(0, 20, count).astype(np.uint8),
        instances=rng.integers(0, 1000, count).astype(np.int32),
        index=np.arange(count, dtype=np.int64),
        pixels=np.where(rng.random((count, 1)) < 0.5, np.nan, rng.random((count, 2))).astype(np.float32),
    )


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 2, 7, 9], list(range(10))], ids=str)
@pytest.mark.parametrize("slanted", [False, True], ids=["as read", "other strides"])
def test_rows_are_selected_by_mask_as_by_number(rows, slanted) -> None:
    scan = a_scan(20)
    columns = {name: getattr(scan, name)[:: 2 if slanted else 1][:10] for name in COLUMNS}
    scan = replace(scan, **columns)
    mask = np.isin(np.arange(10), rows)
    for selected in (scan.select(mask), scan.select(np.array(rows, dtype=np.int64))):
        assert len(selected) == len(rows)
        for name, column in columns.items():
            found = getattr(selected, name)
            assert found.dtype == column.dtype and found.shape == (len(rows), *column.shape[1:])
            assert all(np.array_equal(one, column[row], equal_nan=True) for one, row in zip(found, rows, strict=True))


def test_no_column_is_forgotten() -> None:
    assert [field.name for field in fields(Scan)] == ["frame", *COLUMNS, "image"]
