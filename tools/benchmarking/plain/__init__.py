"""The plain way of doing what this project does: the judge of `benchmark.py stages`, and of tests."""
