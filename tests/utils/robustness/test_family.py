"""The metrics against the published tables: every row's summary figures follow from its figures per corruption."""

from __future__ import annotations

import pytest

from dataloader.corruptions import families as generated
from tests.support.robustness import ROBO3D, YAN
from utils.corruptions import CLEAN
from utils.errors import UserError
from utils.robustness.family import Profile, default_folder, find_model, load_family
from utils.robustness.metrics import robustness

FAMILIES = {
    key: load_family(*key) for key in (("yan", "SemanticKITTI"), ("robo3d", "SemanticKITTI"), ("robo3d", "nuScenes"))
}
YAN_FAMILY, KITTI_C, NUSCENES_C = FAMILIES.values()


def rows(*families):
    return [
        pytest.param(family, row, id=f"{family.dataset}-{row.name}")
        for family in families
        for row in family.models.values()
    ]


@pytest.mark.parametrize(("family", "row"), rows(YAN_FAMILY))
def test_rows_of_yan_et_al(family, row) -> None:
    """Printed to one decimal, from figures with one decimal; R differs by up to 0.16, as rounding both allows."""
    figures = robustness(row, family)
    assert figures.mean == pytest.approx(row.published["RmIoU"], abs=0.051)
    assert figures.mean_relative == pytest.approx(row.published["mR"], abs=0.07)
    assert figures.relative == pytest.approx(row.published["R"], abs=0.17)
    assert not figures.errors and figures.mean_error is None


@pytest.mark.parametrize(("family", "row"), rows(KITTI_C, NUSCENES_C))
def test_rows_of_robo3d(family, row) -> None:
    figures = robustness(row, family, family.models["MinkUNet18"])
    assert figures.mean_error == pytest.approx(row.published["mCE"], abs=0.011)
    assert figures.mean_relative == pytest.approx(row.published["mRR"], abs=0.006)


def test_figures_of_2dpass_one_by_one() -> None:
    """Worked out from the published figures by hand."""
    figures = robustness(KITTI_C.models["2DPASS"], KITTI_C, KITTI_C.models["MinkUNet18"])
    errors = [134.92, 85.46, 110.17, 62.91, 94.37, 171.72, 96.91, 92.66]
    relative = [62.62, 93.92, 75.11, 89.46, 90.98, 44.05, 86.43, 77.40]
    assert list(figures.errors.values()) == pytest.approx(errors, abs=0.03)
    assert list(figures.relative.values()) == pytest.approx(relative, abs=0.02)
    figures = robustness(NUSCENES_C.models["2DPASS"], NUSCENES_C, NUSCENES_C.models["MinkUNet18"])
    errors = [76.57, 89.08, 76.35, 142.65, 102.23, 89.39, 101.77, 110.44]
    assert list(figures.errors.values()) == pytest.approx(errors, abs=0.006)


@pytest.mark.parametrize("name", ["2DPASS", "MinkUNet18", "SPVCNN18"])
def test_single_severities_have_the_published_means(name) -> None:
    """To the second decimal; one is cut off where it should be rounded up (2DPASS, wet ground, 60.687 as 60.68)."""
    row = KITTI_C.models[name]
    assert set(row.severities) == set(KITTI_C.titles)
    for corruption, single in row.severities.items():
        assert sum(single.values()) / 3 == pytest.approx(row.means[corruption], abs=0.0067), corruption


def test_known_anomalies_are_kept_as_published() -> None:
    """WaffleIron repeats a figure, and its mCE is computed with it; RmIoU is over corruptions, not over subsets."""
    waffle = KITTI_C.models["WaffleIron"]
    assert waffle.means["wet_ground"] == waffle.means["incomplete_echo"] == 58.55
    kpconv = (42.36, 58.16, 59.63)  # light to heavy: better under heavier crosstalk
    assert sum(kpconv) / 3 == pytest.approx(KITTI_C.models["KPConv"].means["crosstalk"], abs=0.0051)
    rlseg = YAN_FAMILY.models["RLSeg"]
    by_subset = sum(rlseg.means[s.corruption] for s in YAN_FAMILY.subsets if s.corruption != CLEAN) / 16
    assert abs(by_subset - rlseg.published["RmIoU"]) > 1


def profile(clean, **severities):
    return Profile("own", clean, severities, {}, {})


