"""The step from points to voxels."""
