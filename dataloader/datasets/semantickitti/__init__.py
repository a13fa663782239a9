"""SemanticKITTI on disk: how its scans, images and labels are read, and how predictions for it are filed."""
