"""The layers of the networks as standard ONNX operators: gather, multiply, add.

What depends on the positions of points comes in as lists of rows, which `runner/run_onnx.py` makes; see there. A
convolution adds the products of each kernel offset into its result (ScatterND). No row occurs twice in the list of an
offset: ONNX Runtime adds in several threads, without locks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from network.export.onnx_graph import Graph
from network.ops.mlp import MLP
from network.sparse.layers import ResidualBlock, SparseConvNorm

_CENTRE = 13
_FORWARD = [(1, 0, 0), *((dz, dy, dx) for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)) for dz in (-1, 0, 1))]
"""The kernel offsets (dz, dy, dx) after the centre in the order of the voxels; the others are their mirror images."""
_OCTANTS = 8
_WIDTHS = 31  # groups of up to 2^30 rows

Neighbours = list[tuple[int, str, str]]
"""Of each kernel offset but the centre: its number, the rows (M,) that are read, the rows (M, 1) of the result."""


class Layers(Graph):
    """A graph with the layers of the networks; each takes and returns names of (rows, channels) values."""

    def finish(self, x: str, slope: float) -> str:
        """Adds a LeakyReLU with a slope."""
        if slope == 1.0:
            return x
        return self.op("Relu", x) if slope == 0.0 else self.op("LeakyRelu", x, alpha=slope)

    def linear(self, x: str, weight: Tensor, bias: Tensor | str, slope: float = 1.0) -> str:
        """Adds LeakyReLU(x W^T + b); b is (C_out,), or a value with the rows of x."""
        added = bias if isinstance(bias, str) else self.constant(bias.detach().numpy())
        return self.finish(self.op("Gemm", x, self.matrix(weight.T), added), slope)

    def layer(self, x: str, layer: nn.Linear, slope: float = 1.0) -> str:
        """Adds a linear layer and its activation."""
        return self.linear(x, layer.weight, layer.bias, slope)

    def mlp(self, x: str, mlp: MLP) -> str:
        """Adds a chain of linear layers, their norms folded in."""
        for weight, bias, slope in mlp.folded():
            x = self.linear(x, weight, bias, slope)
        return x

    def concat_linear(self, layer: nn.Linear, parts: Iterable[tuple[str, str | None]], slope: float) -> str:
        """Adds a linear layer on concatenated parts: (features, the rows to gather of them, None for all) each."""
        parts = list(parts)
        out: Tensor | str = layer.bias
        for (x, rows), weight in zip(parts, layer.weight.split(layer.in_features // len(parts), dim=1), strict=True):
            if rows is None:
                out = self.linear(x, weight, out)
            else:  # multiplied before they are gathered: there are fewer rows
                bias = out if isinstance(out, Tensor) else torch.zeros(len(weight))
                product = self.op("Gather", self.linear(x, weight, bias), rows)
                out = product if isinstance(out, Tensor) else self.op("Add", out, product)
        assert isinstance(out, str)
        return self.finish(out, slope)

    def neighbours(self, name: str) -> Neighbours:
        """Adds the inputs of a kernel map of 3x3x3 submanifold convolutions.

        `here` lists the voxels that have a neighbour at an offset, `there` its row, offset by offset of `_FORWARD`;
        `counts` says how many of them belong to each.
        """
        pairs, count = f"{name}.pairs", len(_FORWARD)
        counts = self.input(f"{name}.counts", count)
        sides = [self.input(f"{name}.{side}", pairs) for side in ("here", "there")]
        found: Neighbours = []
        for offset, here, there in zip(
            _FORWARD, *(self.ops("Split", side, counts, outputs=count, axis=0) for side in sides), strict=True
        ):
            number = _CENTRE + offset[0] * 9 + offset[1] * 3 + offset[2]
            found += [(number, there, self._column(here)), (2 * _CENTRE - number, here, self._column(there))]
        return found

    def convolve(
        self, x: str, layer: SparseConvNorm, neighbours: Neighbours, added: str | None = None, slope: float = 1.0
    ) -> str:
        """Adds LeakyReLU(convolution, its norm folded in, + added)."""
        weight, bias = layer.folded()
        out = self.linear(x, weight[_CENTRE].T, bias)
        if added is not None:
            out = self.op("Add", out, added)
        for number, read, written in neighbours:
            product = self.op("MatMul", self.op("Gather", x, read), self.matrix(weight[number]))
            out = self.op("ScatterND", out, written, product, reduction="add")
        return self.finish(out, slope)

    def residual_block(self, x: str, block: ResidualBlock, neighbours: Neighbours) -> str:
        """Adds a residual block."""
        inner, shortcut = self.convolve(x, block.conv1, neighbours, slope=block.slope), x
        if block.shortcut is not None:
            weight, bias = block.shortcut.folded()
            shortcut = self.linear(x, weight[0].T, bias)
        return self.convolve(inner, block.conv2, neighbours, shortcut, block.slope)

    def reduce(self, x: str, layer: SparseConvNorm, name: str) -> str:
        """Adds a convolution of size and stride 2, and a ReLU: the children of a voxel, those that are not there as 0.

        The input `children` (V_coarse, 8) has the rows of x, their number for a child that is not there.
        """
        weight, bias = layer.folded()
        children = self.input(f"{name}.children", f"{name}.coarse", _OCTANTS)
        padded = self.op("Concat", x, self.constant(np.zeros((1, weight.shape[1]), np.float32)), axis=0)
        rows = self.op("Reshape", self.op("Gather", padded, children), self._shape(-1, _OCTANTS * weight.shape[1]))
        return self.linear(rows, weight.flatten(0, 1).T, bias, 0.0)

    def expand(self, x: str, layer: SparseConvNorm, name: str) -> str:
        """Adds the transposed convolution of size and stride 2, and a ReLU: each voxel has one parent.

        The input `parents` lists the rows of x, octant by octant of the children, `octants` says how many belong to
        each, and `back` brings the children into their order.
        """
        weight, bias = layer.folded()
        parents, fine = self.input(f"{name}.parents", f"{name}.fine"), self.input(f"{name}.back", f"{name}.fine")
        counts = self.input(f"{name}.octants", _OCTANTS)
        products = [
            self.linear(self.op("Gather", x, rows), matrix.T, bias, 0.0)
            for rows, matrix in zip(self.ops("Split", parents, counts, outputs=_OCTANTS, axis=0), weight, strict=True)
        ]
        return self.op("Gather", self.op("Concat", *products, axis=0), fine)

    def sum(self, x: str, name: str) -> str:
        """Adds weighted sums of rows of x.

        The groups of rows that are added have 1, 2, 4, 8, ... rows, padded with rows of weight 0. The inputs `rows` and
        `shares` list the rows and their weights, all groups of 1 row first; `sizes` says how many belong to each width,
        and `order` brings the sums into their order.
        """
        sizes = self.input(f"{name}.sizes", _WIDTHS)
        rows = self.input(f"{name}.rows", f"{name}.all")
        shares = self.input(f"{name}.shares", f"{name}.all", kind=1)
        split = [self.ops("Split", each, sizes, outputs=_WIDTHS, axis=0) for each in (rows, shares)]
        sums = []
        for number, (of_width, weights) in enumerate(zip(*split, strict=True)):
            gathered = self.op("Gather", x, self.op("Reshape", of_width, self._shape(-1, 1 << number)))
            weights = self.op("Reshape", weights, self._shape(-1, 1 << number, 1))
            sums.append(self.op("ReduceSum", self.op("Mul", gathered, weights), self._shape(1), keepdims=0))
        return self.op("Gather", self.op("Concat", *sums, axis=0), self.input(f"{name}.order", f"{name}.groups"))

    def trilinear(self, x: str, name: str) -> str:
        """Adds the interpolation between the 8 voxels around each point; `rows` and `shares` are (8, points)."""
        rows, shares = (self.input(f"{name}.{of}", 8, "points", kind=k) for of, k in (("rows", 7), ("shares", 1)))
        corners = (self.ops("Split", each, outputs=8, axis=0, num_outputs=8) for each in (rows, shares))
        out = None
        for row, share in zip(*corners, strict=True):
            flat = self.op("Reshape", row, self._shape(-1))
            part = self.op("Mul", self.op("Gather", x, flat), self.op("Reshape", share, self._shape(-1, 1)))
            out = part if out is None else self.op("Add", out, part)
        assert out is not None
        return out

    def _column(self, rows: str) -> str:
        return self.op("Unsqueeze", rows, self._shape(1))

    def _shape(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64))
