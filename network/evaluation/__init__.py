"""The step from a batch to the class of every point: views and votes, and on a GPU the evaluation as a CUDA graph."""
