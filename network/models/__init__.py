"""The networks: 2DPASS with its 3D network and its distillation, MinkowskiNet and SPVCNN."""
