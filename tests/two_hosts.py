"""Train on two hosts, played by network namespaces with a cable between them; pull the cable; go on.

    python -m tests.two_hosts

Needs root and `ip`. The hosts have no other network, and the machine's own is not touched. torchrun starts one process
on each. What comes out must equal a run of two processes on one host: weights, losses, scores and test to the last
bit. Then a training loses its cable: both hosts must end by themselves, with a line, and with --resume on both go on to
the same result. Takes a minute or two; prints what it found, and ends with 1 if something was wrong.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kill_trial import DATA, ROOT, RUNS, Trial, differences
from tools.demo_world import semantickitti
from utils.results.history import read_history

NAMES, ADDRESSES = ("2dpass-a", "2dpass-b"), ("10.213.7.1", "10.213.7.2")
TIMEOUT = 8
"""Seconds after which a silent host counts as lost."""


def possible() -> bool:
    """Returns whether this machine lets hosts be made."""
    if os.geteuid() or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def hosts() -> Iterator[tuple[str, ...]]:
    """Makes two hosts, joined by a cable; their names are of this process, so that trials may run side by side."""
    names = tuple(f"{name}-{os.getpid()}" for name in NAMES)
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def arguments(folder: Path, log_dir: str, *more: str) -> list[str]:
    loaders = [f"dataset_params.{part}_data_loader" for part in ("train", "val")]
    return [
        str(ROOT / "main.py"), "--config", str(ROOT / "config/MinkowskiNet-demo.yaml"), "--log_dir", log_dir, *more,
        "--set", "model_params.cr=0.125", "train_params.max_num_epochs=8",
        *(f"{loader}.data_path={folder / 'sequences'}" for loader in loaders),
        *(f"{loader}.num_workers=1" for loader in loaders),
    ]  # fmt: skip


def start(folder: Path, command: list[str], name: str) -> subprocess.Popen[bytes]:
    """Starts a command, its output in a file of that name."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    variables |= {"GLOO_SOCKET_IFNAME": "cable"} if command[0] == "ip" else {}
    with (folder / name).open("wb") as output:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)


def on_both(folder: Path, names: tuple[str, ...], log_dir: str, *more: str) -> list[subprocess.Popen[bytes]]:
    """Starts a run with one process on each host."""
    words = arguments(folder, log_dir, "--cpu", "1", "--num_nodes", "2", "--peer_timeout", str(TIMEOUT), *more)
    place = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", ADDRESSES[0], "--master_port", "29511"]
    return [
        start(
            folder,
            ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", *place,
             "--node_rank", str(rank), *words],
            f"{log_dir}-{rank}.txt",
        )
        for rank, host in enumerate(names)
    ]  # fmt: skip


def pulled(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Pulls the cable in the second epoch; returns what was wrong with the end."""
    history = folder / RUNS / "pulled" / "version_0" / "history.jsonl"
    processes = on_both(folder, names, "pulled", "--resume")
    while not history.is_file() and all(process.poll() is None for process in processes):
        time.sleep(0.02)
    ip("-n", names[0], "link", "set", "cable", "down")
    begin, wrong = time.monotonic(), []
    for rank, process in enumerate(processes):
        try:
            code = process.wait(TIMEOUT + 45)
        except subprocess.TimeoutExpired:
            process.kill()
            wrong.append(f"host {rank} did not end")
            continue
        said = (folder / f"pulled-{rank}.txt").read_text()
        print(f"cable pulled: host {rank} ended after {time.monotonic() - begin:.1f} s with {code}", flush=True)
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        if code == 0 or len(lines) != 1 or "does not answer" not in lines[0]:
            wrong.append(f"host {rank}: code {code}, {lines}")
    ip("-n", names[0], "link", "set", "cable", "up")
    return wrong


def trial(folder: Path) -> list[str]:
    """Carries the trial out; returns what was wrong."""
    semantickitti.write_tree(folder / "sequences", DATA)
    one_host = start(folder, [sys.executable, *arguments(folder, "whole", "--cpu", "2")], "whole.txt")
    wrong = ["one host failed"] if one_host.wait() else []
    with hosts() as names:
        wrong += pulled(folder, names)
        done = read_history(folder / RUNS / "pulled" / "version_0")
        print(f"{len(done)} epochs in the history when the cable was pulled", flush=True)
        wrong += [f"resume: {p.args}" for p in on_both(folder, names, "pulled", "--resume") if p.wait()]
        tested = ("--test", "--checkpoint", str(folder / RUNS / "whole" / "version_0" / "last.ckpt"))
        wrong += [f"test: {p.args}" for p in on_both(folder, names, "tested", *tested) if p.wait()]
    alone = start(folder, [sys.executable, *arguments(folder, "tested-alone", "--cpu", "2", *tested)], "alone.txt")
    wrong += ["the test on one host failed"] if alone.wait() else []
    wrong += differences(Trial(folder, folder, 2, 1, 8), "pulled")
    tests = [folder / RUNS / name for name in ("tested", "tested-alone")]
    scores = [next(test.glob("test_*/scores.json")).read_text() for test in tests]
    return wrong + ([] if scores[0] == scores[1] else ["scores of the test differ"])


def main() -> int:
    """Runs the trial in a folder that is removed when all is well."""
    if not possible():
        print("needs root, ip, and network namespaces")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="two_hosts_"))
    wrong = trial(folder)
    print("\n".join(wrong) or "two hosts are as one, to the last bit, also after the cable was pulled", flush=True)
    if wrong:
        print(f"see {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
