"""Where the prediction of a scan lies below a folder that a test has written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError


def find_prediction(folder: Path, names: Sequence[str], subset: str = "") -> Path:
    """The file with the prediction of a scan.

    Args:
        folder: where to look.
        names: what the file may be called below the folder of one test; the first is the usual.
        subset: of a corrupted set: robust_test.py has a folder of predictions for each, so `folder` may also be that
            of its run, or `subsets` in it.

    Raises:
        UserError: there is none.
    """
    of_subset = (folder / subset / "predictions", folder / "subsets" / subset / "predictions") if subset else ()
    for base in (folder, *of_subset):
        for name in names:
            if (base / name).is_file():
                return base / name
    raise UserError(
        f"{folder / names[0]}: missing; --predictions must be a folder of predictions or of a submission that a test "
        f"of {subset or 'these scans'} has written"
    )
