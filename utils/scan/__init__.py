"""Records of scans, batches and results, and functions on them."""
