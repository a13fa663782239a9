"""The 2D side of 2DPASS: features of the camera images under the points. Used in training only."""
