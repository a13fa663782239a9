from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from utils.scan.records import Frame, Scan, constant, no_pixels

COLUMNS = ("xyz", "intensity", "labels", "instances", "index", "pixels", "age")


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
        age=rng.integers(0, 3, count).astype(np.float32),
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
    assert [field.name for field in fields(Scan)] == [
        "frame",
        *COLUMNS[:-1],
        "image",
        "age",
        "image_features",
        "image_size",
    ]


def rows_of(scan: Scan, rows) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(scan, "ages" if name == "age" else name))[rows] for name in COLUMNS}


@pytest.mark.parametrize("of_second", [None, [True] * 6, [True, False] * 3, [5, 0, 3], []], ids=str)
def test_appended_rows_are_those_of_each_column(of_second) -> None:
    """Whatever is constant in one scan, in both or in none, and whether rows are chosen by number or by mask."""
    one, other = a_scan(9), a_scan(6)
    past = replace(
        other, age=constant(np.float32(2), 6), index=constant(np.int64(-1), 6), pixels=no_pixels(6), image=None
    )
    rows = None if of_second is None else np.array(of_second, dtype=bool if of_second[:1] == [True] else np.int64)
    for scans in ((one, past), (replace(one, age=None, pixels=no_pixels(9)), past), (past, replace(past, age=None))):
        chosen = np.arange(len(scans[0])) != 4
        found = Scan.concatenate(scans, [chosen, rows])
        parts = rows_of(scans[0], chosen), rows_of(scans[1], slice(None) if rows is None else rows)
        assert found.frame is scans[0].frame
        for name in COLUMNS:
            expected = np.concatenate([part[name] for part in parts])
            column = getattr(found, name)
            assert column.dtype == expected.dtype and np.array_equal(
                column, expected, equal_nan=column.dtype.kind == "f"
            )


def test_what_is_constant_stays_so_and_uses_no_memory() -> None:
    past = replace(a_scan(6), age=constant(np.float32(2), 6), pixels=no_pixels(6))
    both = Scan.concatenate([past, past]).select(np.arange(12) > 3)
    assert both.age is not None and both.age.tolist() == [2] * 8 and not any(both.age.strides)
    assert both.pixels.shape == (8, 2) and not any(both.pixels.strides)
