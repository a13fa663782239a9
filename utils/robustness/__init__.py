"""Robustness tests: families of corrupted sets, their metrics, and the report."""
