"""`benchmark.py export` on a tiny network, its children run in this process."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.checkpoints import small_config, write_checkpoint
from tools import benchmark
from tools.benchmarking import child, frame
from tools.benchmarking.exports import row, ways
from utils.errors import UserError

TINY = ["model_params.hiden_size=4", "model_params.scale_list=[2]"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Makes a small scan, and runs children in this process."""
    small = dataclasses.replace(frame.FULL_SIZE, beams=8, azimuth_steps=128, image_size=(64, 32), workers=1)
    monkeypatch.setattr(frame, "FULL_SIZE", small)
    monkeypatch.setattr(frame.os, "cpu_count", lambda: 1)

    def run(module, job, limit):
        assert module == row.MODULE
        return child.Answer.of(child.perform(row.measurements, json.loads(json.dumps(job))))

    monkeypatch.setattr(child, "run_job", run)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


class AllOnes(nn.Module):
    """A program that gives each point label 1."""

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(points[:, 0], dtype=torch.uint8), points[:, 0]


def write_ones(network, description, folder, weights, compiled=False):
    if compiled:
        raise UserError("--compile: there is no g++; install a C++ compiler")
    shapes = {"points": {0: torch.export.Dim("count")}}
    program = torch.export.export(AllOnes(), (torch.zeros(9, 4),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    return {"model.pt2": {}}


def rows_of(path):
    rows = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("|")]
    return {tuple(cells[:2]): cells[2:] for cells in rows[2:]}


def run(tmp_path, *words):
    output = tmp_path / "table.md"
    flags = ["--runs", "2", "--turns", "2", "--output", output, *words]
    assert benchmark.main(["export", *map(str, flags)]) == 0
    return rows_of(output)


def test_every_way_is_measured_and_compared(tmp_path, monkeypatch):
    """A model whose first ten labels are wrong, a program that has one label, and no compiler."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    eager, right, labels = row._KINDS[row.PLAIN], row._KINDS[row.ONNX], []

    def noted(job, graph):
        label = eager(job, graph)
        return lambda points: labels.append(label(points)) or labels[-1]

    def spoilt(job, graph):
        label = right(job, graph)
        return lambda points: label(points) + (np.arange(len(points)) < 10)

    monkeypatch.setitem(row._KINDS, row.PLAIN, noted)
    monkeypatch.setitem(row._KINDS, row.ONNX, spoilt)
    monkeypatch.setattr("network.export.program.write_program", write_ones)
    monkeypatch.setattr(ways, "library", lambda: None)
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", small_config())
    rows = run(tmp_path, "--checkpoint", checkpoint, "--weights", "fp32", "--compile")
    assert next(iter(rows)) == ("Segmenter, PyTorch alone", "fp32")
    count, others = len(labels[0]), np.count_nonzero(labels[0] != 1)
    assert rows["Segmenter, PyTorch alone", "fp32"][2:6:3] == ["1.00 x", "-"]
    assert rows["ONNX Runtime", "fp32"][5] == f"10 ({10 / count:.2%})"
    assert rows["torch.export in Python", "fp32"][5] == f"{others:,} ({others / count:.2%})"
    assert rows["AOTInductor in Python", "fp32"][-1].startswith("--compile: there is no g++")
    parts = "ONNX Runtime", "of it the graph in ONNX Runtime", "of it the geometry in NumPy"
    whole, graph, rest = (float(rows[name, "fp32"][1]) for name in parts)
    assert 0 < graph < whole and 0 < rest < whole


def test_what_is_not_installed_is_said_in_its_row(tmp_path, monkeypatch):
    """Without --checkpoint the weights are random."""
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    rows = run(tmp_path, "--formats", "onnx", "--weights", "fp16", "--set", *TINY)
    assert rows["ONNX Runtime", "fp16"][-1] == "onnxruntime is not installed; pip install -r requirements-export.txt"
    assert float(rows["ONNX Runtime", "fp16"][4]) > 0 and float(rows["Segmenter, PyTorch alone", "fp32"][0]) > 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--weights", "int8", "--formats", "torch"],
        ["--compile", "--formats", "onnx"],
        ["--log_dir", "a"],
        ["--columns", "x,y,z,i"],
        ["--checkpoint", "nowhere.ckpt"],
        ["--scans", "nowhere.bin"],
    ],
)
def test_what_has_no_effect_or_is_missing_is_one_line(flags, capsys):
    assert benchmark.main(["export", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert flags[0] in error or flags[1] in error
