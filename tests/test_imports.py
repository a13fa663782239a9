"""The direction of imports, and the walls around third-party libraries."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Who may import whom. Programs at the root and the tools stand on the same level and leave each other alone.
BELOW = {
    "program": {"commands", "dataloader", "network", "utils"},
    "commands": {"dataloader", "network", "utils"},
    "tools": {"dataloader", "network", "utils"},
    "examples": {"dataloader", "network", "utils"},
    "dataloader": {"utils"},
    "network": {"utils"},
    "utils": set(),
}
# Third-party library -> the only files that may import it.
WALLS = {
    "nuscenes": [],  # judges in the tests only
    "spconv": ["network/sparse/*_backend.py"],
    "triton": ["network/sparse/triton_*.py"],
    "pytorch_lightning": [
        "commands/training.py",
        "network/training/*.py",
    ],
    "wandb": ["network/training/trackers/wandb_run.py"],
    "mlflow": ["network/training/trackers/mlflow_run.py"],
    "viser": ["utils/viewer/*.py"],
    "pypcd4": ["dataloader/formats/pcd.py"],
    "plyfile": ["dataloader/formats/ply.py"],
    "laspy": ["dataloader/formats/las.py", "utils/results/*.py"],
    "rosbags": ["dataloader/formats/bag_reader.py", "utils/results/bag_files.py"],
    "rclpy": ["examples/ros2/labelling_node.py"],
    "sensor_msgs": ["examples/ros2/labelling_node.py"],
    "fsspec": ["utils/locations.py"],
    "transformers": ["network/teachers/foundation_weights.py"],
    "huggingface_hub": ["network/teachers/hub.py", "utils/fetching/hub.py"],
    "safetensors": ["network/teachers/foundation_weights.py", "network/weights/published_folder.py"],
    "torchvision": [],  # not among the dependencies
    "torch_scatter": [],
    "torchsparse": [],
}


PROGRAMS = {"main", "robust_test", "predict"}
"""At the root; each may come later than the others, and none imports another."""


def room(path: str) -> str:
    """The package of a file, or "program" for a file at the root."""
    top, slash, _ = path.partition("/")
    return top if slash else "program"


def source_files() -> dict[str, str]:
    """Path relative to the root -> source, of everything but the tests."""
    files = [*ROOT.glob("*.py"), *(file for name in BELOW for file in (ROOT / name).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def imported_modules(source: str, path: str) -> set[str]:
    """Dotted names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = path.rsplit("/", node.level)[0].replace("/", ".") if node.level else ""
            names.add(f"{base}.{node.module or ''}".strip("."))
    return names


def breaches(path: str, source: str, rooms: set[str]) -> list[str]:
    """What a file imports against the rules."""
    own = room(path)
    found = []
    for module in sorted(imported_modules(source, path)):
        top = module.partition(".")[0]
        if top in rooms and top != own and top not in BELOW[own]:
            found.append(f"{path} imports {module}")
        if top in WALLS and not any(fnmatch(path, allowed) for allowed in WALLS[top]):
            found.append(f"{path} imports {module}")
    return found


def smaller_room(path: str) -> str:
    """The folder of a file; the files of network/ itself, which put the parts together, lie above its folders."""
    return path.rpartition("/")[0] or "program"


def circles(files: dict[str, str]) -> list[str]:
    """Pairs of folders that import each other, by way of others as well."""
    homes = {path.removesuffix(".py").replace("/", "."): smaller_room(path) for path in files}
    arrows: dict[str, set[str]] = {room: set() for room in homes.values()}
    for path, source in files.items():
        imported = {homes[module] for module in imported_modules(source, path) if module in homes}
        arrows[smaller_room(path)] |= imported - {smaller_room(path)}

    def reached(start: str) -> set[str]:
        found, todo = set(), [start]
        while todo:
            new = arrows[todo.pop()] - found
            found |= new
            todo += new
        return found

    beyond = {room: reached(room) for room in arrows}
    return [f"{a} <-> {b}" for a in arrows for b in arrows if a < b and b in beyond[a] and a in beyond[b]]


