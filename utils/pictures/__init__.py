"""Pictures of scans, and charts of scores."""
