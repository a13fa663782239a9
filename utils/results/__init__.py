"""What a test or a training leaves on disk, and where."""
