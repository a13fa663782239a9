"""The model as a program of torch.export, from the points of a scan to the class of each, for Python and C++.

`model.pt2` runs wherever torch is: `torch.export.load("model.pt2").module()`. `model_cpu.pt2` is the same program
compiled by AOTInductor for CPUs like this one; C++ loads it without Python (examples/cpp).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.exc import CppCompileError, InductorError
from torch.export import ExportedProgram
from torch.fx import GraphModule

from network.export import tiled_backend
from network.export.model_file import COMPILED, DESCRIPTION, MODELS
from network.export.nearest import nearest
from network.models.segmentation_network import SegmentationNetwork
from network.native.library import switched_off
from utils.errors import UserError
from utils.files import write_bytes
from utils.scan.records import Batch

PROGRAM = MODELS["torch"]
_QUICK = {"cpp.simdlen": 1, "aot_inductor.debug_compile": True}
"""Settings with which a program is compiled soon, and runs slowly."""
_EXAMPLE_POINTS = 300
_MOST_POINTS = 1 << 27  # numbers of pairs then fit into an int64


class LabelProgram(nn.Module):
    """A module from points to labels: what `network.segmenter.Segmenter` does with a scan that needs no alignment.

    Args:
        network: in evaluation mode, without gradients, on the CPU; it is copied.
        volume: its low and high corners, metres; None: the network takes all points.
    """

    def __init__(self, network: SegmentationNetwork, volume: Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        own = copy.deepcopy(network.evaluated()).eval().requires_grad_(False)
        own.backend = tiled_backend.BACKEND
        # In a list, its weights are constants of the program, and only those that are used: with the norms folded in.
        self._network = [own]
        self._volume = volume

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Labels points.

        Args:
            points: (N, 4) float32: x, y, z (metres, in the frame of the training data) and intensity. A row with a NaN
                or an infinite coordinate, or at (0, 0, 0), is no return.

        Returns:
            (N,) uint8 labels, of which 0 are those of no returns: a point outside of the volume takes the label of the
            nearest point inside, and all are 0 where no point is inside. (N,) float32 confidences, 0..1; 0 where the
            network has not seen the point.
        """
        xyz = points[:, :3]
        there = xyz.isfinite().all(dim=1) & (xyz != 0).any(dim=1)
        inside, middle = there, (0.0, 0.0, 0.0)
        if self._volume is not None:
            low, high = (points.new_tensor(corner) for corner in self._volume)
            inside = there & (xyz > low).all(dim=1) & (xyz < high).all(dim=1)
            middle = tuple((lowest + highest) / 2 for lowest, highest in zip(*self._volume, strict=True))
        some = inside.any()
        # One more point, at the end, which the network sees where it would see none.
        extended = torch.cat([points, points.new_tensor([[*middle, 0.0]])])
        seen = torch.cat([inside, ~some[None]]).nonzero()[:, 0]
        torch._check(seen.shape[0] >= 1)
        shown = extended.index_select(0, seen)
        shown = torch.cat([shown[:, :3], shown[:, 3:].nan_to_num(0.0, 0.0, 0.0)], dim=1)

        logits = self._predict(shown)[:, 1:].float()
        best = logits.argmax(dim=1) + 1
        sure = logits.softmax(dim=1).amax(dim=1)
        labels = best.new_zeros(extended.shape[0]).scatter(0, seen, best)
        confidence = sure.new_zeros(extended.shape[0]).scatter(0, seen, sure)
        if self._volume is not None:
            outside = (there & ~inside).nonzero()[:, 0]
            donor = nearest(shown[:, :3], xyz.index_select(0, outside))
            labels = labels.scatter(0, outside, best.index_select(0, donor))
        count = points.shape[0]
        return (labels[:count] * some).to(torch.uint8), confidence[:count] * some

    def _predict(self, points: Tensor) -> Tensor:
        """Computes the (P, K) logits of a scan."""
        none = torch.zeros(points.shape[0], dtype=torch.int64, device=points.device)
        return self._network[0].predict(Batch(points, none, none, none, none, None, (points.shape[0],)))


def make_program(network: SegmentationNetwork, volume: Sequence[Sequence[float]] | None) -> ExportedProgram:
    """Exports a network as a program with the arguments and results of `LabelProgram`, for any number of points.

    Args:
        network: in evaluation mode, without gradients, on the CPU.
        volume: its low and high corners, metres; None: the network takes all points.
    """
    example = torch.rand(_EXAMPLE_POINTS, 4, generator=torch.Generator().manual_seed(0))
    if volume is not None:
        low, high = torch.tensor(volume)
        example[:, :3] = torch.lerp(low, high, example[:, :3])
    with torch.no_grad(), switched_off():
        program = LabelProgram(network, volume)
        program(example)  # what layers keep is made by an evaluation
        shapes = {"points": {0: torch.export.Dim("count", min=0, max=_MOST_POINTS)}}
        exported = torch.export.export(program, (example,), dynamic_shapes=shapes, strict=False)
    for module in exported.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # the names of folders of this machine
    return exported


def write_program(
    network: SegmentationNetwork, description: Mapping[str, Any], folder: Path, weights: str, compiled: bool = False
) -> dict[str, dict[str, Any]]:
    """Writes `model.pt2` into the folder, and `model_cpu.pt2` if a compiled program is asked for.

    Args:
        network: in evaluation mode, without gradients, on the CPU.
        description: from `model_file.describe`; it lies in the file, too, as `model.json`.
        folder: where the files go.
        weights: how the weights are stored, of `model_file.WEIGHTS`.
        compiled: whether to compile the program for the CPU, with the C++ compiler of this machine.

    Returns:
        Name of each file that was written -> what `model.json` says of it besides its sha256.

    Raises:
        UserError: the weights cannot be stored that way, or there is no compiler that could be used.
    """
    if weights != "fp32":
        raise UserError(f"--weights {weights}: programs of torch.export hold fp32; leave it out, or choose onnx")
    if compiled:
        _check_compiler()
    program, content = make_program(network, description["volume"]), BytesIO()
    torch.export.save(program, content, extra_files={DESCRIPTION: json.dumps(description)})
    files = {PROGRAM: content.getbuffer()}
    if compiled:
        files[COMPILED] = memoryview(compile_program(program, description["names"], description["raw_ids"]))
    (folder / COMPILED).unlink(missing_ok=True)  # of an earlier export
    for name, data in files.items():
        write_bytes(folder / name, data)
    return {name: {"weights": weights} for name in files}


def _check_compiler() -> None:
    """Raises UserError if there is no C++ compiler; an export takes a minute before it is needed."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UserError(f"--compile: there is no {compiler}; install a C++ compiler, or name one with the variable CXX")


def compile_program(
    program: ExportedProgram, names: Sequence[str], raw_ids: Sequence[int], optimize: bool = True
) -> bytes:
    """Compiles a program for CPUs like this one, and returns the content of the file that AOTInductor's loader reads.

    Its metadata hold of each class the raw id ("raw_id 1") and the name ("name 1").

    Args:
        program: from `make_program`.
        names, raw_ids: of the K classes.
        optimize: whether the compiler takes the time to optimise.

    Raises:
        UserError: there is no compiler that could be used.
    """
    metadata = {f"name {number}": name for number, name in enumerate(names)}
    metadata |= {f"raw_id {number}": str(raw) for number, raw in enumerate(raw_ids)}
    settings = {"aot_inductor.metadata": metadata, **({} if optimize else _QUICK)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / COMPILED
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
        except (CppCompileError, InductorError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"--compile: {line}; choose another C++ compiler with the variable CXX") from error
        return path.read_bytes()
