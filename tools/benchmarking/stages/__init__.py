"""Each stage of the project beside the plain way of doing it: `benchmark.py stages`."""
