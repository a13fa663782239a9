"""Experiment trackers, each behind the same small interface."""
