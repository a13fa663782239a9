from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from network.sparse import torch_backend
from network.sparse.layers import SparseBackend
from tools import benchmark
from tools.benchmarking import frame
from tools.benchmarking.child import Answer, perform
from tools.benchmarking.flags import CONFIG
from tools.benchmarking.frame import Origin, prepare
from tools.benchmarking.gpu import command
from tools.benchmarking.gpu import inputs as gpu_inputs
from tools.benchmarking.gpu import row as gpu_row
from tools.benchmarking.gpu.inputs import Job
from tools.benchmarking.gpu.tables import Row, Yardstick, evaluation_table, training_table
from utils.fp32 import matmul_in_tf32

ROOT = Path(__file__).parents[3]
SMALL = ["model_params.hiden_size=4", "dataset_params.bottom_crop=[64, 32]"]
TINY = dataclasses.replace(frame.FULL_SIZE, beams=16, azimuth_steps=128, image_size=(64, 32))
FLAGS = ["--device", "cpu", "--runs", "2", "--steps", "1", "--batch_size", "1", "--workers", "0", "--set", *SMALL]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Chooses few small sweeps, one thread, and no processes that make scans."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "FULL_SIZE", TINY)
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(gpu_row, "BATCHES", 2)
        for module in (gpu_inputs, command):
            patch.setattr(module, "VIEWS", 3)
            patch.setattr(module, "VOTES", 3)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    job = Job(str(folder), str(CONFIG), tuple(SMALL), "torch", "cpu", "32", 2, 1, 2, 0, True, 1)
    prepare(Origin(), CONFIG, SMALL, folder, TINY, job.copies)
    return job


@pytest.fixture(scope="module")
def measured(job):
    """Measures the torch backend in fp32, and (as None) the machine, with all measurements."""
    jobs = (job, dataclasses.replace(job, backend=None))
    return {j.backend: Answer.of(perform(gpu_row.measurements, dataclasses.asdict(j))) for j in jobs}


@pytest.fixture
def few_children(measured, monkeypatch):
    """Replaces the measurements of children by those that this process has made already."""

    def run_job(job, limit, run=gpu_row.run_job):
        return measured[job.backend] if job.backend in measured else run(job, limit)

    monkeypatch.setattr(command, "run_job", run_job)


