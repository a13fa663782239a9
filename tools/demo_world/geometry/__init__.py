"""Rays, surfaces, the ground and rigid motions of the made-up street."""
