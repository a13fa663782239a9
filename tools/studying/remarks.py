"""The remarks of people about the tables, by letter of the experiment; every report writes the whole page."""

from __future__ import annotations

REMARKS: dict[str, str] = {}
"""Letter -> sentences below the table: what contradicts the papers, what was looked into, and what was found."""
