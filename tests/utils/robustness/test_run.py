"""Results on disk: what is written is read back, runs are found again, baselines are named."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support.processes import held_by_another
from utils.corruptions import Subset
from utils.errors import UserError
from utils.metrics import INSIDE, OUTSIDE, Convention, ScoreCard
from utils.results.conditions import Conditions
from utils.robustness.family import load_family
from utils.robustness.results import SubsetResult, profile_of, read_results, write_results
from utils.robustness.run import RobustRun, find_baseline, find_run, start_run

FAMILY = load_family("robo3d", "nuScenes")
BY_NAME = {subset.name: subset for subset in FAMILY.subsets}
SETTINGS = {"family": "robo3d", "dataset": "nuScenes", "num_vote": 1, "volume": (1, 2)}


MEASURED = Conditions("validation", 5, 12, "last.ckpt", None, "fog/light")


def scores() -> ScoreCard:
    counts = np.zeros((2, 4, 4), dtype=np.int64)
    counts[INSIDE, 1, 1], counts[INSIDE, 2, 1], counts[INSIDE, 1, 0] = 6, 2, 9
    counts[OUTSIDE, 1, 1], counts[OUTSIDE, 1, 2] = 1, 3
    return ScoreCard.from_counts(counts, ("noise", "a", "b", "c"), skip_unseen=True)


def result(name: str, miou: float = 40.0) -> SubsetResult:
    both: dict[Convention, float] = {"official": miou, "published": miou + 1}
    return SubsetResult(
        BY_NAME[name], 3, 70, dict(both), dict(both), {k: {"a": miou, "b": 0.0, "c": None} for k in both}
    )


def test_figures_of_a_subset_in_both_conventions() -> None:
    found = SubsetResult.of(BY_NAME["fog/light"], MEASURED, scores())
    assert (found.scans, found.points) == (5, 12)
    assert found.accuracy == {"official": round(700 / 12, 6), "published": 75.0}
    # a: 7 right, 2 missed, 3 too many; b: 3 missed, 2 too many. Inside: 6 right, 2 missed; 2 too many.
    assert found.iou["official"] == {"a": round(700 / 12, 6), "b": 0.0, "c": None}
    assert found.iou["published"] == {"a": 75.0, "b": 0.0, "c": None}
    assert found.miou["published"] == 37.5


def test_the_table_of_an_earlier_version_is_read(tmp_path) -> None:
    path = tmp_path / "summary.csv"
    write_results([result("clean")], "official", path)
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    row = {name: cell for name, cell in row.items() if name != "conditions" and not name.startswith("mIoU_one_view")}
    path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    assert read_results(path) == [result("clean")]


def test_what_is_written_is_read_back(tmp_path) -> None:
    written = [SubsetResult.of(BY_NAME["clean"], MEASURED, scores(), scores()), result("fog/light", 1 / 3)]
    assert written[0].one_view == written[0].miou and "5 scans" in written[0].conditions
    for convention in ("official", "published"):
        write_results(written, convention, tmp_path / "summary.csv")
        assert read_results(tmp_path / "summary.csv") == written
        with (tmp_path / "summary.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["subset"] for row in rows] == ["clean", "fog/light"]
        assert {row["convention"] for row in rows} == {convention}
        assert [float(row["mIoU"]) for row in rows] == [r.miou[convention] for r in written]
        assert float(rows[0]["accuracy"]) == written[0].accuracy[convention]
        assert rows[0]["IoU_published c"] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


@pytest.mark.parametrize("text", ["subset,mIoU\nfog/light,3\n", "\0", "a,b\n1\n"])
def test_a_damaged_summary_ends_in_one_line(tmp_path, text) -> None:
    (tmp_path / "summary.csv").write_text(text)
    with pytest.raises(UserError, match=r"summary\.csv: not a summary\.csv of robust_test\.py, or a damaged one"):
        read_results(tmp_path / "summary.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",3,70,", ",3,-70,", "not a summary"),
        (",3,70,", ",3.5,70,", "not a summary"),
        ("fog/light,fog", "fog/light,snow", "its row 'fog/light' is none of"),
        ("fog/light", "../x", "its row '../x' is none of"),
    ],
)
def test_rows_that_no_run_writes_end_in_one_line(tmp_path, old, new, message) -> None:
    run = start_run(tmp_path, {}, FAMILY)
    run.add(result("fog/light"), "official")
    summary = run.folder / "summary.csv"
    assert old in summary.read_text()
    summary.write_text(summary.read_text().replace(old, new, 1))
    for read in (run.read, lambda: find_run(tmp_path, {}, FAMILY)):
        with pytest.raises(UserError, match="summary.csv: .*" + re.escape(message)):
            read()


@pytest.mark.parametrize("end", [",1", None])
def test_a_row_of_other_length_ends_in_one_line(tmp_path, end) -> None:
    path = tmp_path / "summary.csv"
    write_results([result("clean"), result("fog/light")], "official", path)
    text = path.read_text().removesuffix("\n")
    path.write_text((text + end if end else text.rpartition(",")[0]) + "\n")
    with pytest.raises(UserError, match="or a damaged one"):
        read_results(path)


@pytest.mark.parametrize("figure", ["nan", "inf", "-1", "101"])
def test_a_figure_that_cannot_be_ends_in_one_line(tmp_path, figure) -> None:
    path = tmp_path / "summary.csv"
    written = result("clean")
    write_results([written], "official", path)
    path.write_text(path.read_text().replace(str(written.miou["official"]), figure))
    with pytest.raises(UserError, match="or a damaged one"):
        read_results(path)


def test_a_run_is_found_again_by_its_settings(tmp_path) -> None:
    assert find_run(tmp_path / "nowhere", SETTINGS, FAMILY) is None
    run = start_run(tmp_path, SETTINGS, FAMILY)
    other = start_run(tmp_path, {**SETTINGS, "num_vote": 2}, FAMILY)  # in the same second
    assert run.folder != other.folder
    run.add(result("fog/heavy"), "official")
    run.add(result("clean"), "official")
    found = find_run(tmp_path, SETTINGS, FAMILY)
    assert found is not None and found.folder == run.folder
    assert [r.subset.name for r in found.results] == ["clean", "fog/heavy"]  # in the order of the family
    wanted = FAMILY.select(["fog"])
    assert [s.name for s in found.lacking(dict.fromkeys(wanted, 3))] == ["fog/light", "fog/moderate"]
    assert found.lacking(dict.fromkeys(wanted, 4)) == list(wanted)  # what is there was over three scans
    assert find_run(tmp_path, {**SETTINGS, "num_vote": 3}, FAMILY) is None


def test_what_a_killed_run_leaves_is_no_hindrance(tmp_path) -> None:
    """Killed before its settings, before its first result, or while it wrote one."""
    (tmp_path / "robust_test_2999-01-01_00-00-00").mkdir()
    half = tmp_path / "robust_test_2999-01-01_00-00-01"
    half.mkdir()
    (half / "settings.json").write_text('{"family": ')
    nested = tmp_path / "robust_test_2999-01-01_00-00-02"
    nested.mkdir()
    (nested / "settings.json").write_text("[" * 100_000)
    run = start_run(tmp_path, SETTINGS, FAMILY)
    found = find_run(tmp_path, SETTINGS, FAMILY)
    assert found is not None and found.folder == run.folder and not found.results
    run.add(result("fog/light"), "official")
    (run.folder / ".summary.csv.123.partial").write_text("subset,corr")
    found = find_run(tmp_path, SETTINGS, FAMILY)
    assert found is not None and [r.subset.name for r in found.results] == ["fog/light"]


def test_profile() -> None:
    results = [result("clean", 70.0), result("fog/light", 60.0), result("fog/heavy", 20.0)]
    profile = profile_of("own", results, "published")
    assert profile.clean == 71.0 and profile.severities == {"fog": {"light": 61.0, "heavy": 21.0}}


def baseline(name, tmp_path, origin=None):
    return find_baseline(name, FAMILY, "official", 1, tmp_path, origin)


def test_published_baselines_are_not_comparable_on_scans_made_here(tmp_path) -> None:
    row, remarks = baseline(None, tmp_path)
    assert row is FAMILY.models["MinkUNet18"] and not remarks
    row, (remark,) = baseline("2dpass", tmp_path, {"seed": 0})
    assert row is FAMILY.models["2DPASS"]
    assert "published row of 2DPASS is not comparable" in remark
    assert baseline("none", tmp_path, {"seed": 0}) == (None, [])


def test_a_summary_is_a_baseline(tmp_path) -> None:
    run = start_run(tmp_path, {**SETTINGS, "num_vote": 12, "corruption_path": str(tmp_path)}, FAMILY)
    RobustRun(run.folder, FAMILY).add(result("fog/light", 33.0), "published")
    profile, (remark,) = baseline(str(run.folder / "summary.csv"), tmp_path, {"seed": 0})
    assert profile is not None and profile.name == run.folder.name and profile.severities == {"fog": {"light": 33.0}}
    assert remark == "the baseline was tested with num_vote 12, this checkpoint with 1"
    _, remarks = find_baseline(str(run.folder / "summary.csv"), FAMILY, "official", 12, tmp_path / "x", None)
    assert len(remarks) == 1 and "corruption_path" in remarks[0]


def test_a_baseline_on_other_scans_is_said_to_be(tmp_path, monkeypatch) -> None:
    """The folder may be the same while the subsets in it were made anew, with another seed."""
    settings = {**SETTINGS, "corruption_path": str(tmp_path), "corruption_options": {"seed": 0}, "debug": True}
    run = start_run(tmp_path, settings, FAMILY)
    run.add(result("fog/light"), "official")
    monkeypatch.chdir(run.folder)
    profile, remarks = baseline("summary.csv", tmp_path, {"seed": 0})
    assert profile is not None and profile.name == run.folder.name
    assert len(remarks) == 1 and "--debug" in remarks[0]
    _, remarks = baseline("summary.csv", tmp_path, {"seed": 1})
    assert len(remarks) == 2 and "made with other options" in remarks[0]


def test_baselines_that_are_none(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"--baseline Nobody: neither .* which are: MinkUNet18, MinkUNet34, .*; give one"
    ):
        baseline("Nobody", tmp_path)
    strange = replace(result("fog/light"), subset=Subset("rain/light", "rain", "light"))
    for results in ([], [strange]):
        write_results(results, "official", tmp_path / "summary.csv")
        with pytest.raises(UserError, match="not a robustness test on nuScenes-C"):
            baseline(str(tmp_path / "summary.csv"), tmp_path)
    other = start_run(tmp_path, {**SETTINGS, "dataset": "SemanticKITTI"}, FAMILY)
    other.add(result("fog/light"), "official")
    with pytest.raises(UserError, match="not a robustness test on nuScenes-C"):
        baseline(str(other.folder / "summary.csv"), tmp_path)


def test_side_by_side_no_row_is_lost(tmp_path) -> None:
    """Two commands that began with the same folder, each with subsets of its own."""
    first = start_run(tmp_path, SETTINGS, FAMILY)
    second = find_run(tmp_path, SETTINGS, FAMILY)
    assert second is not None and second.folder == first.folder
    first.add(result("fog/light", 10.0), "official")
    second.add(result("fog/heavy", 20.0), "official")
    first.add(result("fog/light", 30.0), "official")  # measured anew: the older row does not come back
    first.add(result("clean", 40.0), "official")
    found = {row.subset.name: row.miou["official"] for row in read_results(first.folder / "summary.csv")}
    assert found == {"fog/light": 30.0, "fog/heavy": 20.0, "clean": 40.0}


def test_a_subset_is_tested_by_one_command(tmp_path) -> None:
    run = start_run(tmp_path, SETTINGS, FAMILY)
    wanted = dict.fromkeys(FAMILY.select(["fog"]), 3)
    with held_by_another(run.folder / ".fog_light.lock"):
        with pytest.raises(UserError, match=r"testing fog/light; wait"):
            run.claim(wanted).__enter__()
        others = {subset: scans for subset, scans in wanted.items() if subset.name != "fog/light"}
        # One of them is finished by somebody else before it is claimed.
        RobustRun(run.folder, FAMILY).add(result("fog/heavy"), "official")
        with run.claim(others) as todo:
            assert [subset.name for subset in todo] == ["fog/moderate"]
    with run.claim(wanted) as todo:
        assert [subset.name for subset in todo] == ["fog/light", "fog/moderate"]
    assert sorted(path.name for path in run.folder.iterdir()) == ["settings.json", "summary.csv"]
