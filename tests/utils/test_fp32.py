"""The precision in which PyTorch computes products of fp32 numbers, whatever the switches were before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning_fabric.accelerators.cuda import _check_cuda_matmul_precision

from network.training.trainer import build_trainer
from utils.command.devices import Devices
from utils.fp32 import exact_matmul, matmul_in_tf32, set_fp32_arithmetic

backends: Any = torch.backends
cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn


def older_matmul(tf32: bool) -> None:
    cuda.matmul.allow_tf32 = tf32


def newer(module, value: str) -> None:
    module.fp32_precision = value


def both_at_odds() -> None:
    older_matmul(True)
    newer(cuda.matmul, "ieee")
    newer(cudnn.conv, "ieee")


BEFORE: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "older, matmul": lambda: older_matmul(True),
    "older, cudnn": lambda: setattr(cudnn, "allow_tf32", False),
    "older, high": lambda: torch.set_float32_matmul_precision("high"),
    "older, medium": lambda: torch.set_float32_matmul_precision("medium"),
    "newer, all tf32": lambda: newer(backends, "tf32"),
    "newer, all ieee": lambda: newer(backends, "ieee"),
    "newer, all bf16": lambda: newer(backends, "bf16"),
    "newer, matmul": lambda: newer(cuda.matmul, "tf32"),
    "newer, convolutions": lambda: newer(cudnn.conv, "ieee"),
    "newer, of the CPU": lambda: newer(mkldnn.matmul, "bf16"),
    "both, at odds": both_at_odds,
}


def as_delivered() -> None:
    """Sets PyTorch's switches as they are after its import."""
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = True
    for module in (backends, cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn):
        module.fp32_precision = "none"


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    as_delivered()
    yield
    as_delivered()


def test_as_delivered_a_gpu_convolves_in_tf32() -> None:
    """PyTorch's defaults make the module necessary; the test also checks the fixture."""
    assert cudnn.allow_tf32 and cudnn.conv.fp32_precision == "tf32"
    assert not cuda.matmul.allow_tf32 and cuda.matmul.fp32_precision == "none"


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("precision", "tf32"), [("32", False), ("tf32", True), ("bf16", False), ("16", False)])
def test_every_precision(precision, tf32, before, monkeypatch) -> None:
    """The 2D convolutions as well as the matrix products; both sets of switches can be read, and say the same."""
    BEFORE[before]()
    monkeypatch.setattr("network.training.trainer.pl.Trainer", Mock())
    build_trainer(Devices("cpu", [0], 1, precision))
    newer_ones = {switch.fp32_precision for switch in (cuda.matmul, cudnn.conv, cudnn.rnn)}
    assert newer_ones == {"tf32" if tf32 else "ieee"}
    assert {switch.fp32_precision for switch in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)} == {"ieee"}
    older_ones = {cuda.matmul.allow_tf32, cudnn.allow_tf32, torch.get_float32_matmul_precision() == "high"}
    assert older_ones == {tf32} == {matmul_in_tf32()}


@pytest.mark.parametrize("tf32", [False, True])
def test_others_can_ask_as_they_are_used_to(tf32, monkeypatch) -> None:
    """Lightning asks an older switch when it sets a GPU up, and `cudnn.flags` notes all of them."""
    set_fp32_arithmetic(tf32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "made up")
    _check_cuda_matmul_precision.__wrapped__(torch.device("cuda", 0))
    with cudnn.flags(enabled=True):
        pass


@pytest.mark.parametrize("before", BEFORE)
def test_asking_never_raises(before) -> None:
    BEFORE[before]()
    in_tf32 = {"older, matmul", "older, high", "older, medium", "newer, all tf32", "newer, matmul"}
    assert matmul_in_tf32() == (before in in_tf32)


@pytest.mark.parametrize("before", BEFORE)
def test_exact_for_a_while(before) -> None:
    BEFORE[before]()
    switches = (cuda.matmul, mkldnn.matmul, cudnn.conv)
    said = [switch.fp32_precision for switch in switches]
    with pytest.raises(KeyError), exact_matmul():
        assert all(switch.fp32_precision in ("ieee", "none") for switch in switches[:2])
        assert not matmul_in_tf32()
        raise KeyError
    assert [switch.fp32_precision for switch in switches] == said


@pytest.mark.parametrize("before", BEFORE)
def test_exact_products(before) -> None:
    """On a CPU that multiplies in bf16 when told to, this can be seen in the numbers."""
    BEFORE[before]()
    left, right = (torch.rand(64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2))
    with exact_matmul():
        found = left @ right
    assert torch.allclose(found.double(), left.double() @ right.double(), rtol=1e-5, atol=0)
