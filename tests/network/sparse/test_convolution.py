"""Sparse convolution, compared with torch's dense convolution, and neighbour search, compared with a dictionary."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from network.sparse import native_backend, pair_schedule
from network.sparse.coordinates import LIMIT, halve, kernel_offsets, pack, unpack
from network.sparse.native_backend import NativeMap
from network.sparse.torch_backend import PairMap, strided_map, submanifold_map
from tests.support.networks import relative_error

KINDS = [("submanifold", 1), ("submanifold", 2), ("submanifold", 3)] + [
    (kind, k) for kind in ("strided", "transposed") for k in (1, 2, 3)
]
CASES = [("torch", *case) for case in KINDS] + [
    ("native", kind, k) for kind, k in KINDS if kind == "submanifold" or k == 2
]
EXACT = {"torch": torch.float64, "native": torch.float32}
"""The widest type that a backend computes in itself."""
CLOSE = {"torch": 1e-12, "native": 1e-5}
AnyMap = PairMap | NativeMap
SHIFT = 8  # even, so that the dense grid's strides start where floor(coordinate / 2) does
SIZE = 16


def random_keys(seed: int, scans: int = 3, count: int = 150) -> Tensor:
    """Draws distinct voxels in a box around the origin, most of which have neighbours; scan 1 has no voxels."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randint(scans, (count,), generator=generator)
    batch[batch == 1] = 0
    z, y, x = torch.randint(-5, 4, (3, count), generator=generator)
    return torch.unique(pack(batch, z, y, x))


def keys_of(*coordinates: tuple[int, ...]) -> Tensor:
    """Returns the sorted keys of (batch, z, y, x) tuples."""
    return torch.unique(pack(*torch.tensor(coordinates, dtype=torch.int64).view(-1, 4).unbind(1)))


VOXEL_SETS = {
    "random": random_keys(0),
    "dense": keys_of(*itertools.product((0, 1), range(-3, 3), range(-2, 3), range(-1, 3))),
    "one": keys_of((0, -1, 2, -3)),
    "none": keys_of(),
}


def make_map(kind: str, kernel_size: int, keys: Tensor, backend: str = "torch") -> tuple[AnyMap, Tensor, Tensor]:
    """Builds the map, and the keys of its input and output rows."""
    if kind == "submanifold":
        make = submanifold_map if backend == "torch" else native_backend.submanifold_map
        return make(keys, kernel_size), keys, keys
    coarse, kernel_map = strided_map(keys, kernel_size, 2)
    if backend == "native":
        coarse, parent = torch.unique(halve(keys), return_inverse=True)
        kernel_map = native_backend.halving_map(keys, parent, len(coarse))
    return (kernel_map, keys, coarse) if kind == "strided" else (kernel_map.transposed(), coarse, keys)


