"""Evaluation and training on a CUDA device with each sparse backend: `benchmark.py gpu`."""