def tables(markdown):
    """Reads the rows of each table."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    starts = [number for number, row in enumerate(rows) if row[0] == "backend"]
    return [rows[start : start + 4] for start in starts]


# ---- the whole tool


def test_a_backend_that_cannot_be_used_is_a_row_and_the_others_go_on(tmp_path, capsys, few_children):
    """The child that is to measure spconv reports why it cannot."""
    output = tmp_path / "gpu.md"
    flags = ["--backends", "spconv", "torch", "--precisions", "32", "--output", str(output)]
    assert benchmark.main(["gpu", *flags, *FLAGS]) == 0
    printed, written = capsys.readouterr().out, output.read_text()
    assert "Arithmetic bound" in printed and "Memory bound" in written
    for heading, _, spconv, ours in tables(written):
        assert heading[-1] == "remark" and spconv[:2] == ["spconv", "fp32"] and ours[:2] == ["torch", "fp32"]
        assert set(spconv[2:-1]) == {"-"} and "spconv runs on CUDA only" in spconv[-1]
        assert "-" not in ours
    assert len(tables(written)) == 2


def test_a_run_that_is_stopped_ends_with_the_rows_that_are_finished(tmp_path, capsys, measured, monkeypatch):
    def run_job(job, limit):
        if job.backend == "spconv":
            assert "Evaluation: backend triton" in capsys.readouterr().out  # shown before the next one begins
            assert [row[0] for row in tables(output.read_text())[1]][2:] == ["torch", "triton"]
            raise KeyboardInterrupt
        return measured["torch" if job.backend else None]

    monkeypatch.setattr(command, "run_job", run_job)
    output = tmp_path / "gpu.md"
    flags = ["--backends", "torch", "triton", "spconv", "--precisions", "32", "--output", str(output)]
    assert benchmark.main(["gpu", *flags, *FLAGS]) == 130
    printed, written = capsys.readouterr(), output.read_text()
    assert "Not finished: " in printed.out and "Not finished: " in written
    assert printed.out.count("torch") > 1 and printed.err == "interrupted\n"
    assert [[row[0] for row in table][2:] for table in tables(written)] == [["torch", "triton"]] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_tool_says_so_in_one_line(capsys):
    assert benchmark.main(["gpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no CUDA device found") and "--device cpu" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "model_params.hidden=3"], "model_params.hidden"),
        (["--config", str(ROOT / "config" / "SPVCNN-semantickitti.yaml")], "only 2DPASS on SemanticKITTI"),
        (["--data_path", "nowhere"], "000000.bin"),
    ],
)
def test_what_is_wrong_is_one_line(flags, message, capsys):
    assert benchmark.main(["gpu", "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


# ---- what is measured


def test_everything_is_measured(measured):
    answer, machine = measured["torch"], measured[None]
    assert not answer.failures and not machine.failures
    assert list(answer.values) == ["check", "latency", "throughput", "votes", "training", "loading"]
    latency = answer.values["latency"]
    assert 0 < latency["low"] <= latency["median"] <= latency["high"]
    assert 0 < latency["device"] <= latency["high"]
    for name in ("throughput", "training"):
        assert answer.values[name]["scans"] > 0 and answer.values[name]["memory"] > 2**20
    assert answer.values["votes"]["median"] > 0
    assert answer.values["training"]["scans"] == 2 * answer.values["training"]["steps"]
    assert answer.values["loading"]["scans"] > 0 and 0 < answer.values["loading"]["waited"] < 1
    assert answer.values["check"] == {"logits": 0.0, "gradients": 0.0, "worst": 0.0}


def test_tf32_is_a_precision_of_its_own(job):
    """What it is compared with is computed in full precision; afterwards TF32 is chosen again (a CPU has none)."""
    try:
        bench = gpu_row.Bench(dataclasses.replace(job, precision="tf32"))
        assert matmul_in_tf32()
        assert set(bench.check().values()) == {0.0} and matmul_in_tf32()
        gpu_inputs.choose_arithmetic("bf16")
        assert not matmul_in_tf32()
    finally:
        gpu_inputs.choose_arithmetic("32")


def test_no_two_scans_are_the_same(job):
    """This holds for the scans that are evaluated in turn, and for the frames that are loaded for training."""
    inputs = gpu_inputs.Inputs(job)
    assert len({len(view.points) for view in inputs.views}) > 1
    assert len({float(view.points[0, 0]) for view in inputs.views}) == gpu_inputs.VIEWS
    trained = inputs.subject.training_set
    assert len(trained) == job.copies[0] == (1 + 1) * 2
    assert len({float(trained[0, index].scan.xyz.sum()) for index in range(len(trained))}) == len(trained)


def test_many_copies_of_a_frame(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.benchmarking.frame._DISTINCT", 4)
    prepare(Origin(), CONFIG, SMALL, tmp_path, TINY, (9, 1))
    scans = sorted((tmp_path / "00" / "velodyne").iterdir())
    labels = sorted((tmp_path / "00" / "labels").iterdir())
    assert [scan.name for scan in scans] == [f"{number:06d}.bin" for number in range(9)]
    assert len({scan.read_bytes() for scan in scans}) == 4  # the frame itself and three that lack points
    assert [scan.stat().st_size for scan in scans] == [4 * label.stat().st_size for label in labels]
    assert len(list((tmp_path / "00" / "image_2").iterdir())) == 9
    assert len(list((tmp_path / "08" / "velodyne").iterdir())) == 1


def right(keys, kernel_size):
    return torch_backend.submanifold_map(keys, kernel_size)


def wrong(keys, kernel_size):
    """Makes a map without the neighbours of one offset."""
    found = right(keys, kernel_size)
    inputs, outputs = list(found.inputs), list(found.outputs)
    inputs[14] = outputs[14] = keys.new_empty(0)
    return dataclasses.replace(found, inputs=tuple(inputs), outputs=tuple(outputs), mirrored=False)


@pytest.mark.parametrize(("submanifold_map", "is_right"), [(right, True), (wrong, False)])
def test_a_wrong_backend_is_noticed(job, monkeypatch, submanifold_map, is_right):
    """A wrong backend takes the place of spconv, which is not installed."""
    backend = SparseBackend("spconv", submanifold_map, torch_backend.halving_map)
    build = gpu_inputs.build_network

    def build_with(config, baseline_only=False):
        network = build(config, baseline_only)
        if config.model_params.sparse_backend == "spconv":
            (network if baseline_only else network.network_3d).backend = backend  # type: ignore[union-attr]
        return network

    monkeypatch.setattr(gpu_inputs, "build_network", build_with)
    found = gpu_row.Bench(dataclasses.replace(job, backend="spconv")).check()
    assert all(value < 1e-5 if is_right else value > 1e-2 for value in found.values()), found


# ---- the tables


def test_shares_of_the_roofline(measured):
    answer, machine = measured["torch"], measured[None]
    yardstick = Yardstick.of(machine)
    work = yardstick.work["32"]
    bound = max(
        sum(part.flops for part in work.values()) / yardstick.rates["32"].flops,
        sum(part.bytes for part in work.values()) / yardstick.rates["32"].bytes,
    )
    assert yardstick.share("32", 4 * bound) == "25.0 %"
    assert yardstick.share("32", None) == "-"
    (row,) = evaluation_table([Row("torch", "32", answer)], yardstick, 2, True).rows
    assert "-" not in row and row[-1] == "0.0e+00"
    (row,) = training_table([Row("torch", "32", answer)], False).rows
    assert len(row) == 7 and "-" not in row


def test_without_the_speed_of_the_machine_the_rest_is_shown(measured):
    yardstick = Yardstick.of(Answer(failures={"machine": "out of memory"}))
    assert yardstick.facts() == ["The speed of the machine could not be measured: out of memory"]
    assert yardstick.closing(["32", "bf16"]) == []
    (row,) = evaluation_table([Row("torch", "32", measured["torch"])], yardstick, 2, False).rows
    assert row.count("-") == 2


def test_a_remark_names_what_is_missing(measured):
    complete = measured["torch"]
    partly = Answer({"latency": complete.values["latency"]}, {"votes": "out of memory", "training": "out of memory"})
    assert Row("torch", "32", partly).remark() == "votes, training: out of memory"
    assert Row("torch", "32", Answer(failures={"latency": "it is not there"})).remark() == "it is not there"
    assert Row("torch", "32", Answer(partly.values, {"": "ended by SIGSEGV"})).remark() == "ended by SIGSEGV"
    assert Row("torch", "32", complete).remark() == ""
    (row,) = evaluation_table([Row("torch", "32", partly)], Yardstick(), 8, False).rows
    assert row[-1] == "votes, training: out of memory" and row[-2] == "-"
