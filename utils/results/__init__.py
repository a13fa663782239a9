"""The files that a test or a training leaves, and their places."""
