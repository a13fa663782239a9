"""Evaluation on a GPU as a CUDA graph: the work of a whole scan is started with one call."""
