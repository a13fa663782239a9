"""The sensors of the made-up street: a spinning LiDAR and cameras."""
