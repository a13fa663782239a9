"""The scans that tools/view.py shows, with all that is on disk of them, for each data set."""
