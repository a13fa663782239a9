"""Common properties of all tools: they start alike, run from anywhere, and document their flags and exit codes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataloader.catalogue import DATA_SETS
from tools.making.datasets import DATASETS, DEMO_FOLDERS

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(path for path in (ROOT / "tools").glob("*.py") if not path.name.startswith("_"))
HEAD = """
if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()
"""


def test_the_path_of_imports_is_set_in_one_place():
    files = [path for path in (ROOT / "tools").rglob("*.py") if "sys.path" in path.read_text()]
    assert [path.name for path in files] == ["_root.py"]


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_every_tool_begins_alike_and_has_a_parser(path):
    before, head, _ = path.read_text().partition(HEAD)
    assert head and "import torch" not in before and "from utils" not in before and "from tools" not in before
    help_text = importlib.import_module(f"tools.{path.stem}").build_parser().format_help()
    assert "exit codes: 0 done; 2 " in help_text


def test_tools_know_the_data_sets_that_there_are():
    assert {name.lower(): name for name in DATA_SETS} == DATASETS
    assert DEMO_FOLDERS.keys() <= DATASETS.keys()


@pytest.mark.parametrize("command", [["tools/make_demo_data.py"], ["-m", "tools.make_demo_data"]], ids=["file", "-m"])
def test_tools_are_found_as_files_from_any_folder_and_as_modules(command, tmp_path):
    as_file = command[0] != "-m"
    words = [str(ROOT / command[0])] if as_file else command
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *words, "--beams", "1"],
        cwd=tmp_path if as_file else ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: --beams has to be")
