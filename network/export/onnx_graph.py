"""A graph of ONNX operators while it is put together: nodes, inputs, and weights as they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 18
_IR_VERSION = 8  # the first one with this opset: ONNX Runtime reads it from 1.14 on
_NARROW = 16  # input channels below which a matrix is stored as trained: metres need the digits of the first one
_STEPS = 127  # of an int8, on each side of 0


class Graph:
    """A graph under construction; values are named by texts.

    Args:
        weights: how matrices are stored, of `model_file.WEIGHTS`.
    """

    def __init__(self, weights: str) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: dict[str, onnx.ValueInfoProto] = {}
        self._stored: list[TensorProto] = []
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], str] = {}

    def input(self, name: str, *shape: int | str, kind: int = TensorProto.INT64) -> str:
        """Adds an input, if there is none of that name; sizes that are free are texts."""
        self._inputs.setdefault(name, helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns its name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs, and returns their names."""
        number = len(self._nodes)
        names = [f"{kind}_{number}"] if outputs == 1 else [f"{kind}_{number}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def constant(self, values: NDArray) -> str:
        """Stores an array as it is, equal ones once."""
        key = (values.tobytes(), values.dtype.str, values.shape)
        if key not in self._constants:
            self._constants[key] = self._store(values)
        return self._constants[key]

    def matrix(self, weight: Tensor) -> str:
        """Stores a (C_in, C_out) matrix in the type that was asked for, and returns its value in float32.

        Runtimes compute this value once, when they load the model. In int8, each output channel has a scale of its own.
        """
        values = np.ascontiguousarray(weight.detach().float().numpy())
        if self._weights == "fp32" or len(values) < _NARROW:
            return self.constant(values)
        if self._weights == "fp16":
            return self.op("Cast", self._store(values.astype(np.float16)), to=TensorProto.FLOAT)
        scale = np.maximum(np.abs(values).max(axis=0), np.float32(1e-30)) / np.float32(_STEPS)
        steps = self._store(np.rint(values / scale).astype(np.int8))
        # Not DequantizeLinear: ONNX Runtime would compute that again and again, with each scan.
        return self.op("Mul", self.op("Cast", steps, to=TensorProto.FLOAT), self.constant(scale))

    def model(self, outputs: dict[str, tuple[str, Any, int]]) -> onnx.ModelProto:
        """Makes the model.

        Args:
            outputs: name -> the value, its type and its number of dimensions.
        """
        named = [helper.make_node("Identity", [value], [name]) for name, (value, _, _) in outputs.items()]
        infos = [
            helper.make_tensor_value_info(name, kind, ["rows", *["classes"] * (dimensions - 1)])
            for name, (_, kind, dimensions) in outputs.items()
        ]
        graph = helper.make_graph([*self._nodes, *named], "segmentation", [*self._inputs.values()], infos, self._stored)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="2DPASS")

    def _store(self, values: NDArray) -> str:
        name = f"stored_{len(self._stored)}"
        self._stored.append(numpy_helper.from_array(values, name))
        return name
