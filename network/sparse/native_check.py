"""The check of the native convolutions on this CPU: once per machine for each set of layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from network.native.library import give_up, library
from network.sparse.backend_check import first_wrong, made_up_surface
from network.sparse.layers import Layer, SparseBackend

_SIDE = 48  # voxels; more rows than are computed at once, for each of several threads

_right: set[tuple[str, str]] = set()


def check_once(backend: SparseBackend, dtype: torch.dtype, layers: Iterable[Layer], training: bool) -> None:
    """Compares the convolutions with those of the torch backend, unless they were found right on this machine before.

    If they are wrong, this process computes in plain PyTorch from then on; a line says so.

    Args:
        backend: the native one.
        dtype: type in which the layers compute.
        layers: the layers of the network.
        training: whether gradients will be needed.
    """
    found = library()
    if found is None:
        return
    distinct = tuple(sorted(set(layers)))
    what = f"convolutions {dtype} {distinct} training={training} threads={torch.get_num_threads()}"
    if (found.level, what) in _right:
        return
    if not found.remembers(what):
        reason = _why_not(backend, dtype, distinct, training)
        if reason is not None:
            give_up(reason)
            return
        found.remember(what)
    _right.add((found.level, what))


def _why_not(backend: SparseBackend, dtype: torch.dtype, layers: tuple[Layer, ...], training: bool) -> str | None:
    cpu = torch.device("cpu")
    try:
        # The check needs gradients, and an autocast of the caller would cast the features to its own type.
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
            return first_wrong(backend, made_up_surface(cpu, _SIDE), dtype, layers, training)
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
