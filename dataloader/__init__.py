"""The way from files on disk to batches."""
