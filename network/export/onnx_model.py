"""The networks as ONNX models of standard operators: `model.onnx`, and `run_onnx.py` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from network.export.model_file import MODELS, RUNNER
from network.export.onnx_layers import Layers
from network.models.network_3d import Network3D
from network.models.segmentation_network import SegmentationNetwork
from network.models.spvcnn import SPVCNN
from network.models.voxel_network import LEVELS, DownStage, UpStage, VoxelNetwork
from network.sparse.layers import LEAKY_SLOPE, ResidualBlock
from utils.files import read_text, write_bytes, write_text

RELU = 0.0
_RUNNER = Path(__file__).with_name("runner") / RUNNER


def write_model(
    network: SegmentationNetwork, description: Mapping[str, Any], folder: Path, weights: str
) -> dict[str, dict[str, Any]]:
    """Writes `model.onnx` and `run_onnx.py` into the folder.

    Args:
        network: in evaluation mode, without gradients, on the CPU.
        description: from `model_file.describe`.
        folder: where the files go.
        weights: how the weights are stored, of `model_file.WEIGHTS`.

    Returns:
        Name of each file that was written -> what `model.json` says of it besides its sha256.
    """
    write_bytes(folder / MODELS["onnx"], build_model(network, weights))
    write_text(folder / RUNNER, read_text(_RUNNER))
    return {MODELS["onnx"]: {"weights": weights}, RUNNER: {}}


def build_model(network: SegmentationNetwork, weights: str) -> bytes:
    """Builds the model: from the features of points or voxels and lists of rows to classes and confidences.

    Its outputs have a row for each set of points that the network cannot tell apart: `logits` (rows, K) float32,
    `label` (rows,) uint8 from 1 on, and `confidence` (rows,) float32, the softmax over the classes from 1 on.
    """
    graph = Layers(weights)
    if isinstance(network, Network3D):
        logits = _network_3d(graph, network)
    else:
        assert isinstance(network, VoxelNetwork)
        logits = _voxel_network(graph, network)
    one, end = graph.constant(np.array([1])), graph.constant(np.array([np.iinfo(np.int64).max]))
    real = graph.op("Slice", logits, one, end, one)  # without the ignored class 0
    label = graph.op("Add", graph.op("ArgMax", real, axis=1, keepdims=0), one)
    confidence = graph.op("ReduceMax", graph.op("Softmax", real, axis=1), one, keepdims=0)
    outputs = {
        "logits": (logits, TensorProto.FLOAT, 2),
        "label": (graph.op("Cast", label, to=TensorProto.UINT8), TensorProto.UINT8, 1),
        "confidence": (confidence, TensorProto.FLOAT, 1),
    }
    return graph.model(outputs).SerializeToString()


def _network_3d(graph: Layers, network: Any) -> str:
    """Adds `Network3D.forward`; names of inputs end with the scale of their voxels."""
    points = graph.input("points", "points", network.embed_points.in_features, kind=TensorProto.FLOAT)
    embedded = graph.layer(points, network.embed_points, RELU)
    x = graph.layer(graph.sum(embedded, "points.1"), network.embed_voxels)
    outputs, finer = [], 1
    worked_on = dict.fromkeys((1, *network.scale_list[:-1]))
    neighbours = {scale: graph.neighbours(f"neighbours.{scale}") for scale in worked_on}
    for block, scale in zip(network.encoder, network.scale_list, strict=True):
        v = x
        for each in block.voxel_branch:
            v = graph.residual_block(v, each, neighbours[finer])
        f = graph.op("Add", x, v)
        pooled = graph.mlp(graph.sum(f, f"pool.{finer}"), block.pooled_mlp)
        back = graph.input(f"pool.{finer}.back", f"voxels.{finer}")
        identity = graph.layer(f, block.identity, LEAKY_SLOPE)
        merged = graph.concat_linear(block.merge, [(identity, None), (pooled, back)], LEAKY_SLOPE)
        if scale != finer:
            merged = graph.sum(merged, f"mean.{scale}")
        q = graph.layer(merged, block.output)
        outputs.append((q, graph.input(f"tuples.{scale}", "tuples")))
        if len(outputs) < len(network.encoder):
            x = graph.op("Add", q, v if scale == finer else graph.sum(v, f"mean.{scale}"))
            finer = scale
    hidden = graph.concat_linear(network.head, outputs, RELU)
    return graph.layer(hidden, network.classifier)


def _voxel_network(graph: Layers, network: VoxelNetwork) -> str:
    """Adds `MinkowskiNet.forward` or `SPVCNN.forward`; names of inputs end with the level of their voxels."""
    stem = network.stem
    features = graph.input("voxels", "points", stem.conv1.weight.shape[1], kind=TensorProto.FLOAT)
    neighbours = [graph.neighbours(f"neighbours.{level}") for level in range(LEVELS)]

    def blocks(x: str, stage: DownStage | UpStage, level: int) -> str:
        for block in stage.blocks:
            assert isinstance(block, ResidualBlock)
            x = graph.residual_block(x, block, neighbours[level])
        return x

    def down(x: str, stage: DownStage, level: int) -> str:
        return blocks(graph.reduce(x, stage.reduce, f"halves.{level}"), stage, level)

    def up(x: str, skip: str, stage: UpStage, level: int) -> str:
        x = graph.expand(x, stage.expand, f"halves.{level + 1}")
        return blocks(graph.op("Concat", x, skip, axis=1), stage, level)

    x = graph.convolve(features, stem.conv1, neighbours[0], slope=RELU)
    x0 = graph.convolve(x, stem.conv2, neighbours[0], slope=RELU)
    x1 = down(x0, network.stage1, 1)
    x2 = down(x1, network.stage2, 2)
    x3 = down(x2, network.stage3, 3)
    x4 = down(x3, network.stage4, 4)
    if not isinstance(network, SPVCNN):
        y1 = up(x4, x3, network.up1, 3)
        y2 = up(y1, x2, network.up2, 2)
        y3 = up(y2, x1, network.up3, 1)
        return graph.layer(up(y3, x0, network.up4, 0), network.classifier)
    z1 = graph.op("Add", graph.trilinear(x4, neighbours[4], "trilinear.4"), graph.mlp(x0, network.point_mlp1))
    y1 = up(graph.sum(z1, "points.4"), x3, network.up1, 3)
    y2 = up(y1, x2, network.up2, 2)
    z2 = graph.op("Add", graph.trilinear(y2, neighbours[2], "trilinear.2"), graph.mlp(z1, network.point_mlp2))
    y3 = up(graph.sum(z2, "points.2"), x1, network.up3, 1)
    y4 = up(y3, x0, network.up4, 0)
    return graph.layer(graph.op("Add", y4, graph.mlp(z2, network.point_mlp3)), network.classifier)