def test_no_folder_imports_one_that_imports_it() -> None:
    assert not circles(source_files())


def test_a_circle_is_found() -> None:
    assert not circles({"a/b/c.py": "import a.d.e", "a/d/e.py": "import f.g", "f/g.py": ""})
    assert circles({"a/b/c.py": "import a.d.e", "a/d/e.py": "import a.b.c"}) == ["a/b <-> a/d"]
    assert circles({"a/b.py": "import c.d", "c/d.py": "import e.f", "e/f.py": "import a.b"})


def rooms_of(files: dict[str, str]) -> set[str]:
    """Everything of this project that can be imported by name, tests included."""
    return {*BELOW, *PROGRAMS, "tests", *(path.removesuffix(".py") for path in files if "/" not in path)}


def test_imports_go_downward_and_libraries_stay_behind_their_walls() -> None:
    files = source_files()
    assert {room(path) for path in files} == set(BELOW)
    assert not [breach for path, source in files.items() for breach in breaches(path, source, rooms_of(files))]


DATA_SETS = {"SemanticKITTI", "nuScenes"}
# Where a data set's name may be compared with, beside its own files: a key of the vocabulary that only one has.
KNOWING = ["utils/config/data.py"]


def name_tests(source: str) -> list[int]:
    """Lines that compare something with the name of a data set."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            values = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            found += [node.lineno] if DATA_SETS.intersection(map(str, values)) else []
    return found


def test_no_file_asks_which_data_set_it_is() -> None:
    """A data set says in its record what is different about it."""
    assert name_tests('if data.pc_dataset_type == "nuScenes":\n    pass') == [1]
    assert name_tests('x = 1 if name in ("SemanticKITTI", "b") else 2') == [1]
    asking = {path: name_tests(source) for path, source in source_files().items() if not path.startswith("tools/")}
    assert [path for path, lines in asking.items() if lines] == KNOWING


def test_networks_do_not_know_lightning() -> None:
    """A network is a plain torch module: nothing but the programs imports the task, the trainer or their callbacks."""
    for path, source in source_files().items():
        if path.startswith("network/") and not path.startswith("network/training/"):
            found = {name for name in imported_modules(source, path) if name.startswith("network.training")}
            assert not found, path


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("utils/a.py", "from network.models.losses import x"),
        ("utils/a.py", "import dataloader.dataset"),
        ("network/a.py", "def f():\n    from dataloader import batch"),
        ("dataloader/a.py", "if True:\n    import network"),
        ("dataloader/a.py", "import tools.view as v"),
        ("tools/a.py", "from main import main"),
        ("main.py", "from tools import view"),
        ("robust_test.py", "import main"),
        ("predict.py", "from robust_test import evaluate"),
        ("predict.py", "from pytorch_lightning import Trainer"),
        ("network/a.py", "from dataloader.experiment import Experiment"),
        ("network/a.py", "import tests.support.golden"),
        ("dataloader/a.py", "import nuscenes.nuscenes"),
        ("network/sparse/layers.py", "try:\n    import triton\nexcept ImportError:\n    pass"),
        ("network/models/network_3d.py", "import pytorch_lightning as pl"),
        ("tools/sub/a.py", "from torch_scatter import scatter"),
    ],
)
def test_a_breach_is_found(path, source) -> None:
    assert len(breaches(path, source, rooms_of({"main.py": ""}))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "main.py",
            "from network.training.trainer import x\nimport dataloader, utils.command.devices",
        ),
        (
            "predict.py",
            "from dataloader.formats import files\nimport network.assemble, utils",
        ),
        ("network/sparse/a.py", "from .coordinates import pack\nfrom ..losses import y\nfrom utils import errors"),
        ("network/sparse/spconv_backend.py", "def f():\n    from spconv.pytorch import SubMConv3d"),
        ("network/sparse/triton_backend.py", "import triton.language as tl"),
        ("tools/demo/a.py", "import utils_of_others, networkx"),
    ],
)
def test_what_is_allowed(path, source) -> None:
    assert not breaches(path, source, rooms_of({"main.py": ""}))
