"""Corruptions of a sweep by bad weather, noise and other sensors, as equations on NumPy arrays."""
