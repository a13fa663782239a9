"""Tensors that are made of the weights of a layer, such as weights with a norm folded in, kept between evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from network.native.changes import State, state_of


@dataclass(frozen=True, eq=False)
class Made:
    """Tensors, what they were made of, and its state then; see `network.native.changes`."""

    state: State
    sources: tuple[Tensor, ...]
    tensors: tuple[Tensor, ...]


class Kept(dict[torch.dtype, Made]):
    """The tensors that were made for each type of computation. A copy of it is empty, and it is not saved.

    A change of a source through `.data` cannot be noticed: a layer clears its `Kept` in `train()`, and so in `eval()`,
    which Lightning calls.
    """

    def get_or_make(
        self, sources: Sequence[Tensor], dtype: torch.dtype, make: Callable[[], Sequence[Tensor]]
    ) -> tuple[Tensor, ...]:
        """Returns what `make` makes of the sources, in the type that is computed in.

        Where no gradients are computed it is kept, until a source changes.

        Args:
            sources: the tensors that `make` reads.
            dtype: the type that is computed in.
            make: makes the tensors, with gradients if there are any.
        """
        if torch.compiler.is_exporting():  # an evaluation comes before it; the sources have no addresses then
            return self[dtype].tensors
        # Inference tensors have no version.
        if torch.is_grad_enabled() or any(tensor.is_inference() for tensor in sources):
            return tuple(make())
        state = state_of(sources)
        made = self.get(dtype)
        if made is None or made.state != state:
            for old in [of for of, other in list(self.items()) if other.state != state]:
                self.pop(old, None)  # another thread may have done it
            # Not inference tensors: what is packed of these tensors is kept, too, and goes by their versions. New ones
            # also where a source is used as it is: what is packed of them goes when they do.
            with torch.inference_mode(False), torch.no_grad():
                tensors = tuple(tensor.to(dtype).detach() for tensor in make())
                made = self[dtype] = Made(state, tuple(source.detach() for source in sources), tensors)
        return made.tensors

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()
