"""The report: what it names, its figures, its warnings and its picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from utils.corruptions import CLEAN
from utils.metrics import Convention
from utils.robustness.conditions import Conditions
from utils.robustness.family import load_family
from utils.robustness.picture import RobustPicture
from utils.robustness.report import RobustReport
from utils.robustness.results import SubsetResult

FAMILY = load_family("robo3d", "SemanticKITTI")
CONDITIONS = Conditions("model.ckpt", "a.yaml", "spvcnn", "data/C", None, 1, "32", 0, False)


def results(name="2DPASS", without=()):
    """As if the model had been tested here, with its published figures."""
    row = FAMILY.models[name]
    assert row.clean is not None
    found = []
    for subset in FAMILY.subsets:
        if subset.name in without:
            continue
        miou = row.clean if subset.corruption == CLEAN else row.severities[subset.corruption][subset.severity]
        both: dict[Convention, float] = {"official": miou, "published": miou + 1}
        iou: dict[Convention, dict[str, float | None]] = {k: {"car": v, "road": None} for k, v in both.items()}
        found.append(SubsetResult(subset, 4071, 99, dict(both), {k: v + 20 for k, v in both.items()}, iou))
    return found


def report(**changes) -> RobustReport:
    baseline = FAMILY.models["MinkUNet18"]
    return replace(RobustReport(FAMILY, results(), "official", baseline, CONDITIONS), **changes)


def table(text: str, heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the table below a heading."""
    lines = text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells[2:]}


def test_published_figures_come_out() -> None:
    text = report().markdown()
    overall = table(text, "Overall")
    assert overall["this checkpoint"][0] == "64.61"
    assert [float(cell) for cell in overall["this checkpoint"][2:]] == pytest.approx([77.50, 106.14], abs=0.011)
    assert overall["MinkUNet18"][2:] == ["81.90", "100.00"]
    assert table(text, "By corruption")["cross-sensor"] == [
        "light 60.28 / moderate 54.74 / heavy 35.00", "50.01", "77.40", "46.05", "73.37", "92.66",
    ]  # fmt: skip
    assert table(text, "By subset")["fog/light"] == ["4071", "48.89", "49.89", "68.89", "69.89"]
    assert table(text, "IoU by class")["car"][:2] == ["64.61", "40.46"]
    assert set(table(text, "IoU by class")["road"]) == {"-"}


def test_one_view_stands_beside_several() -> None:
    """As a row of its own, whose figures are those of a test with one view, and in the line for the picture."""
    below = [replace(r, one_view={k: v - 2 for k, v in r.miou.items()}) for r in results()]
    several = report(results=below, conditions=replace(CONDITIONS, num_vote=12))
    single = report(results=[replace(r, miou=r.one_view, one_view=None) for r in below if r.one_view])
    found, alone = table(several.markdown(), "Overall"), table(single.markdown(), "Overall")
    assert found["this checkpoint, one view"] == alone["this checkpoint"] != found["this checkpoint"]
    assert "12 views; model.ckpt, what it was trained on is not known; with one view: clean mIoU 62.61" in (
        several.headline()
    )
    assert "with one view" not in single.headline() and "one view; model.ckpt" in single.headline()
    partly = report(results=[below[0], *results()[1:]])
    assert "with one view" not in partly.headline() and "| this checkpoint, one view |" not in partly.markdown()


def test_the_other_convention() -> None:
    text = report(convention="published").markdown()
    assert "convention: published: points outside the volume of the network do not count" in text
    assert table(text, "Overall")["this checkpoint"][0] == "65.61"
    assert table(text, "By subset")["fog/light"] == ["4071", "48.89", "49.89", "68.89", "69.89"]  # both, as ever


def test_conditions_are_named() -> None:
    text = report().markdown()
    for line in (
        "- checkpoint: model.ckpt",
        "- config: a.yaml (spvcnn)",
        "- family: robo3d: SemanticKITTI-C (Robo3D, ICCV 2023)",
        "- test-time augmentation: none",
        "- convention: official: every labelled point counts",
        "- baseline: MinkUNet18 (published row; its convention is not stated)",
    ):
        assert line + "\n" in text
    assert "taken to be the published data set" in text and "Before using" not in text