def test_figures_by_hand() -> None:
    own = profile(
        50.0, fog={"light": 40.0, "moderate": 30.0, "heavy": 20.0}, **{"32beam": {"dense": 45.0, "sparse": 25.0}}
    )
    other = profile(60.0, fog={"light": 60.0, "moderate": 50.0, "heavy": 40.0}, **{"32beam": {"dense": 45.0}})
    figures = robustness(own, YAN_FAMILY, other)
    assert figures.means == {"fog": 30.0, "32beam": 35.0}
    assert figures.relative == {"fog": 60.0, "32beam": 70.0}
    assert figures.mean == 32.5 and figures.mean_relative == 65.0
    # The baseline lacks the sparse beams, and is not compared over others.
    assert figures.errors == {"fog": pytest.approx(100 * 210 / 150)}
    assert figures.mean_error == pytest.approx(140.0)


def test_an_incomplete_corruption_is_compared_over_the_same_severities() -> None:
    own = profile(None, fog={"light": 40.0, "heavy": 20.0}, crosstalk={"light": 10.0})
    known = KITTI_C.models["MinkUNet18"]
    figures = robustness(own, KITTI_C, known)
    assert figures.means == {"fog": 30.0, "crosstalk": 10.0}
    assert figures.errors["fog"] == pytest.approx(100 * (60 + 80) / (100 - 61.71 + 100 - 47.59))
    assert not figures.relative and figures.mean_relative is None
    # Of this row only means over all severities are published.
    assert not robustness(own, KITTI_C, KITTI_C.models["FRNet"]).errors


def test_nothing_to_divide_by() -> None:
    perfect = profile(0.0, fog={"light": 100.0, "moderate": 100.0, "heavy": 100.0})
    figures = robustness(perfect, YAN_FAMILY, perfect)
    assert figures.means == {"fog": 100.0} and not figures.relative and not figures.errors
    assert robustness(profile(None), YAN_FAMILY, perfect).mean is None


def test_subsets_are_those_of_the_publications() -> None:
    assert tuple(s.name for s in YAN_FAMILY.subsets) == YAN
    for family in (KITTI_C, NUSCENES_C):
        assert tuple(s.name for s in family.subsets) == ("clean", *ROBO3D)


@pytest.mark.parametrize("key", FAMILIES)
def test_subsets_are_those_that_are_made(key) -> None:
    made = [(s.name, s.type, s.severity) for s in generated.CORRUPTED_SETS[key[0]][key[1]]]
    assert made == [(s.name, s.corruption, s.severity) for s in FAMILIES[key].subsets[1:]]


def test_subsets_are_chosen_by_name_or_corruption_and_keep_their_order() -> None:
    chosen = [s.name for s in YAN_FAMILY.select(["16beam", "fog_heavy", "clean"])]
    assert chosen == ["clean_data", "fog_heavy", "dense_16beam", "sparse_16beam"]
    for family in FAMILIES.values():  # by either family's name of the clean scans
        for name in ("clean", "clean_data"):
            assert [s.corruption for s in family.select([name])] == ["clean"]
    with pytest.raises(UserError, match=r"--subsets rain: .* has none of that name; .* fog_light"):
        YAN_FAMILY.select(["fog", "rain"])


def test_families_that_are_not_there() -> None:
    with pytest.raises(UserError, match="--family yan: is not there for nuScenes; use --family robo3d"):
        load_family("yan", "nuScenes")


def test_a_damaged_table_ends_in_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("utils.corruptions.REPOSITORY", tmp_path)
    folder = tmp_path / "config" / "robustness"
    folder.mkdir(parents=True)
    for text in ("{", "family: yan", "- 1", "family: yan\ncorruptions: [fog]"):
        (folder / "yan-semantickitti.yaml").write_text(text)
        with pytest.raises(UserError, match=r"yan-semantickitti\.yaml: not a table of a family") as error:
            load_family("yan", "SemanticKITTI")
        assert "\n" not in str(error.value)


def test_rows_are_found_in_any_case() -> None:
    found = find_model("minkunet18 ", KITTI_C)
    assert found is KITTI_C.models["MinkUNet18"]
    assert find_model("MinkUNet", KITTI_C) is None


@pytest.mark.parametrize(
    ("family", "data_path", "expected"),
    [
        (YAN_FAMILY, "dataset/SemanticKitti/dataset/sequences/", "dataset/SemanticKitti/dataset/SemanticKITTI-C"),
        (YAN_FAMILY, "sequences/of/sequences", "sequences/of/SemanticKITTI-C"),
        (KITTI_C, "dataset/demo/sequences", "dataset/demo/Robo3D/SemanticKITTI-C"),
        (NUSCENES_C, "dataset/nuscenes/", "dataset/Robo3D/nuScenes-C"),
    ],
)
def test_default_folder(family, data_path, expected, tmp_path) -> None:
    assert default_folder(tmp_path / data_path, family) == tmp_path / expected


def test_a_data_path_without_the_word(tmp_path) -> None:
    with pytest.raises(UserError, match="give --corruption_path"):
        default_folder(tmp_path / "my_sequences", YAN_FAMILY)
