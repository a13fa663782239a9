"""Exported models beside the network that they come from: `benchmark.py export`."""
