"""The scans of a SemanticKITTI sequence by their numbers: which are missing, and how many the benchmark has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

TEST_SCANS = {
    "11": 921, "12": 1061, "13": 3281, "14": 631, "15": 1901, "16": 1731, "17": 491, "18": 1801, "19": 4981,
    "20": 831, "21": 2721,
}  # fmt: skip
"""Scans of each test sequence of the benchmark (Behley et al., ICCV 2019); 20,351 in all."""


_MOST = 10**7  # scans of a sequence; larger numbers are times


def is_number(name: str) -> bool:
    """Returns whether a scan is called as those of KITTI are: "000000"."""
    return len(name) == 6 and name.isdecimal() and name.isascii()


def frame_numbers(names: Collection[str]) -> dict[str, int]:
    """Numbers the scans of a sequence by their names, or by their order where the names are no numbers.

    Args:
        names: of all scans.

    Returns:
        name -> number. Beside scans that are called by numbers of six digits, others have no number. By their order are
        numbered scans that are called by times or by text, and all if two have one number ("1" and "01").
    """
    numbered = [name for name in names if is_number(name)]
    if not numbered and all(name.isdecimal() and name.isascii() and int(name) < _MOST for name in names):
        numbered = list(names)  # KITTI's raw data: ten digits
    numbers = {name: int(name) for name in numbered}
    if not numbers or len(set(numbers.values())) < len(numbers):
        return {name: place for place, name in enumerate(sorted(names, key=_time_or_text))}
    return numbers


def numbered_by_name(numbers: Mapping[str, int]) -> bool:
    """Returns whether `frame_numbers` has found the numbers in the names, not in their order."""
    return all(name.isdecimal() and int(name) == number for name, number in numbers.items())


def _time_or_text(name: str) -> tuple[list[tuple[Decimal, str]], str]:
    """Returns what names are sorted by, so that 2 comes before 10, and 9.5 before 10.25."""
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", name)
    values = [(Decimal(part), "") if place % 2 else (Decimal(-1), part) for place, part in enumerate(parts)]
    return values, name


def missing_numbers(names: Collection[str]) -> list[str]:
    """Names that are lacking in the numbering 000000, 000001 and so on up to the last, in order.

    None where the names are no numbers of six digits.
    """
    if not names or not all(map(is_number, names)):
        return []
    last = max(map(int, names))
    return [name for name in (f"{number:06d}" for number in range(last + 1)) if name not in names]


def some_of(names: Collection[str], most: int = 3) -> str:
    """Lists the first of `names`, and how many more there are: "000004, 000007, 000009 and 2 more"."""
    first = ", ".join(list(names)[:most])
    return first + (f" and {len(names) - most} more" if len(names) > most else "")


def unlike_the_benchmark(counts: Mapping[str, int]) -> str | None:
    """Describes what is there of the test scans, if it is not what the benchmark has.

    Args:
        counts: sequence -> scans; sequences that are not of the benchmark's test split are left out.

    Returns:
        A line for the user, or None.
    """
    other = [
        f"{sequence}: {count} of {TEST_SCANS[sequence]}"
        for sequence, count in counts.items()
        if sequence in TEST_SCANS and count != TEST_SCANS[sequence]
    ]
    if not other:
        return None
    there, wanted = sum(counts.values()), sum(TEST_SCANS.values())
    return (
        f"of the {wanted:,} test scans of the benchmark {there:,} are here (scans of sequence {some_of(other)}); the "
        "server takes complete submissions only"
    )
