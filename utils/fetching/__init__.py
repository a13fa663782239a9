"""Checkpoints that lie on the network: from a cache on this machine, else downloaded into it and checked."""
