"""The makers of data and pictures on a full disk: one line names the file, and no incomplete file is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.demo import TINY, TINY_NUSCENES, file_bytes
from tests.support.full_disk import files_of_at_most
from tools import draw_corruptions, make_corruptions, view
from tools.benchmarking import frame as benchmark_frame
from tools.benchmarking import report
from tools.demo_world import nuscenes, semantickitti
from utils.command.process import run_command
from utils.paths import REPOSITORY


def corruptions(trees: dict[str, Path], output: Path) -> int:
    flags = ("--family", "robo3d", "--data_path", str(trees["SemanticKITTI"]), "--subsets", "crosstalk/light")
    return make_corruptions.main([*flags, "--output", str(output), "--workers", "1"])


def clean_copies(trees: dict[str, Path], output: Path) -> int:
    flags = ("--family", "yan", "--data_path", str(trees["SemanticKITTI"]), "--subsets", "clean_data")
    return make_corruptions.main([*flags, "--output", str(output), "--workers", "1"])


def corruption_pictures(trees: dict[str, Path], output: Path) -> int:
    flags = ("--family", "robo3d", "--data_path", str(trees["SemanticKITTI"]), "--sequence", "08")
    return draw_corruptions.main([*flags, "--output", str(output)])


def picture(trees: dict[str, Path], output: Path) -> int:
    return view.main(["--data_path", str(trees["SemanticKITTI"]), "--output", str(output / "scan.png")])


def benchmark_frames(trees: dict[str, Path], output: Path) -> int:
    def prepare() -> None:
        config = REPOSITORY / "config" / "2DPASS-demo.yaml"
        benchmark_frame.prepare(benchmark_frame.Origin(trees["SemanticKITTI"]), config, [], output, TINY)

    return run_command(prepare)


def benchmark_table(trees: dict[str, Path], output: Path) -> int:
    table = report.Table([report.Column("stage")], [["a row " * 2000]])

    def measure() -> None:
        with report.growing(report.console(), output / "table.md", lambda: report.Report([], [table], [])) as row_done:
            row_done()

    return run_command(measure)


def kitti_world(trees: dict[str, Path], output: Path) -> int:
    return run_command(lambda: semantickitti.write_tree(output, TINY) and None)


def nuscenes_world(trees: dict[str, Path], output: Path) -> int:
    return run_command(lambda: nuscenes.write_tree(output, TINY_NUSCENES) and None)


@pytest.mark.parametrize(
    ("make", "size", "name"),
    [
        (kitti_world, 2000, "00/velodyne/000000.bin"),
        (nuscenes_world, 7000, "demo_world.json"),
        (nuscenes_world, 12_000, "samples/LIDAR_TOP/"),
        (corruptions, 2000, "crosstalk/light/velodyne/000000.bin"),
        (clean_copies, 2000, "clean_data/velodyne/000000.bin"),
        (corruption_pictures, 4000, "robo3d_fog.png"),
        (picture, 4000, "scan.png"),
        (benchmark_frames, 2000, "00/velodyne/000000.bin"),
        (benchmark_table, 4000, "table.md"),
    ],
)
def test_a_file_that_cannot_grow_is_named(
    make: Callable[[dict[str, Path], Path], int], size: int, name: str, demo_trees, tmp_path, capsys
) -> None:
    output = tmp_path / "output"
    with files_of_at_most(size):
        assert make(demo_trees, output) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith(f"error: {output / name}"), lines
    assert "too large" in lines[0]
    whole = file_bytes(output)
    assert not [path for path in whole if path.endswith((".partial", Path(name).name))]
    assert all(len(content) <= size for content in whole.values())


def test_what_was_written_before_is_whole(demo_trees, tmp_path) -> None:
    large_pictures = replace(TINY, image_size=(192, 128))
    with files_of_at_most(20_000), pytest.raises(OSError, match="image_2"):
        semantickitti.write_tree(tmp_path / "sequences", large_pictures)
    full, part = (file_bytes(folder) for folder in (demo_trees["SemanticKITTI"], tmp_path / "sequences"))
    assert sorted(part)[:3] == ["00/calib.txt", "00/poses.txt", "00/velodyne/000000.bin"]
    assert all(part[name] == full[name] for name in ("00/poses.txt", "00/velodyne/000000.bin"))
