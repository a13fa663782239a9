"""Augmentation of a training scan: points, image, mixing and weather, each a function of a scan and a generator."""
