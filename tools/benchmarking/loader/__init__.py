"""The speed of the loaders, from files to batches: `benchmark.py loader`."""
