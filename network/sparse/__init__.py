"""Sparse 3D convolution: geometry (kernel maps, computed once per voxel set) apart from arithmetic (`convolve`).

`coordinates` packs voxel coordinates into sortable keys. A backend turns keys into a kernel map, and the map convolves:
`torch_backend` runs anywhere and is the reference; `spconv_backend` uses spconv on CUDA. `layers` holds the weights and
does not know which backend it runs on.
"""
