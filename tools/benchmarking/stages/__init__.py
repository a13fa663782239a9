"""The comparison of each stage of the project with the plain way of doing it: `benchmark.py stages`."""
