"""The statistics of a study, its page and charts from made-up results, and what is gathered from the files of runs."""

from __future__ import annotations

import json
import statistics

import pytest
from PIL import Image

from tests.support.pages import blocks
from tools.studying.charts import draw_bars, draw_curves
from tools.studying.jobs import scoring
from tools.studying.page import write_page
from tools.studying.plan import Arm, Experiment, Row
from tools.studying.remarks import REMARKS
from tools.studying.results import Answer, Finding, Study, gather
from tools.studying.scheduler import Scheduler
from tools.studying.statistics import differences, spread
from utils.errors import UserError

METHOD = {1: 31.4, 2: 30.1, 3: 32.9, 4: 31.9, 5: 34.3}
ALONE = {1: 21.6, 2: 24.1, 3: 28.1, 4: 27.7, 5: 33.3}


def test_statistics_are_those_of_a_sample():
    found = spread(list(METHOD.values()))
    assert found is not None and found.number == 5
    assert found.mean == pytest.approx(32.12)
    assert found.deviation == pytest.approx((sum((figure - 32.12) ** 2 for figure in METHOD.values()) / 4) ** 0.5)
    assert found.deviation == pytest.approx(statistics.stdev(METHOD.values()))
    assert spread([2.0]) is not None and spread([2.0]).deviation is None  # type: ignore[union-attr]
    assert spread([]) is None


def test_differences_are_between_runs_of_one_seed():
    assert differences({1: 3.0, 2: 5.0, 7: 1.0}, {2: 6.0, 1: 1.0, 4: 9.0}) == {1: 2.0, 2: -1.0}
    found = spread(list(differences({1: 3.0, 2: 5.0}, {2: 6.0, 1: 1.0}).values()))
    assert found is not None and (found.positive, found.number, found.mean) == (1, 2, 0.5)
    one = spread([0.0, -1.0])
    assert one is not None and one.positive == 0


def finding(key: str, miou: dict[int, float], against: str = "", views: int = 1, seeds=(1, 2, 3, 4, 5)) -> Finding:
    commands = (f"python main.py --log_dir study_{key}_seed1", "python tools/study.py list")
    minutes = 4.25 if miou else None
    return Finding(
        key, f"the {key}", against, key, seeds, "validation", views, "last", miou, 600, commands, minutes,
        30.0, ("2 cores",), ("torch 2",),
    )  # fmt: skip


def made_up() -> Study:
    rows = (
        finding("method", METHOD, against="alone"),
        finding("alone", ALONE),
        finding("late", {}, against="alone", views=12, seeds=(1, 2, 3)),
    )
    curves = {"study_method_seed1": [3.0, 2.0, 1.0], "study_method_seed2": [2.0, 2.0, 2.0], "study_alone_seed1": [1.0]}
    return Study((Answer("a", "A question", "What about it?", rows),), (), curves, ("python tools/make_demo_data.py",))


def cells(page: str, title: str) -> list[str]:
    row = next(line for line in page.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def test_the_page_says_what_was_measured_and_what_was_not():
    page = write_page(made_up())
    miou, by_seed, difference, above, *about = cells(page, "the method")[1:]
    assert miou == "**32.1 ± 1.6**" and by_seed.startswith("1: 31.4, 2: 30.1")
    gained = [METHOD[seed] - ALONE[seed] for seed in METHOD]
    mean, deviation = statistics.fmean(gained), statistics.stdev(gained)
    assert difference == f"+{mean:.1f} ± {deviation:.1f} to the alone" and above == "5 of 5"
    assert about == ["validation", "1", "last", "600", "4.2"]
    assert cells(page, "the late")[1] == "not run" and cells(page, "the late")[6] == "12"
    assert "not run: the late, seed 1, 2, 3: some 30 min on one core" in page
    shell = "\n".join(block.text for block in blocks(page))
    for key in ("method", "alone", "late"):
        assert shell.count(f"--log_dir study_{key}_seed1") == 1
    assert "2 cores" in page and "torch 2" in page
    assert json.loads(json.dumps(made_up().to_json()))["answers"][0]["rows"][0]["miou"]["3"] == 32.9


def test_remarks_stand_below_the_table_of_their_question(monkeypatch):
    monkeypatch.setitem(REMARKS, "a", "Less than in the paper.")
    _, _, below = write_page(made_up()).partition("| the late ")
    assert below.split("\n\n")[1] == "Less than in the paper."


def test_charts_are_drawn(tmp_path):
    study = made_up()
    draw_bars(study.answers[0], tmp_path / "bars.png")
    draw_curves(study, tmp_path / "curves.png")
    for name in ("bars.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


ONE = Arm("one", "one", "MinkowskiNet", "MinkowskiNet-demo")
QUESTION = Experiment("a", "Title", "About.", (Row(ONE, seeds=(1, 2)), Row(ONE, 4, seeds=(1, 2), against="one")))


def test_results_are_read_from_the_files_of_the_runs(place):
    Scheduler(place, 2, lambda line: None).run([scoring(Row(ONE), 1)])
    study = gather(place, [QUESTION])
    first, second = study.answers[0].rows
    assert first.miou == {1: 50.0} and second.miou == {}
    assert first.minutes is not None and first.estimate > 0
    assert study.curves == {"study_one_seed1": [1.0, 1.0, 1.0]}
    (run,) = study.runs
    assert run["miou"] == 50 and run["packages"]["torch"] and len(run["commands"]) == len(run["seconds"]) == 2
    assert any("--seed 1" in command for command in run["commands"])


def test_damaged_files_are_named(place):
    job = scoring(Row(ONE), 1)
    Scheduler(place, 2, lambda line: None).run([job])
    record = place.record(job)
    assert record is not None
    scores = place.root / record.result
    scores.write_text("{}")
    with pytest.raises(UserError, match=r"scores\.json: has no val/mIoU"):
        gather(place, [QUESTION])
    whole = place.file(job, "json").read_text()
    seconds = f'"seconds": {record.seconds}'
    changes = {seconds: ('"seconds": NaN', '"seconds": -1', f'"seconds": 1{"0" * 400}'), '"done"': ('"well"', "[]")}
    spoilt = [whole.replace(old, new) for old, news in changes.items() for new in news]
    for content in ("[]", *spoilt):
        assert content != whole
        place.file(job, "json").write_text(content)
        with pytest.raises(UserError, match=r"one_seed1_views1\.json: not a record"):
            gather(place, [QUESTION])
