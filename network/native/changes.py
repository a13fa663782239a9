"""The state of weights, by which all that is made of them and kept finds that they have changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

State = tuple[Any, ...]

_steps = 0


def state_of(tensors: Iterable[Tensor]) -> State:
    """Returns what differs once a tensor has changed: address and version of each, and the steps of all optimisers.

    A fused optimiser changes weights without a new version, so each step of any optimiser counts as a change. A change
    through `.data` or NumPy cannot be noticed. An address says something as long as its memory is not freed: keep
    `tensor.detach()` of each beside the state. Inference tensors have no version; only their address is looked at.
    """
    return (_steps, *((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors))


def _count_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)
