"""The choice of the backend "auto"."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence

import pytest
import torch

from network.assemble import sparse_backend
from network.native import library as native
from network.sparse import auto_backend, native_backend, native_check, torch_backend
from network.sparse.layers import Layer
from tests.support.networks import make_network_3d
from utils.errors import UserError

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch) -> None:
    monkeypatch.setattr(auto_backend, "_chosen", {})
    monkeypatch.setattr(auto_backend, "_checked_cpu", False)


@pytest.fixture
def gpu(monkeypatch):
    """Simulates a GPU where Triton is `available`, with wrong results for the layers `wrong`; returns what is tried."""

    def make(available: bool = True, wrong: Sequence[Layer] = ()) -> list[tuple[torch.dtype, tuple[Layer, ...], bool]]:
        triton_backend = pytest.importorskip("network.sparse.triton_backend")
        tried = []

        def why_not(device, dtype, layers, training) -> str | None:
            assert device == CUDA
            tried.append((dtype, layers, training))
            return next((f"wrong in {layer}" for layer in layers if layer in wrong), None)

        monkeypatch.setattr(triton_backend, "unsupported", lambda device: None if available else "needs capability 8.0")
        monkeypatch.setattr(triton_backend, "why_not", why_not)
        return tried

    return make


@pytest.fixture
def tried_natively(monkeypatch) -> list[tuple[torch.dtype, tuple[Layer, ...], bool]]:
    """The native convolutions are wrong for 96 channels; returns what is tried."""
    if native.library() is None:
        pytest.skip("native code is switched off or cannot be compiled here")
    monkeypatch.setattr(native_check, "_right", set())
    monkeypatch.setattr(native, "_library", native.library())  # restored afterwards
    monkeypatch.setattr(native, "_tried", True)
    monkeypatch.setattr(native.Library, "remembers", lambda self, what: False)
    monkeypatch.setattr(native.Library, "remember", lambda self, what: None)
    tried = []

    def first_wrong(backend, keys, dtype, layers, training) -> str | None:
        assert backend is native_backend.BACKEND and keys.device == CPU
        tried.append((dtype, layers, training))
        return "wrong results" if (27, 96, 96) in layers else None

    monkeypatch.setattr(native_check, "first_wrong", first_wrong)
    return tried


def test_native_on_a_cpu(tried_natively, recwarn) -> None:
    assert auto_backend.choose(CPU).name == auto_backend.choose(CPU).name == "native"
    assert [dtype for dtype, *_ in tried_natively] == [torch.float32, torch.bfloat16]
    for _ in range(2):
        auto_backend.BACKEND.warm_up(CPU, torch.float32, iter([(27, 8, 4), (27, 4, 4), (27, 4, 4)]), False)
    assert tried_natively[2:] == [(torch.float32, ((27, 4, 4), (27, 8, 4)), False)]
    with native.switched_off():
        assert auto_backend.choose(CPU) is torch_backend.BACKEND
    assert auto_backend.choose(CPU).name == "native" and not recwarn


def test_not_on_a_cpu_where_it_is_wrong(tried_natively, monkeypatch) -> None:
    monkeypatch.delenv("TWODPASS_NATIVE", raising=False)
    auto_backend.BACKEND.warm_up(CPU, torch.float32, [(27, 4, 4)], False)
    with pytest.warns(RuntimeWarning, match="plain PyTorch is used instead of native code, .*: wrong results") as said:
        auto_backend.BACKEND.warm_up(CPU, torch.float32, [(27, 96, 96)], False)
    auto_backend.BACKEND.warm_up(CPU, torch.float32, [(27, 96, 96)], False)
    assert auto_backend.choose(CPU) is torch_backend.BACKEND and len(tried_natively) == 2 and len(said) == 1
    assert native.library() is None, "nothing else of it is used either"


def test_wrong_where_it_is_required(tried_natively, monkeypatch) -> None:
    monkeypatch.setenv("TWODPASS_NATIVE", "required")
    with pytest.raises(UserError, match=r"^TWODPASS_NATIVE=required, but native code cannot be used: wrong results$"):
        auto_backend.BACKEND.warm_up(CPU, torch.float32, [(27, 96, 96)], False)


def test_native_is_for_cpus() -> None:
    meta = torch.zeros(3, dtype=torch.int64, device="meta")
    for elsewhere in (
        lambda: native_backend.BACKEND.submanifold_map(meta, 3),
        lambda: native_backend.BACKEND.halving_map(meta, meta, 1),
        lambda: native_backend.BACKEND.warm_up(CUDA, torch.float32, [], False),
    ):
        with pytest.raises(UserError, match=r"^model_params\.sparse_backend: native runs on a CPU only; set .*=auto$"):
            elsewhere()


def test_triton_where_it_runs_and_is_right(gpu) -> None:
    tried = gpu()
    assert auto_backend.choose(CUDA).name == auto_backend.choose(CUDA).name == "triton"
    assert [dtype for dtype, *_ in tried] == [torch.float32, torch.bfloat16]
    assert all((27, 64, 64) in layers and training for _, layers, training in tried)


@pytest.mark.parametrize("training", [False, True])
def test_a_network_is_tried_in_its_own_layers_and_type(gpu, training) -> None:
    tried = gpu()
    network = make_network_3d((2, 4), channels=12)
    network.backend = auto_backend.BACKEND
    network.warm_up(CUDA, torch.float16, training)
    ((dtype, layers, gradients),) = tried
    assert (dtype, set(layers), gradients) == (torch.float16, {(27, 12, 12), (1, 12, 12)}, training)
    assert auto_backend.choose(CUDA).name == "triton" and len(tried) == 1


def test_not_where_it_is_wrong(gpu) -> None:
    gpu(wrong=[(27, 64, 64)])
    with pytest.warns(RuntimeWarning, match=r"without Triton, which is slower: wrong in \(27, 64, 64\)"):
        assert auto_backend.choose(CUDA) is torch_backend.BACKEND


def test_not_where_it_is_wrong_in_a_later_network(gpu, recwarn) -> None:
    """Kernels that were right for one network and are wrong for a later one are not used or tried any more."""
    tried = gpu(wrong=[(8, 96, 96)])
    auto_backend.BACKEND.warm_up(CUDA, torch.float32, [(27, 96, 96)], False)
    assert auto_backend.choose(CUDA).name == "triton" and not recwarn
    with pytest.warns(RuntimeWarning, match=r"wrong in \(8, 96, 96\)"):
        auto_backend.BACKEND.warm_up(CUDA, torch.float32, iter([(27, 96, 96), (8, 96, 96)]), False)
    auto_backend.BACKEND.warm_up(CUDA, torch.float32, [(27, 96, 96)], False)
    assert auto_backend.choose(CUDA) is torch_backend.BACKEND and len(tried) == 2


def test_not_on_an_old_gpu(gpu) -> None:
    gpu(available=False)
    with pytest.warns(RuntimeWarning, match="slower: it needs capability 8.0"):
        assert auto_backend.choose(CUDA) is torch_backend.BACKEND


def test_not_without_triton(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "network.sparse.triton_backend", None)
    monkeypatch.delattr("network.sparse.triton_backend", raising=False)
    with pytest.warns(RuntimeWarning, match="not installed"):
        assert auto_backend.choose(CUDA) is torch_backend.BACKEND
    with pytest.raises(UserError, match="triton is not installed"):
        sparse_backend("triton")


@pytest.mark.parametrize("name", ["auto", "torch", "native", "spconv", "spconv-triton"])
def test_backends_go_where_networks_go(name) -> None:
    backend = sparse_backend(name)
    assert backend.name == name
    assert pickle.loads(pickle.dumps(backend)).name == name
