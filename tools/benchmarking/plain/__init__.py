"""Plain versions of what this project does, the reference of `benchmark.py stages` and of tests."""
