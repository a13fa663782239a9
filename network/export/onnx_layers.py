"""The layers of the networks as standard ONNX operators: gather, multiply, add.

What depends on the positions of points comes in as lists of rows, which `runner/run_onnx.py` makes; see there. A
convolution adds the products of each kernel offset into its result (ScatterND). No row occurs twice in the list of an
offset: ONNX Runtime adds in several threads, without locks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from network.export.onnx_graph import Graph
from network.ops.mlp import MLP
from network.sparse.layers import ResidualBlock, SparseConvNorm

FLOAT = TensorProto.FLOAT
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
                picked = self.op("Gather", self.linear(x, weight, bias), rows)
                out = picked if isinstance(out, Tensor) else self.op("Add", out, picked)
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
            number = _number(*offset)
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
            products = self.op("MatMul", self.op("Gather", x, read), self.matrix(weight[number]))
            out = self.op("ScatterND", out, written, products, reduction="add")
        return self.finish(out, slope)

    def residual_block(self, x: str, block: ResidualBlock, neighbours: Neighbours) -> str:
        """Adds a residual block."""
        inner, shortcut = self.convolve(x, block.conv1, neighbours, slope=block.slope), x
        if block.shortcut is not None:
            weight, bias = block.shortcut.folded()
            shortcut = self.linear(x, weight[0].T, bias)
        return self.convolve(inner, block.conv2, neighbours, shortcut, block.slope)

    def reduce(self, x: str, layer: SparseConvNorm, name: str) -> str:
        """Adds a convolution of size and stride 2, and a ReLU.

        `fine` and `parents` list the rows of the fine voxels and of the coarse ones that hold them, octant by octant;
        `octants` says how many belong to each. `start` holds a 0 for each coarse voxel.
        """
        weight, bias = layer.folded()
        fine, parents = self._octants(name)
        out = self.op(
            "Gather", self.constant(bias.detach().numpy()[None]), self.input(f"{name}.start", f"{name}.coarse")
        )
        for read, written, matrix in zip(fine, parents, weight, strict=True):
            products = self.op("MatMul", self.op("Gather", x, read), self.matrix(matrix))
            out = self.op("ScatterND", out, self._column(written), products, reduction="add")
        return self.finish(out, 0.0)

    def expand(self, x: str, layer: SparseConvNorm, name: str) -> str:
        """Adds the transposed convolution of size and stride 2, and a ReLU: each fine voxel has one parent."""
        weight, bias = layer.folded()
        products = [
            self.linear(self.op("Gather", x, read), matrix.T, bias, 0.0)
            for read, matrix in zip(self._octants(name)[1], weight, strict=True)
        ]
        return self._arranged(self.op("Concat", *products, axis=0), self.input(f"{name}.fine", f"{name}.fine"))

    def _octants(self, name: str) -> tuple[list[str], list[str]]:
        """Returns the rows of the fine voxels and of their parents, octant by octant of the former."""
        counts = self.input(f"{name}.octants", _OCTANTS)
        sides = [self.input(f"{name}.{side}", f"{name}.fine") for side in ("fine", "parents")]
        fine, parents = (self.ops("Split", side, counts, outputs=_OCTANTS, axis=0) for side in sides)
        return fine, parents

    def _arranged(self, x: str, rows: str) -> str:
        """Brings all rows of x into an order: row i becomes row rows[i]."""
        return self.op("ScatterND", x, self._column(rows), x)

    def sum(self, x: str, name: str) -> str:
        """Adds weighted sums of rows of x.

        The groups of rows that are added have 1, 2, 4, 8, ... rows, padded with rows of weight 0. The inputs `rows` and
        `shares` list the rows and their weights, all groups of 1 row first; `sizes` says how many belong to each width,
        and `order` lists which sum each group is.
        """
        sizes = self.input(f"{name}.sizes", _WIDTHS)
        rows = self.input(f"{name}.rows", f"{name}.all")
        shares = self.input(f"{name}.shares", f"{name}.all", kind=FLOAT)
        split = [self.ops("Split", each, sizes, outputs=_WIDTHS, axis=0) for each in (rows, shares)]
        sums = []
        for number, (of_width, weights) in enumerate(zip(*split, strict=True)):
            gathered = self.op("Gather", x, self.op("Reshape", of_width, self._shape(-1, 1 << number)))
            weights = self.op("Reshape", weights, self._shape(-1, 1 << number, 1))
            sums.append(self.op("ReduceSum", self.op("Mul", gathered, weights), self._shape(1), keepdims=0))
        return self._arranged(self.op("Concat", *sums, axis=0), self.input(f"{name}.order", f"{name}.groups"))

    def trilinear(self, x: str, neighbours: Neighbours, name: str) -> str:
        """Adds the interpolation of voxels at the points of a finer level, between the 8 around each that exist.

        Args:
            x: (V, C) features of the voxels.
            neighbours: of these voxels.
            name: of the inputs `row`, (points,) of the voxel that holds each point, and `part`, (3, points) float32:
                how much of the way to the next voxel in z, y and x it has behind it, 0..1.
        """
        row, part = self.input(f"{name}.row", "points"), self.input(f"{name}.part", "points", 3, kind=FLOAT)
        ahead = self.ops("Split", part, outputs=3, axis=1, num_outputs=3)
        behind = [self.op("Sub", self.constant(np.ones((1, 1), np.float32)), share) for share in ahead]
        # A column of ones is interpolated along: where voxels are missing, it is the sum of the other weights.
        with_one = self.op("Pad", x, self._shape(0, 0, 0, 1), self.constant(np.array(1, np.float32)))
        nothing = self.op("ConstantOfShape", self.op("Shape", with_one))
        pairs = {number: (read, written) for number, read, written in neighbours}
        total = None
        for corner in product((0, 1), repeat=3):
            voxels = with_one
            if any(corner):
                read, written = pairs[_number(*corner)]
                voxels = self.op("ScatterND", nothing, written, self.op("Gather", with_one, read))
            z, y, x = (forth if step else back for step, back, forth in zip(corner, behind, ahead, strict=True))
            share = self.op("Mul", self.op("Mul", z, y), x)
            weighted = self.op("Mul", self.op("Gather", voxels, row), share)
            total = weighted if total is None else self.op("Add", total, weighted)
        assert total is not None
        first, last, axis = self._shape(0), self._shape(-1), self._shape(1)
        weights = self.op("Slice", total, last, self._shape(np.iinfo(np.int64).max), axis)
        return self.op("Div", self.op("Slice", total, first, last, axis), weights)

    def _column(self, rows: str) -> str:
        return self.op("Unsqueeze", rows, self._shape(1))

    def _shape(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64))


def _number(dz: int, dy: int, dx: int) -> int:
    """Returns the number of a kernel offset in the weights of a 3x3x3 convolution."""
    return _CENTRE + dz * 9 + dy * 3 + dx
