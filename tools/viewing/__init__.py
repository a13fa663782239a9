"""What tools/view.py shows: a scan of each data set, with whatever of it is on disk."""
