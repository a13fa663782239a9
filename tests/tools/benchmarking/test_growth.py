from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import benchmark
from tools.benchmarking import frame, host
from tools.benchmarking.child import OUT_OF_MEMORY, Answer
from tools.benchmarking.flags import CONFIG
from tools.benchmarking.growth import cases, table
from tools.benchmarking.growth.cases import Case, Row, questions
from tools.benchmarking.growth.row import EVALUATION, TRAINING, Job, corner, measure, save_batch
from tools.benchmarking.host import ProcessMemory
from tools.benchmarking.machine import memory_meter
from tools.benchmarking.steps import labels

ROOT = Path(__file__).parents[3]
SMALL = ["model_params.hiden_size=4", "dataset_params.bottom_crop=[64, 32]"]
TINY_SWEEP = dataclasses.replace(frame.FULL_SIZE, image_size=(64, 32))
CPU = torch.device("cpu")
_MIB = 2**20
VALUES = {"seconds": 1.0, "runs": 1, "before": 0, "memory": 1, "others": None, "voxels": 1}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Chooses small pictures, one thread (children inherit it), and no processes that make scans."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "FULL_SIZE", TINY_SWEEP)
        patch.setattr(os, "cpu_count", lambda: 1)
        yield
    torch.set_num_threads(threads)


def run(*flags):
    assert benchmark.main(["growth", *map(str, flags), "--runs", "1", "--set", *SMALL]) == 0


