"""Sizes of checkpoints."""

from __future__ import annotations

LARGEST = 8 << 30
"""The size of the largest checkpoint that is read or fetched, in bytes."""


def megabytes(size: int) -> str:
    """Returns a number of bytes in MB (10^6 bytes), with a digit behind the point."""
    return f"{size / 1e6:.1f}"
