"""From points to voxels."""
