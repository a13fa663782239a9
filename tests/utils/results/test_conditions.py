"""What is said of the conditions of a score: what the network was trained on, above all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from utils.config.loading import load_config
from utils.results.conditions import Conditions, TrainedOn

CONFIG = Path(__file__).parents[3] / "config" / "2DPASS-demo.yaml"


@pytest.mark.parametrize(
    ("settings", "trained", "evaluated", "expected"),
    [
        ((), ("00",), ("08",), TrainedOn(False)),
        ((), ("00", "08"), ("08",), TrainedOn(True)),  # the label mapping lists a sequence twice
        ((), (), (), TrainedOn(False)),  # a data set with splits of its own
        (("train_params.trainval=true",), ("00",), ("08",), TrainedOn(True)),
        (("dataset_params.label_fraction=0.01",), ("00",), ("08",), TrainedOn(False, 0.01)),
    ],
)
def test_what_was_trained_on_follows_from_the_config(settings, trained, evaluated, expected) -> None:
    assert TrainedOn.of(load_config(CONFIG, list(settings)), trained, evaluated) == expected


def test_the_line_names_everything() -> None:
    conditions = Conditions("validation", 4071, 12, "logs/last.ckpt", TrainedOn(True, 0.01))
    assert conditions.text == (
        "4071 scans of the validation split, 12 views; logs/last.ckpt, also trained on scans of this split, on 1 % of "
        "the training scans"
    )
    one = Conditions("validation", 1, 1, "a.ckpt", None, "fog_light")
    assert one.text == (
        "1 scan of the validation split (fog_light), one view; a.ckpt, what it was trained on is not known"
    )
    tuned = Conditions("validation", 5, 1, "b.ckpt", TrainedOn(False, None, "a.ckpt (not known)"))
    assert tuned.text.endswith("b.ckpt, not trained on this split, fine-tuned from a.ckpt (not known)")
    assert conditions.one_view.text == conditions.text.replace("12 views", "one view")
    for found in (conditions, one, tuned):
        record = json.loads(json.dumps({"num_vote": found.views, **found.record()}))
        assert Conditions.of_record(record) == found
    assert "the validation split, 4 views" in Conditions.of_record({"num_vote": 4, "checkpoint": "a"}).text
