"""The data sets: how each is read from disk, and how predictions for it are filed."""