def dense_convolution(kind: str, k: int, keys: tuple[Tensor, Tensor], features: Tensor, weight: Tensor, bias: Tensor):
    """Computes torch's convolution over the whole grid and returns it at the output voxels."""
    (b, *zyx), (b_out, *zyx_out) = unpack(keys[0]), unpack(keys[1])
    fine, coarse = (SIZE, SHIFT), (SIZE // 2, SHIFT // 2)
    (size, shift), (_, shift_out) = {"strided": (fine, coarse), "transposed": (coarse, fine)}.get(kind, (fine, fine))
    grid = features.new_zeros(3, size, size, size, features.shape[1])
    grid = grid.index_put((b, *(axis + shift for axis in zyx)), features).permute(0, 4, 1, 2, 3)
    kernel = weight.view(k, k, k, *weight.shape[1:])  # z, y, x, in, out
    padding = (k - 1) // 2
    if kind == "transposed":
        output_padding = 2 - k + 2 * padding  # as makes the fine grid twice the coarse one
        out = F.conv_transpose3d(grid, kernel.permute(3, 4, 0, 1, 2), bias, 2, padding, output_padding)
    else:
        if kind == "submanifold" and k == 2:
            grid = F.pad(grid, (0, 1) * 3)  # an even kernel reaches one voxel past the grid
        out = F.conv3d(grid, kernel.permute(4, 3, 0, 1, 2), bias, 1 if kind == "submanifold" else 2, padding)
    return out.permute(0, 2, 3, 4, 1)[(b_out, *(axis + shift_out for axis in zyx_out))]


def inputs_for(
    kernel_map: AnyMap, k: int, dtype: torch.dtype, c_in: int = 5, c_out: int = 7
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws features, weight and bias that require gradients."""
    generator = torch.Generator().manual_seed(k)
    shapes = [(kernel_map.num_inputs, c_in), (k**3, c_in, c_out), (c_out,)]
    features, weight, bias = (torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes)
    return features, weight, bias


def convolve(kernel_map: AnyMap, tensors: Iterable[Tensor]) -> Tensor:
    """Convolves with (features, weight, bias)."""
    features, weight, bias = tensors
    return kernel_map.convolve(features, weight, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("voxels", VOXEL_SETS)
@pytest.mark.parametrize(("backend", "kind", "k"), CASES)
def test_equals_dense_convolution_forward_and_backward(backend, kind, k, voxels, dtype) -> None:
    kernel_map, keys_in, keys_out = make_map(kind, k, VOXEL_SETS[voxels], backend)
    tensors = inputs_for(kernel_map, k, dtype)
    sparse = kernel_map.convolve(*tensors)
    dense = dense_convolution(kind, k, (keys_in, keys_out), *tensors)
    upstream = torch.randn_like(dense)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    assert sparse.dtype == dtype
    assert relative_error(sparse, dense) < tolerance
    gradients = torch.autograd.grad(sparse, tensors, upstream), torch.autograd.grad(dense, tensors, upstream)
    for name, found, expected in zip(("features", "weight", "bias"), *gradients, strict=True):
        assert relative_error(found, expected) < tolerance, name


@pytest.mark.parametrize("slope", [1.0, 0.1, 0.0])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("backend", "kind", "k"), CASES)
def test_epilogue(backend, kind, k, with_bias, slope) -> None:
    """Bias, residual and LeakyReLU come after the sum, with gradients and without."""
    kernel_map, *_ = make_map(kind, k, VOXEL_SETS["random"], backend)
    features, weight, bias = inputs_for(kernel_map, k, EXACT[backend])
    residual = torch.randn(kernel_map.num_outputs, 7, dtype=EXACT[backend], requires_grad=True)
    bias = bias if with_bias else None
    sums = kernel_map.convolve(features, weight) + residual
    expected = F.leaky_relu(sums if bias is None else sums + bias, slope)
    found = kernel_map.convolve(features, weight, bias, residual, slope)
    with torch.no_grad():
        plain = kernel_map.convolve(features, weight, bias, residual, slope)
    assert relative_error(found, expected) < CLOSE[backend] and relative_error(plain, expected) < CLOSE[backend]
    leaves = [leaf for leaf in (features, weight, bias, residual) if leaf is not None]
    upstream = torch.randn_like(expected)
    for got, want in zip(*(torch.autograd.grad(t, leaves, upstream) for t in (found, expected)), strict=True):
        assert relative_error(got, want) < CLOSE[backend]
    frozen = kernel_map.convolve(features.detach(), weight.detach(), None, residual, slope)
    assert frozen.requires_grad, "a residual alone may want its gradient"


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("voxels", ["random", "dense"])
def test_chunks_change_nothing(monkeypatch, voxels, rows) -> None:
    """The result does not depend on how many output rows are computed at once."""
    kernel_map = submanifold_map(VOXEL_SETS[voxels], 3)
    tensors = inputs_for(kernel_map, 3, torch.float64)
    expected = kernel_map.convolve(*tensors)
    monkeypatch.setattr(pair_schedule, "CHUNK_ROWS", rows)
    again = submanifold_map(VOXEL_SETS[voxels], 3)
    found = again.convolve(*tensors)
    assert len(again.schedule.chunks) == -(-again.num_outputs // rows)
    assert torch.allclose(found, expected)
    upstream = torch.randn_like(expected)
    for got, want in zip(*(torch.autograd.grad(t, tensors, upstream) for t in (found, expected)), strict=True):
        assert torch.allclose(got, want)


@pytest.mark.parametrize(("kind", "k"), KINDS)
def test_gradcheck(kind, k) -> None:
    kernel_map, *_ = make_map(kind, k, random_keys(1, scans=2, count=9))
    tensors = inputs_for(kernel_map, k, torch.float64, 2, 3)
    assert torch.autograd.gradcheck(lambda *t: kernel_map.convolve(*t), tensors)
    assert torch.autograd.gradcheck(lambda *t: kernel_map.convolve(*t), tensors[:2])  # without bias


@pytest.mark.parametrize(("backend", "kind", "k"), CASES)
def test_bfloat16_within_its_rounding_of_float32(backend, kind, k) -> None:
    kernel_map, *_ = make_map(kind, k, VOXEL_SETS["random"], backend)
    wide = [t.detach().bfloat16().float().requires_grad_() for t in inputs_for(kernel_map, k, torch.float32)]
    narrow = [t.detach().bfloat16().requires_grad_() for t in wide]
    exact, rough = convolve(kernel_map, wide), convolve(kernel_map, narrow)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = convolve(kernel_map, wide)
    assert rough.dtype == autocast.dtype == torch.bfloat16
    assert torch.equal(rough, autocast)
    # Every product and every sum is rounded to 8 bits at most: 2^-8 of the sum of magnitudes each.
    bound = 2 * 2**-8 * convolve(kernel_map, (t.detach().abs() for t in wide))
    assert ((rough.float() - exact).abs() <= bound).all()

    upstream = torch.randn_like(exact).bfloat16()
    expected = torch.autograd.grad(exact, wide, upstream.float())
    for name, found, wanted in zip("fwb", torch.autograd.grad(rough, narrow, upstream), expected, strict=True):
        assert found.dtype == torch.bfloat16
        assert relative_error(found, wanted) < 2e-2, name
    for name, found, wanted in zip("fwb", torch.autograd.grad(autocast, wide, upstream), expected, strict=True):
        assert found.dtype == torch.float32, "a parameter's gradient has the parameter's type"
        assert relative_error(found, wanted) < 2e-2, name


def test_bfloat16_sums_are_kept_in_float32() -> None:
    """The products are 256 and 26 times 1: a bfloat16 sum would stay at 256, because its next number is 258."""
    keys = keys_of(*itertools.product((0,), (-1, 0, 1), (-1, 0, 1), (-1, 0, 1)))
    weight = torch.ones(27, 1, 1, dtype=torch.bfloat16)
    weight[13] = 256
    out = submanifold_map(keys, 3).convolve(torch.ones(27, 1, dtype=torch.bfloat16), weight)
    assert out[13].item() == 282


@pytest.mark.parametrize(("backend", "kind", "k"), CASES)
def test_memory_layout_does_not_matter(backend, kind, k) -> None:
    kernel_map, *_ = make_map(kind, k, VOXEL_SETS["random"], backend)
    tensors = inputs_for(kernel_map, k, EXACT[backend])
    features, weight, bias = tensors
    expected = kernel_map.convolve(*tensors)
    upstream = torch.randn_like(expected)
    strided = [features.T.contiguous().T, weight.transpose(1, 2).contiguous().transpose(1, 2), bias]
    found = convolve(kernel_map, strided)
    assert relative_error(found, expected) < CLOSE[backend]
    wanted = torch.autograd.grad(expected, tensors, upstream, retain_graph=True)
    for got, want in zip(torch.autograd.grad(found, tensors, upstream.T.contiguous().T), wanted, strict=True):
        assert relative_error(got, want) < CLOSE[backend]
    # The gradient of a sum is one number, expanded with strides of 0.
    wanted = torch.autograd.grad(expected, tensors, torch.ones_like(expected), retain_graph=True)
    for got, want in zip(torch.autograd.grad(expected.sum(), tensors), wanted, strict=True):
        assert relative_error(got, want) < CLOSE[backend]


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_gradient_of_one_input_alone(needed) -> None:
    """A frozen weight, or the input of the first layer, needs no gradient and must not disturb the other gradients."""
    kernel_map = submanifold_map(VOXEL_SETS["random"], 3)
    tensors = inputs_for(kernel_map, 3, torch.float64)
    out = convolve(kernel_map, (t if i == needed else t.detach() for i, t in enumerate(tensors)))
    (found,) = torch.autograd.grad(out.sum(), [tensors[needed]])
    assert torch.allclose(found, torch.autograd.grad(kernel_map.convolve(*tensors).sum(), [tensors[needed]])[0])


@pytest.mark.parametrize(("backend", "kind", "k"), CASES)
def test_scans_of_a_batch_do_not_meet(backend, kind, k) -> None:
    keys = random_keys(2, count=200)
    kernel_map, keys_in, keys_out = make_map(kind, k, keys, backend)
    features, weight, bias = inputs_for(kernel_map, k, EXACT[backend])
    together = kernel_map.convolve(features, weight, bias)
    for scan in (0, 2):
        alone, alone_in, alone_out = make_map(kind, k, keys[unpack(keys)[0] == scan], backend)
        assert torch.equal(alone_in, keys_in[unpack(keys_in)[0] == scan])
        assert torch.equal(alone_out, keys_out[unpack(keys_out)[0] == scan])
        of_scan = alone.convolve(features[unpack(keys_in)[0] == scan], weight, bias)
        assert relative_error(of_scan, together[unpack(keys_out)[0] == scan]) < CLOSE[backend]


def pairs_by_dictionary(keys_in: Tensor, keys_out: Tensor, k: int, stride: int) -> list[set[tuple[int, int]]]:
    """Lists the (input row, output row) pairs of each kernel offset, looked up one by one."""
    row = {voxel: i for i, voxel in enumerate(zip(*(axis.tolist() for axis in unpack(keys_in)), strict=True))}
    outputs = list(zip(*(axis.tolist() for axis in unpack(keys_out)), strict=True))
    low = -(k // 2) if k % 2 else 0
    result = []
    for dz, dy, dx in itertools.product(range(low, low + k), repeat=3):
        wanted = [(b, stride * z + dz, stride * y + dy, stride * x + dx) for b, z, y, x in outputs]
        result.append({(row[voxel], o) for o, voxel in enumerate(wanted) if voxel in row})
    return result


SEARCHED = {
    **VOXEL_SETS,
    "column": keys_of(*((0, z, 0, 0) for z in (-4, -3, -2, 0, 1, 3))),
    "faces": keys_of((0, LIMIT, LIMIT, LIMIT), (1, -LIMIT, -LIMIT, -LIMIT), (0, 0, LIMIT, 0), (1, 0, -LIMIT, 0)),
    "corners": keys_of(*((1, *zyx) for zyx in itertools.product((-LIMIT, 1 - LIMIT, LIMIT - 1, LIMIT), repeat=3))),
}


@pytest.mark.parametrize("voxels", SEARCHED)
@pytest.mark.parametrize(("k", "stride"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (3, 3)])
def test_neighbour_search_against_a_dictionary(voxels, k, stride) -> None:
    keys = SEARCHED[voxels]
    if stride == 1:
        kernel_map, coarse = submanifold_map(keys, k), keys
    else:
        coarse, kernel_map = strided_map(keys, k, stride)
        b, *zyx = unpack(keys)
        assert set(zip(*(a.tolist() for a in unpack(coarse)), strict=True)) == {
            tuple(row) for row in torch.stack([b, *(a // stride for a in zyx)], 1).tolist()
        }
        assert (coarse.diff() > 0).all()
    expected = pairs_by_dictionary(keys, coarse, k, stride)
    assert (kernel_map.num_inputs, kernel_map.num_outputs) == (len(keys), len(coarse))
    assert len(kernel_map.inputs) == len(kernel_map.outputs) == len(kernel_offsets(k)) == k**3
    for offset, (inputs, outputs) in enumerate(zip(kernel_map.inputs, kernel_map.outputs, strict=True)):
        if offset == kernel_map.identity:
            assert len(inputs) == len(outputs) == 0
            assert expected[offset] == {(i, i) for i in range(len(keys))}
        else:
            found = list(zip(inputs.tolist(), outputs.tolist(), strict=True))
            assert len(found) == len(set(found))
            assert set(found) == expected[offset], kernel_offsets(k)[offset]


def test_unsupported_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel size 1, 2 or 3, got 5"):
        submanifold_map(VOXEL_SETS["random"], 5)


def test_the_transpose_of_a_transpose_is_the_map_itself() -> None:
    kernel_map = strided_map(VOXEL_SETS["random"], 2, 2)[1]
    back = kernel_map.transposed()
    assert back is kernel_map.transposed() and back.transposed() is kernel_map
    freed = weakref.ref(kernel_map)
    del kernel_map
    assert freed() is None, "without waiting for the garbage collector"
    assert back.transposed().num_inputs == back.num_outputs
