"""What tools/visualize.py draws: a scan of each data set, with whatever of it is on disk."""
