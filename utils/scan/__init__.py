"""Records of scans, batches and results, and plain functions on them."""
