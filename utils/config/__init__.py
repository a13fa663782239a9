"""Configuration files: their keys, their checks, and their reading and writing."""
