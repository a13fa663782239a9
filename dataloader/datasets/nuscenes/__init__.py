"""nuScenes-lidarseg on disk: its tables, how its scans are read, and how predictions for it are filed."""
