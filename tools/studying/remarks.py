"""What people say about the tables, by letter of the experiment: the page is written anew by every report."""

from __future__ import annotations

REMARKS: dict[str, str] = {}
"""Letter -> sentences below the table: what contradicts the papers, what was looked into, and what was found."""
