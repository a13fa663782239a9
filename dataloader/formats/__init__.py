"""Readers of point files and of tables, which treat every file as untrusted input."""
