"""The keys of past sweeps: what goes together, what has no effect, and the lines about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.configs import CONFIG_FOLDER, RAW, RAW_NUSCENES, RAW_VOXEL, SHIPPED, refusal
from utils.config.effects import refuse_idle
from utils.config.loading import load_config
from utils.results.run_settings import RULES, Rule, config_settings, refuse_changes

KITTI = {"model_params.input_dims": 5, "dataset_params.past_scans": 2}
THINNED = KITTI | {"dataset_params.past_predictions": "out"}
NUSCENES = {"model_params.input_dims": 5, "dataset_params.past_sweeps": 9}
OWN = {"dataset_params.pc_dataset_type": "Campus"}


@pytest.mark.parametrize(
    ("base", "changes", "past"),
    [
        (RAW, {}, 0),
        (RAW, KITTI, 2),
        (RAW, {"model_params.input_dims": 5}, 0),
        (RAW, THINNED | {"dataset_params.past_steps": [0] + [1] * 19}, 2),
        (RAW_NUSCENES, NUSCENES, 9),
        (RAW_VOXEL, NUSCENES, 9),
        (RAW_VOXEL, OWN | KITTI, 2),
        # what asks for nothing is no mistake
        (RAW, {"dataset_params.past_labels": False, "dataset_params.past_sweeps": 0}, 0),
        (RAW_NUSCENES, {"dataset_params.past_scans": 0, "dataset_params.past_predictions": None}, 0),
    ],
)
def test_what_goes_together_loads(base: dict[str, Any], changes: dict[str, Any], past: int, write) -> None:
    config = load_config(write(changes, base))
    assert config.dataset_params.past == past
    refuse_idle(config, baseline_only=base is not RAW_VOXEL, averaging=True)


@pytest.mark.parametrize(
    ("base", "changes", "line"),
    [
        (RAW, {"dataset_params.past_scans": -1}, "dataset_params.past_scans must be 0 or more, found -1"),
        (RAW, {"dataset_params.past_scans": 10**400}, "dataset_params.past_scans must be 100 or less, found 1000"),
        (RAW, {"dataset_params.past_scans": True}, "dataset_params.past_scans must be an integer, found true"),
        (RAW, {"dataset_params.past_labels": 1}, "dataset_params.past_labels must be true or false, found 1"),
        (
            RAW,
            {"dataset_params.past_scans": 2},
            "model_params.input_dims must be 5 for dataset_params.past_scans 2, so that the network knows the age of a "
            "point, found 4",
        ),
        (
            RAW_NUSCENES,
            {"dataset_params.past_sweeps": 9},
            "model_params.input_dims must be 5 for dataset_params.past_sweeps 9, so that the network knows the age of "
            "a point, found 4",
        ),
        (
            RAW,
            {"dataset_params.past_sweeps": 3},
            "dataset_params.past_sweeps is not for pc_dataset_type SemanticKITTI, set past_scans in its place, found 3",
        ),
        *(
            (
                base,
                KITTI,
                "dataset_params.past_scans is not for pc_dataset_type nuScenes, set past_sweeps in its place, found 2",
            )
            for base in (RAW_NUSCENES, RAW_VOXEL)
        ),
        (
            RAW,
            THINNED | {"dataset_params.past_predictions": ""},
            "dataset_params.past_predictions must be a string that",
        ),
        (RAW, THINNED | {"dataset_params.past_predictions": 7}, "dataset_params.past_predictions must be a string"),
        (
            RAW,
            THINNED | {"dataset_params.past_scans": 0},
            "dataset_params.past_predictions is set, but past_scans is 0: there are no past points to thin out",
        ),
        *(
            (
                base,
                keys | {"dataset_params.past_predictions": "out"},
                "dataset_params.past_predictions is for pc_dataset_type SemanticKITTI, remove it: past sweeps of "
                f"{name} are not thinned",
            )
            for base, keys, name in (
                (RAW_NUSCENES, NUSCENES, "nuScenes"),
                (RAW_VOXEL, NUSCENES, "nuScenes"),
                (RAW_VOXEL, OWN | KITTI, "Campus"),
            )
        ),
        (
            RAW,
            KITTI | {"dataset_params.past_steps": [1] * 20},
            "dataset_params.past_steps is set, but past_predictions is null: nothing says the class of a past point",
        ),
        (
            RAW,
            THINNED | {"dataset_params.past_steps": [1] * 19},
            "dataset_params.past_steps must have 20 entries (model_params.num_classes), found 19: one for each "
            "learning id, the ignored 0 first",
        ),
        (
            RAW,
            THINNED | {"dataset_params.past_steps": [0] * 20},
            "dataset_params.past_steps must be above 0 for some class, found 0 for all: set past_scans to 0",
        ),
        (RAW, THINNED | {"dataset_params.past_steps": [-1] * 20}, "dataset_params.past_steps[0] must be 0 or more"),
        (RAW, THINNED | {"dataset_params.past_steps": 2}, "dataset_params.past_steps must be a list, found 2"),
    ],
)
def test_what_does_not_go_together_is_refused(base: dict[str, Any], changes: dict[str, Any], line: str, write) -> None:
    assert refusal(write(changes, base)).startswith(line)


def test_single_scan_runs_ask_for_no_past() -> None:
    for path in SHIPPED:
        data = load_config(path).dataset_params
        assert data.past == (2 if "multiscan" in path.stem else 0)
        assert data.past_labels and data.past_predictions is None and data.past_steps is None


@pytest.mark.parametrize("baseline_only", [False, True])
def test_multiscan_configs_go_with_the_flags(baseline_only: bool) -> None:
    refuse_idle(load_config(CONFIG_FOLDER / "2DPASS-multiscan-demo.yaml"), baseline_only, averaging=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scans", 4), ("labels", False), ("predictions", "other"), ("steps", [1] * 20)],
)
def test_a_resumed_training_may_have_another_past_and_says_so(key: str, value: Any, write) -> None:
    before = config_settings(load_config(write(THINNED)))
    changes = THINNED | {f"dataset_params.past_{key}": value}
    now = config_settings(load_config(write(changes)))
    changed = refuse_changes({"train_params": {}, "settings": before}, now, "last.ckpt")
    assert list(changed) == [f"dataset_params.past_{key}"]
    assert RULES[f"dataset_params.past_{key}"] is Rule.NOTE


def test_the_settings_of_a_run_hold_the_keys_as_plain_values(write) -> None:
    steps = [0] + [3] * 19
    settings = config_settings(load_config(write(THINNED | {"dataset_params.past_steps": steps})))
    found = {name: settings[f"dataset_params.past_{name}"] for name in ("scans", "labels", "predictions", "steps")}
    assert found == {"scans": 2, "labels": True, "predictions": "out", "steps": steps}
