"""The 2D networks that teach the 3D network: they compute image features at the points and run in training only."""
