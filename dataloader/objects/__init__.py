"""Data base of objects: things that are cut out of training scans once, to be pasted into others."""
