"""Kill a training at random moments, resume it each time, and compare it with one that nobody disturbed.

    python -m tests.kill_trial --kills 10

A small MinkowskiNet is trained on made-up data, with two processes and two loader processes each, and with the folder
for temporary files on another file system (/dev/shm) than the checkpoints. Every kill is a SIGKILL to all of its
processes. Losses and scores of every epoch and the final weights must be those of the undisturbed run, to the last bit.
It takes some ten seconds per kill; more arguments of main.py go behind `--`, such as `-- --SWA`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from network.training.callbacks import read_history
from tools.demo_world import semantickitti
from tools.demo_world.options import DemoOptions

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path("logs/SemanticKITTI")
DATA = DemoOptions(train_frames=4, val_frames=3, test_frames=2, beams=12, azimuth_steps=256, image_size=(320, 96))


@dataclass(frozen=True)
class Trial:
    """What is trained, and where.

    Attributes:
        folder: where the data and the runs go.
        temporary: TMPDIR of the processes.
        processes, workers: processes that train, and loader processes of each.
        epochs: their number.
        extra: more arguments of main.py.
    """

    folder: Path
    temporary: Path
    processes: int
    workers: int
    epochs: int
    extra: tuple[str, ...] = ()

    def start(self, log_dir: str, resume: bool) -> subprocess.Popen[bytes]:
        """Begin or resume the run `log_dir`, in a process group of its own."""
        loaders = [f"dataset_params.{part}_data_loader" for part in ("train", "val")]
        settings = [
            "model_params.cr=0.125",
            f"train_params.max_num_epochs={self.epochs}",
            *(f"{loader}.data_path={self.folder / 'sequences'}" for loader in loaders),
            *(f"{loader}.num_workers={self.workers}" for loader in loaders),
        ]
        command = [
            sys.executable, str(ROOT / "main.py"), "--config", str(ROOT / "config" / "MinkowskiNet-demo.yaml"),
            "--cpu", str(self.processes), "--log_dir", log_dir, *self.extra, *(["--checkpoint", "last"] * resume),
            "--set", *settings,
        ]  # fmt: skip
        environment = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with (self.folder / f"{log_dir}.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def run(self, log_dir: str) -> Path:
        """The folder of the newest training of `log_dir`."""
        versions = self.folder / RUNS / log_dir
        return max(versions.glob("version_*"), key=lambda path: int(path.name[8:]), default=versions / "version_0")


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ProcessLookupError):
        for _ in range(50):  # until the last of them is gone, or only waits to be reaped
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def undisturbed(trial: Trial) -> tuple[float, float]:
    """Train without a kill; seconds until the first epoch was done, and until the end."""
    begin, first = time.monotonic(), None
    process = trial.start("whole", resume=False)
    while process.poll() is None:
        if first is None and (trial.run("whole") / "history.jsonl").is_file():
            first = time.monotonic() - begin
        time.sleep(0.02)
    if process.returncode or first is None:
        sys.exit(f"the undisturbed run ended with {process.returncode}; see {trial.folder / 'whole.txt'}")
    return first, time.monotonic() - begin


def disturbed(trial: Trial, log_dir: str, kills: int, pause: float, rng: random.Random) -> int:
    """Train, killed up to `kills` times; the number of kills until it was done.

    One kill in five comes while the processes start or are in their first epoch, the others up to `pause` seconds on.
    """
    killed = 0
    while True:
        resume = (trial.run(log_dir) / "last.ckpt").is_file()  # killed before the first one, it begins anew
        process = trial.start(log_dir, resume)
        early = rng.random() < 0.2
        if not early:
            wait_for_an_epoch(trial, log_dir, process)
        try:
            process.wait(rng.uniform(0, 8 if early else pause) if killed < kills else None)
        except subprocess.TimeoutExpired:
            kill(process)
            killed += 1
            done = [line["epoch"] for line in read_history(trial.run(log_dir))]
            print(f"  {log_dir}: kill {killed}, {len(done)} of {trial.epochs} epochs in the history", flush=True)
            continue
        if process.returncode:
            sys.exit(f"{log_dir} ended with {process.returncode}; see {trial.folder / log_dir}.txt")
        return killed


def wait_for_an_epoch(trial: Trial, log_dir: str, process: subprocess.Popen[bytes]) -> None:
    """Until the process has finished an epoch, or ended."""
    before = read_history(trial.run(log_dir))
    while process.poll() is None and read_history(trial.run(log_dir)) == before:
        time.sleep(0.02)


def differences(trial: Trial, log_dir: str) -> list[str]:
    """In what a run is not the undisturbed one."""
    whole, other = (trial.run(name) for name in ("whole", log_dir))
    found = [
        f"epoch {a['epoch']}: {a} undisturbed, {b}"
        for a, b in zip(read_history(whole), read_history(other), strict=True)
        if a != b
    ]
    states = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, other)]
    return found + [f"weight {name}" for name in states[0] if not torch.equal(states[0][name], states[1][name])]


def main(argv: list[str]) -> int:
    place = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="a new one; by default one that is removed when all is well")
    parser.add_argument("--temporary", type=Path, default=Path("/dev/shm"), help="a file system for TMPDIR")
    args = parser.parse_args(argv[:place])
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill_trial_"))
    temporary = Path(tempfile.mkdtemp(prefix="kill_trial_", dir=args.temporary))
    extra = tuple(argv[place + 1 :])
    trial = Trial(folder.resolve(), temporary, args.processes, args.workers, args.epochs, extra)
    try:
        wrong = carry_out(trial, args.kills, random.Random(args.seed))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not wrong and args.folder is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def carry_out(trial: Trial, kills: int, rng: random.Random) -> bool:
    """Whether anything was wrong; says what."""
    semantickitti.write_tree(trial.folder / "sequences", DATA)
    first, total = undisturbed(trial)
    print(f"undisturbed: {total:.1f} s, the first epoch after {first:.1f} s; runs in {trial.folder}", flush=True)
    pause, left, wrong = 2 * (total - first) / kills, kills, False
    while left > 0:
        log_dir = f"killed_{left}"
        left -= disturbed(trial, log_dir, left, pause, rng)
        found = differences(trial, log_dir)
        wrong |= bool(found)
        print(f"{log_dir}: " + ("the same to the last bit" if not found else "; ".join(found[:5])), flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
