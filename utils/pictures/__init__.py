"""Pictures of scans, and charts."""
