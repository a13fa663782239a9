"""The scans that tools/view.py shows, with all that is on disk of them; a file for each data set."""
