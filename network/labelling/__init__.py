"""The labelling of lists of scans: files and bags of any origin, one after the other, with what is said about them."""
