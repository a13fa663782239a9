"""Bad weather, noise and other sensors, as equations on NumPy arrays: sweep in, corrupted sweep out."""