def test_warnings() -> None:
    def warnings(**changes):
        return report(**changes).warnings()

    assert warnings() == []
    trained = replace(CONDITIONS, trained_on=("fog", "snow"))
    (line,) = warnings(conditions=trained)
    assert line.startswith("trained on corruptions, outside Robo3D's protocol") and line.endswith(" fog, snow")
    assert f"- {line}\n" in report(conditions=trained).markdown()
    yans = load_family("yan", "SemanticKITTI")
    assert not any("trained" in line for line in warnings(family=yans, results=[], conditions=trained))
    assert "--debug" in warnings(conditions=replace(CONDITIONS, debug=True))[0]
    (line,) = warnings(results=results(without=("fog/heavy", "clean")))
    assert line.startswith("2 of 25 subsets are not tested") and line.endswith(": clean, fog/heavy")
    some = results()
    assert "same number of scans" in warnings(results=[replace(some[0], scans=7), *some[1:]])[0]
    made = {"generator": 1, "seed": 3, "mode": "physical", "choices": {}}
    text = report(conditions=replace(CONDITIONS, made_with=made), remarks=["of the baseline"]).markdown()
    assert "made by tools/make_corruptions.py: generator 1, seed 3, mode physical)" in text
    assert "\n- of the baseline\n" in text


def test_the_picture_warns_too(tmp_path, monkeypatch) -> None:
    pictures: list[RobustPicture] = []
    monkeypatch.setattr("utils.robustness.report.draw_robustness", lambda picture, path: pictures.append(picture))
    printed = report(conditions=replace(CONDITIONS, trained_on=("fog",)), remarks=["a remark"]).write(tmp_path)
    (warning,) = (line for line in printed if line.startswith("warning: trained on corruptions"))
    assert warning.removeprefix("warning: ") in pictures[0].headlines and "a remark" in pictures[0].headlines


def test_yan_allows_votes_and_knows_no_mce() -> None:
    family = load_family("yan", "SemanticKITTI")
    of_yan = RobustReport(family, [], "official", family.models["2DPASS"], replace(CONDITIONS, num_vote=12))
    assert not any("votes" in line for line in of_yan.warnings())
    assert "- test-time augmentation: 12 votes\n" in of_yan.markdown()
    assert "mCE is a metric of Robo3D, not of Yan et al." in of_yan.markdown()


def test_without_baseline_and_without_clean() -> None:
    text = report(baseline=None, results=results(without=("clean",))).markdown()
    mean = sum(FAMILY.models["2DPASS"].means.values()) / 8
    assert table(text, "Overall") == {"this checkpoint": ["-", f"{mean:.2f}", "-", "-"]}
    assert "- baseline: none\n" in text and "CE is" not in text


def test_what_is_written(tmp_path) -> None:
    lines = report().write(tmp_path)
    assert lines[0].startswith("clean mIoU 64.61") and "against MinkUNet18" in lines[0]
    assert (tmp_path / "summary.md").read_text() == report().markdown()
    whole = np.asarray(Image.open(tmp_path / "summary.png").convert("RGB")).astype(int)
    report(baseline=None).write(tmp_path)
    alone = np.asarray(Image.open(tmp_path / "summary.png").convert("RGB")).astype(int)
    assert whole.shape == alone.shape and whole.shape[1] > 1000

    def share(picture: np.ndarray, rgb: tuple[int, int, int]) -> float:
        return float((np.abs(picture - rgb).max(axis=-1) < 8).mean())

    assert share(whole, (0xD9, 0x62, 0x2B)) > 0.001 > share(alone, (0xD9, 0x62, 0x2B))  # the lines of the baseline
    assert share(whole, (0x12, 0x4F, 0x88)) > 0.01  # the bars of heavy corruptions


@pytest.mark.parametrize("without", [(), ("clean",)])
def test_few_and_no_results_are_drawn(tmp_path, without) -> None:
    report(results=[r for r in results(without=without) if r.subset.corruption in ("fog", CLEAN)]).write(tmp_path)
    report(results=[], baseline=None).write(tmp_path)
    assert Image.open(tmp_path / "summary.png").size[0] > 500
