"""Sparse 3D convolution, with its geometry (kernel maps, computed once per voxel set) apart from its arithmetic.

`coordinates` packs voxel coordinates into sortable keys. A backend turns keys into a kernel map, and the kernel map
convolves: `torch_backend` runs anywhere and is the reference, `triton_backend` and `spconv_backend` run on CUDA, and
`auto_backend` chooses. `layers` holds the weights and does not know the backend.
"""
