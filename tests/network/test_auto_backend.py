"""Which backend "auto" is."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch

from network.assemble import sparse_backend
from network.sparse import auto_backend, torch_backend
from utils.errors import UserError

CUDA = torch.device("cuda", 0)


@pytest.fixture
def chosen(monkeypatch):
    """`choose` for a GPU, where Triton is `available` and `right`, with the warnings it gives."""

    def choose(available: bool, right: bool):
        triton_backend = pytest.importorskip("network.sparse.triton_backend")
        monkeypatch.setattr(triton_backend, "is_available", lambda device: available)
        monkeypatch.setattr(triton_backend, "self_check", lambda device: right)
        return auto_backend.choose.__wrapped__(CUDA)

    return choose


def test_plain_pytorch_on_a_cpu() -> None:
    assert auto_backend.choose(torch.device("cpu")) is torch_backend.BACKEND


def test_triton_where_it_runs_and_is_right(chosen) -> None:
    assert chosen(available=True, right=True).name == "triton"


def test_not_where_it_is_wrong(chosen) -> None:
    assert chosen(available=True, right=False) is torch_backend.BACKEND


def test_not_on_an_old_gpu(chosen) -> None:
    with pytest.warns(RuntimeWarning, match="8.0 or later"):
        assert chosen(available=False, right=True) is torch_backend.BACKEND


def test_not_without_triton(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "network.sparse.triton_backend", None)
    monkeypatch.delattr("network.sparse.triton_backend", raising=False)
    with pytest.warns(RuntimeWarning, match="not installed"):
        assert auto_backend.choose.__wrapped__(CUDA) is torch_backend.BACKEND
    with pytest.raises(UserError, match="triton is not installed"):
        sparse_backend("triton")


@pytest.mark.parametrize("name", ["auto", "torch", "spconv", "spconv-triton"])
def test_backends_go_where_networks_go(name) -> None:
    backend = sparse_backend(name)
    assert backend.name == name
    assert pickle.loads(pickle.dumps(backend)).name == name
