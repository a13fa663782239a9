"""Data types, configuration, metrics and output: what every other part builds upon."""
