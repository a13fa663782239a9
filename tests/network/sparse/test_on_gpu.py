"""The sparse backends and the whole of 2DPASS on a CUDA device; these tests are skipped without one.

Results are compared with torch's dense convolution in float64 on the CPU, and with outputs of the published network.
"""

from __future__ import annotations

import copy

import pytest
import torch

from network.sparse import torch_backend
from network.sparse.layers import SparseBackend
from tests.network.models.test_golden_2dpass import case  # noqa: F401  (a fixture)
from tests.network.models.test_golden_2dpass import relative_error as golden_error
from tests.network.sparse.test_convolution import VOXEL_SETS, dense_convolution
from tests.support.networks import relative_error
from tests.support.sparse import KINDS, make_map
from utils.fp32 import set_fp32_arithmetic

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda", 0)
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
CHANNELS = ((4, 32), (64, 64), (20, 24))


@pytest.fixture(autouse=True)
def exact_fp32():
    set_fp32_arithmetic(tf32=False)


@pytest.fixture(params=["torch", "triton", "spconv"])
def backend(request) -> SparseBackend:
    """Provides each backend that can be imported."""
    if request.param == "torch":
        return torch_backend.BACKEND
    if request.param == "triton":
        pytest.importorskip("triton")
        from network.sparse import triton_backend

        return triton_backend.BACKEND
    pytest.importorskip("spconv.pytorch")
    from network.sparse import spconv_backend

    return spconv_backend.BACKEND


@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("voxels", VOXEL_SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_dense_convolution_forward_and_backward(backend, kind, voxels, dtype, channels) -> None:
    kernel_map, *keys = make_map(backend, kind, VOXEL_SETS[voxels].to(CUDA))
    keys_in, keys_out = (rows.cpu() for rows in keys)
    generator, k = torch.Generator().manual_seed(3), KINDS[kind]
    shapes = [(len(keys_in), channels[0]), (k**3, *channels), (channels[1],)]
    exact = [torch.randn(shape, generator=generator).to(dtype).double().requires_grad_() for shape in shapes]
    dense = dense_convolution(kind, k, (keys_in, keys_out), exact[0], exact[1], exact[2])
    upstream = torch.randn(dense.shape, generator=generator).to(dtype)
    expected = [dense, *torch.autograd.grad(dense, exact, upstream.double())]

    leaves = [t.detach().to(CUDA, dtype).requires_grad_() for t in exact]
    sparse = kernel_map.convolve(leaves[0], leaves[1], leaves[2])
    found = [sparse, *torch.autograd.grad(sparse, leaves, upstream.to(CUDA))]
    assert sparse.dtype == dtype and sparse.device == CUDA
    for name, ours, theirs in zip(("sums", "features", "weight", "bias"), found, expected, strict=True):
        assert relative_error(ours.cpu().double(), theirs) < TOLERANCES[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_triton_is_right_on_maps_of_every_size(dtype) -> None:
    """The check of the backend itself: it goes every way of a convolution, with all that the tuner chooses."""
    pytest.importorskip("triton")
    from network.sparse import triton_backend

    layers = [(27, 4, 32), (27, 64, 64), (27, 128, 128), (8, 64, 64)]
    assert triton_backend.why_not(CUDA, dtype, layers, training=True) is None


def test_golden_outputs_on_the_device(backend, case) -> None:  # noqa: F811
    """The outputs are those of test_golden_2dpass.py."""
    golden, network, batch = case
    network = copy.deepcopy(network).to(CUDA)
    network.network_3d.backend = backend
    batch = batch.to(CUDA)
    with torch.no_grad():
        logits = network.eval().predict(batch)
    assert golden_error(logits.cpu(), golden["out_eval_logits"]) < 2e-5
    losses = network.train().training_losses(batch)
    assert losses["loss"].item() == pytest.approx(golden["out_train_total_loss"].item(), rel=1e-3)
