"""The ways of labelling that `benchmark.py export` compares, and what has been measured of each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from network.export.model_file import COMPILED as COMPILED_FILE
from network.export.model_file import MODELS
from network.native.library import library
from tools.benchmarking.child import describe
from tools.benchmarking.exports.row import COMPILED, EAGER, NAME, ONNX, PLAIN, PROGRAM, Job
from tools.export import build_parser, export


@dataclass(frozen=True)
class Way:
    """One way of labelling.

    Attributes:
        name: for people.
        weights: how the weights are stored or, of the network itself, what it computes in; for people.
        kind: of `row`.
        flags: of tools/export.py; none: the checkpoint itself is used.
        file: that is loaded.
    """

    name: str
    weights: str
    kind: str
    flags: tuple[str, ...] = ()
    file: str = ""


def ways(formats: Sequence[str], weights: Sequence[str], compiled: bool) -> Iterator[Way]:
    """Yields the ways that are asked for, the network itself first."""
    if library() is not None:
        yield Way("Segmenter, native code", "fp32", EAGER)
        yield Way("Segmenter, native code", "bf16", EAGER)
    yield Way("Segmenter, PyTorch alone", "fp32", PLAIN)
    if "onnx" in formats:
        for each in dict.fromkeys(weights):
            yield Way("ONNX Runtime", each, ONNX, ("--format", "onnx", "--weights", each), MODELS["onnx"])
    if "torch" in formats:
        yield Way("torch.export in Python", "fp32", PROGRAM, ("--format", "torch"), MODELS["torch"])
        if compiled:
            flags = ("--format", "torch", "--compile")
            yield Way("AOTInductor in Python", "fp32", COMPILED, flags, COMPILED_FILE)


class Checkpoint(NamedTuple):
    """A checkpoint, the config of one that does not hold its own, and what of it is changed."""

    path: Path
    config: str | None
    overrides: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        """The flags of tools/export.py that name it."""
        config = [] if self.config is None else ["--config", self.config]
        changed = ["--set", *self.overrides] if self.overrides else []
        return ["--checkpoint", str(self.path), *config, *changed]


@dataclass
class Trial:
    """A way, and what has been measured of it.

    Attributes:
        way: the way.
        checkpoint: of the network.
        folder: where its export and its labels go.
        size: of the file that it loads, bytes; None: there is none.
        failure: why it could not be measured, in a line; "": it could.
        seconds, graph: of each pass, per scan; the part in ONNX Runtime, or nothing.
        memory: the largest size of a process, bytes.
        others: the most cores that other processes took.
    """

    way: Way
    checkpoint: Checkpoint
    folder: Path
    size: int | None = None
    failure: str = ""
    seconds: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    memory: int = 0
    others: float = 0.0

    def export(self) -> None:
        """Writes the model that the way needs; a failure is noted."""
        self.folder.mkdir()
        file = self.checkpoint.path
        try:
            if self.way.flags:
                words = [*self.checkpoint.flags, "--output", str(self.folder / "model"), *self.way.flags]
                export(build_parser().parse_args(words))
                file = self.folder / "model" / self.way.file
            self.size = file.stat().st_size
        except Exception as error:
            self.failure = describe(error)

    def take_turn(self, scans: tuple[str, ...], runs: int, threads: int, limit: float) -> None:
        """Measures the way in a process of its own, unless it has failed.

        Args:
            scans: files of their points, as NumPy writes them.
            runs: how often each scan is labelled after the first time.
            threads: of all libraries.
            limit: seconds that the process may take.
        """
        if self.failure:
            return
        way, (path, config, overrides) = self.way, self.checkpoint
        if way.flags:
            path = self.folder / "model" / ("" if way.kind == ONNX else way.file)
        precision = "bf16" if way.weights == "bf16" else "32"
        job = Job(way.kind, str(path), config, overrides, precision, scans, str(self._labels), runs, threads)
        answer = job.run(limit)
        self.failure = "; ".join(dict.fromkeys(answer.failures.values()))
        if (values := answer.values.get(NAME)) is not None:
            self.seconds += values["seconds"]
            self.graph += values["graph"]
            self.memory = max(self.memory, values["memory"])
            self.others = max(self.others, values["others"] or 0.0)

    @property
    def median(self) -> float | None:
        """The median of the seconds; None: it was not measured."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """The labels of all scans, one after another; None: it was not measured."""
        return np.load(self._labels) if self.seconds else None

    @property
    def _labels(self) -> Path:
        return self.folder / "labels.npy"