def cells_of(markdown):
    """Reads the rows of all tables."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if set(row[0]) != {"-"}]


# ---- the whole tool


def data_at_the_start() -> float:
    """Measures the GiB that the limit counts when a row begins: torch for CUDA takes four times as much as torch for
    the CPU."""
    program = "import tools.benchmarking.growth.row; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(re.findall(r"VmData:\s*(\d+) kB", done.stdout)[0]) / 2**20


def test_a_row_that_fails_says_so_and_the_others_go_on(tmp_path, capsys):
    """Training, with the 25 million parameters of 2DPASS, does not fit into a memory that is enough for evaluation."""
    limit = round(data_at_the_start() + 0.15, 2)
    output = tmp_path / "tables" / "growth.md"
    flags = ["--tables", "points", "votes", "--sweeps", "8x64", "--sweep", "8x64", "--votes", 1, 3]
    run(*flags, "--memory_limit", limit, "--output", output)
    printed, written = capsys.readouterr().out, output.read_text()
    for text in (printed, written):
        assert "--memory_limit" in text and "load average" in text
    points, first, votes, one, three = cells_of(written)
    assert points[0].startswith("Points per scan") and votes[0] == "Votes"
    assert first[0] == "8 x 64" and 0 < int(first[1]) <= 8 * 64 and 0 < int(first[2]) <= int(first[1])
    assert float(first[3]) > 0 and first[4] == "1.00" and first[7:11] == ["-"] * 4
    assert first[-2] == "1, -" and f"training step: out of memory (limit of {limit:g} GiB)" in first[-1]
    assert one[:6] == ["1", *first[1:6]]  # the same case is not measured again
    assert three[0] == "3" and float(three[3]) > 0 and "1" in three[7:]


def test_a_run_that_is_stopped_ends_with_the_rows_that_are_finished(tmp_path, capsys, monkeypatch):
    limits = []

    def answer(job, limit):
        limits.append(limit)
        if len(limits) > 3:
            raise KeyboardInterrupt
        return Answer({job.what: VALUES})

    monkeypatch.setattr(Job, "run", answer)
    output = tmp_path / "growth.md"
    flags = ["--tables", "votes", "points", "--sweep", "8x64", "--sweeps", "8x64", "--votes", "1", "2", "3", "4"]
    command = ["growth", *flags, "--limit", "7.5", "--output", str(output), "--set", *SMALL]
    assert benchmark.main(command) == 130
    printed = capsys.readouterr()
    assert "Votes 2, points" in printed.out and "Not finished: " in printed.out
    assert [row[0] for row in cells_of(output.read_text())] == ["Votes", "1", "2", "3"]
    assert set(limits) == {7.5}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "model_params.hidden=3"], "model_params.hidden"),
        (["--config", str(ROOT / "config" / "SPVCNN-semantickitti.yaml")], "only 2DPASS on SemanticKITTI"),
        (["--tables", "points", "--sweeps", "1x64"], "--beams"),
        (["--device", "cuda"], "no CUDA device"),
    ],
)
def test_what_is_wrong_is_one_line(flags, message, capsys):
    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert benchmark.main(["growth", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags", [["--sweeps", "64"], ["--memory_limit", "0"], ["--runs", "0"], ["--budget", "nan"], ["--limit", "0"]]
)
def test_flags_that_make_no_sense(flags, capsys):
    with pytest.raises(SystemExit) as error:
        benchmark.build_parser().parse_args(["growth", *flags])
    assert error.value.code == 2 and flags[0] in capsys.readouterr().err


# ---- what is measured


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    job = Job("", "", str(CONFIG), tuple(SMALL), "cpu", "32", 2, 60.0, None, 1)
    return cases.Laboratory(tmp_path_factory.mktemp("growth"), job, None, lambda title: None)


def batch_of(laboratory, what, scans=2, votes=1):
    return cases._batch(laboratory._subject((8, 128)), Case((8, 128), scans, 4, votes), what)


@pytest.mark.parametrize("what", [EVALUATION, TRAINING])
def test_a_measurement(laboratory, tmp_path, what):
    batch = batch_of(laboratory, what)
    save_batch(batch, tmp_path / "batch.pt")
    found = measure(dataclasses.replace(laboratory.job, what=what, batch=str(tmp_path / "batch.pt")))
    assert found["seconds"] > 0 and found["runs"] == 2 and found["before"] > 0
    assert 0 < found["voxels"] <= len(batch.points)


def test_every_case_is_measured_once(laboratory, monkeypatch):
    jobs = []

    def answer(job, limit):
        jobs.append(job)
        return Answer({job.what: VALUES})

    monkeypatch.setattr(Job, "run", answer)
    base = Case((8, 64), 1, 4)
    for question in questions(base, [(8, 64), (8, 128)], [1, 2], [4, 8], [1, 2]).values():
        list(laboratory.rows(question))
    # One case in all of them, and one more of each; votes are not of training.
    assert len(jobs) == (1 + 3) * 2 + 1
    assert {job.what for job in jobs} == {EVALUATION, TRAINING}


def test_a_small_batch_of_the_same_kind(laboratory):
    batch = corner(batch_of(laboratory, TRAINING), points=50, size=16)
    assert batch.images is not None and batch.images.shape == (1, 3, 16, 16)
    assert batch.lengths == (len(batch.points),) and len(batch.points) >= 50 > 0
    assert len(batch.visible) > 0 and (batch.pixels[batch.visible] >= 0).all() and batch.pixels.max() < 16
    votes = corner(batch_of(laboratory, EVALUATION, votes=3), points=50)
    assert votes.views is not None and votes.views.shape[:2] == (1, 3) and len(votes.points) == 50
    network = laboratory._subject((8, 128)).network
    assert [len(found) for found in labels(network, votes, "32")] == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak cannot be forgotten")
def test_memory_is_what_a_measurement_adds():
    meter = memory_meter(CPU)
    assert isinstance(meter, ProcessMemory)
    before = meter.start()
    assert 0 < before <= meter.peak()
    huge = torch.ones(100 * _MIB // 4)
    del huge
    assert meter.peak() - before > 95 * _MIB
    again = meter.start()
    assert meter.peak() - again < 50 * _MIB


# ---- the table


def row(label, amount, seconds, memory=1.0, failure=None, others=0.0):
    memories = {"before": 5 * _MIB, "memory": memory * _MIB}
    values = {"seconds": seconds, "runs": 3, **memories, "others": others, "voxels": 2 * amount}
    failures = {} if failure is None else {EVALUATION: failure}
    return Row(label, amount, 10 * amount, {EVALUATION: Answer({} if failure else {EVALUATION: values}, failures)})


VOTES = questions(Case((8, 64), 1, 4), [], [], [], [])["votes"]


def test_growth_is_per_unit_and_relative_to_the_first_row():
    rows = [row("1", 1, 0.5, 10), row("4", 4, 3.0, 20)]
    assert table.table(VOTES, rows, str).rows == [
        ["1", "10", "2", "500", "1.00", "10", "1.00", "3"],
        ["4", "40", "8", "3,000", "1.50", "20", "0.50", "3"],
    ]
    assert table.memory_before(rows) == (5, 5)


def test_where_the_first_row_fails_the_next_one_takes_its_place():
    rows = [row("1", 1, 0.5, failure=OUT_OF_MEMORY), row("2", 2, 3.0), row("4", 4, 3.0)]
    found = table.table(VOTES, rows, lambda text: f"<{text}>")
    assert found.columns[-1].name == "remark"
    assert found.rows[0] == ["1", "10", "-", "-", "-", "-", "-", "-", f"<{OUT_OF_MEMORY}>"]
    assert [line[4] for line in found.rows[1:]] == ["1.00", "0.50"]


def test_a_row_says_that_it_was_not_alone():
    found = table.table(VOTES, [row("1", 1, 0.5), row("2", 2, 3.0, others=0.94)], str)
    assert [line[-1] for line in found.rows] == ["", "other processes took 0.9 cores"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")
def test_own_work_is_not_that_of_others(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_CORES", tmp_path / "stat")
    clocks = {"perf_counter": 10.0, "process_time": 1.0}
    for name in clocks:
        monkeypatch.setattr(host.time, name, lambda name=name: clocks[name])
    tick = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(f"cpu {100 * tick} 0 0 900 0 0 0 0 0 0\n")
    company = host.Company()
    clocks |= {"perf_counter": 14.0, "process_time": 7.0}  # 6 s of work in 4 s, on two cores
    (tmp_path / "stat").write_text(f"cpu {107 * tick} 0 0 950 0 0 0 {tick} 0 0\n")
    assert company.cores() == pytest.approx(0.5)


def test_a_failure_names_the_memory_that_there_was(monkeypatch):
    monkeypatch.setattr(table, "total_memory", lambda device: 24 * 2**30)
    assert table.explain(OUT_OF_MEMORY, "cpu", None) == "out of memory (24 GiB machine)"
    assert table.explain(f"killed: {OUT_OF_MEMORY}, as a rule", "cpu", 2.5).endswith("(limit of 2.5 GiB)")
    assert table.explain("ended by SIGSEGV", "cpu", 2.5) == "ended by SIGSEGV"
