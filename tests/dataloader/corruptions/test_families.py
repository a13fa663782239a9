"""The tables of both papers, and every subset on a made-up sweep."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from dataloader.catalogue import DATA_SETS
from dataloader.corruptions.families import CORRUPTED_SETS, Robo3DChoices, YanChoices, robo3d, yan
from dataloader.corruptions.fog import ALPHAS
from tests.support.corruptions import made_up_sweep, same
from tests.support.robustness import ROBO3D, YAN

KINDS = [(family, dataset) for family, sets in CORRUPTED_SETS.items() for dataset in sets]
EVERY = [
    pytest.param(dataset, subset, id=f"{family}-{dataset}-{subset.name}")
    for family, dataset in KINDS
    for subset in CORRUPTED_SETS[family][dataset]
]


def parameters(family, dataset, type_, name):
    return [subset.parameters[name] for subset in CORRUPTED_SETS[family][dataset] if subset.type == type_]


@pytest.mark.parametrize(("family", "dataset"), KINDS)
def test_subsets_are_those_that_are_evaluated(family, dataset):
    """In the order of the published scripts and tables, which is written down for the tests alone."""
    published = {"yan": YAN[1:], "robo3d": ROBO3D}[family]
    assert tuple(subset.name for subset in CORRUPTED_SETS[family][dataset]) == published
    for subset in CORRUPTED_SETS[family][dataset]:
        assert sorted(re.split("[_/]", f"{subset.type}_{subset.severity}")) == sorted(re.split("[_/]", subset.name))


def test_the_order_of_yan():
    names = (
        "fog_light fog_moderate fog_heavy snowfall_light snowfall_moderate snowfall_heavy local_light local_moderate "
        "local_heavy global_light global_moderate global_heavy dense_32beam sparse_32beam dense_16beam sparse_16beam"
    )
    assert [subset.name for subset in CORRUPTED_SETS["yan"]["SemanticKITTI"]] == names.split()


def test_parameters_of_yan():
    def of(type_, name):
        return parameters("yan", "SemanticKITTI", type_, name)

    assert of("fog", "alpha") == [0.005, 0.06, 0.2]
    assert of("snowfall", "rate") == [0.5, 1.5, 2.5]
    assert of("global", "fraction") == [0.001, 0.05, 0.5]
    assert of("local", "sigma") == [0.05, 0.1, 0.2]
    assert of("32beam", "beams") == [32, 32] and of("16beam", "beams") == [16, 16]
    assert of("32beam", "thinning") == of("16beam", "thinning") == ["none", "stride"]
    assert all(subset.label == 1 and subset.instances for subset in CORRUPTED_SETS["yan"]["SemanticKITTI"])


def test_the_other_reading_of_the_fog_of_yan():
    fogs = yan(choices=YanChoices(fog_coefficient="backscatter", fog_alpha=0.01))[:3]
    assert [fog.parameters["beta"] for fog in fogs] == [0.005, 0.06, 0.2]
    assert [fog.parameters["alpha"] for fog in fogs] == [0.01] * 3


def test_parameters_of_robo3d():
    def of(type_, name):
        return [parameters("robo3d", dataset, type_, name) for dataset in ("SemanticKITTI", "nuScenes")]

    assert of("fog", "beta") == [[0.008, 0.05, 0.2]] * 2
    assert of("wet_ground", "water_height") == [[0.2, 1.0, 1.2]] * 2
    assert of("wet_ground", "noise_floor") == [[0.3, 0.3, 0.7], [0.2, 0.3, 0.7]]
    assert of("snow", "rate") == [[0.5, 1.0, 2.5]] * 2
    assert of("snow", "velocity") == [[2.0, 1.6, 1.6]] * 2
    assert of("motion_blur", "sigma")[0] == [0.2, 0.25, 0.3] and of("motion_blur", "sigma")[1][0] == 0.2
    assert of("beam_missing", "draws") == [[16, 32, 48], [8, 16, 24]]
    assert of("crosstalk", "fraction")[0] == [0.006, 0.008, 0.01] and of("crosstalk", "fraction")[1][0] == 0.03
    assert of("incomplete_echo", "ratio") == [[0.75, 0.85, 0.95]] * 2
    assert of("cross_sensor", "dropped") == [[16, 32, 48], [8, 16, 24]]


def test_what_robo3d_writes_into_label_files():
    for dataset, first in (("SemanticKITTI", 21), ("nuScenes", 41)):
        labels = {subset.type: subset.label for subset in CORRUPTED_SETS["robo3d"][dataset]}
        assert [labels[name] for name in ("fog", "snow", "crosstalk")] == [first, first + 1, first + 2]
    kept = {subset.type for subset in CORRUPTED_SETS["robo3d"]["SemanticKITTI"] if subset.instances}
    assert kept == {"beam_missing", "cross_sensor"}


def test_choices_reach_the_parameters():
    subsets = {subset.name: subset for subset in yan("reference", YanChoices(
        fog_noise="v4", snow_velocity=(1.0, 1.2, 1.4), snow_distribution="sekhon", outlier_volume=None,
        outlier_intensity="zero", distortion_clip=3.0, distortion_intensity=True, beam_offset=1, half="random",
        altered_label=0,
    ))}  # fmt: skip
    assert subsets["fog_heavy"].parameters["variant"] == "v4"
    assert subsets["fog_heavy"].parameters["mode"] == subsets["snowfall_light"].parameters["mode"] == "reference"
    assert subsets["snowfall_moderate"].parameters["velocity"] == 1.2
    assert subsets["snowfall_moderate"].parameters["distribution"] == "sekhon"
    assert subsets["global_light"].parameters["volume"] is None
    assert subsets["global_light"].parameters["intensity"] == "zero"
    assert subsets["local_light"].parameters["clip"] == 3.0
    assert subsets["local_light"].parameters["jitter_intensity"]
    assert subsets["dense_16beam"].parameters["offset"] == 1
    assert subsets["sparse_16beam"].parameters["thinning"] == "random"
    assert {subset.label for subset in subsets.values()} == {0}
    nuscenes = robo3d("nuScenes", choices=Robo3DChoices((0.1, 0.2, 0.3), (0.01, 0.02, 0.03)))
    assert [s.parameters["sigma"] for s in nuscenes if s.type == "motion_blur"] == [0.1, 0.2, 0.3]
    assert [s.parameters["fraction"] for s in nuscenes if s.type == "crosstalk"] == [0.01, 0.02, 0.03]


def test_alpha_is_drawn_for_each_frame_of_robo3d():
    fog = CORRUPTED_SETS["robo3d"]["SemanticKITTI"][0]
    drawn = [fog.draw(np.random.default_rng(seed))["alpha"] for seed in range(600)]
    counts = [drawn.count(alpha) for alpha in ALPHAS]
    assert sum(counts) == 600 and min(counts) > 60
    assert fog.draw(np.random.default_rng(5)) == fog.draw(np.random.default_rng(5))


@pytest.mark.parametrize("mode", ["physical", "reference"])
@pytest.mark.parametrize(("dataset", "subset"), EVERY)
def test_every_subset_gives_a_sound_sweep(dataset, subset, mode):
    family = yan(mode) if "_" in subset.name and "/" not in subset.name else robo3d(dataset, mode)
    subset = next(other for other in family if other.name == subset.name)
    sweep = made_up_sweep(3000, DATA_SETS[dataset].sensor)
    found = subset.apply(sweep, np.random.default_rng(0))
    assert same(found, pickle.loads(pickle.dumps(subset)).apply(sweep, np.random.default_rng(0)))
    assert same(sweep, made_up_sweep(3000, DATA_SETS[dataset].sensor))
    assert np.isfinite(found.xyz).all() and np.isfinite(found.intensity).all()
    assert found.xyz.dtype == found.intensity.dtype == np.float32
    own = found.rows >= 0
    assert len(np.unique(found.rows[own])) == own.sum()
    assert np.array_equal(found.labels[own], sweep.labels[found.rows[own]])
    assert found.altered[~own].all()
    if not subset.by_elevation:
        assert np.array_equal(found.ring[own], sweep.ring[found.rows[own]])
    untouched = own & ~found.altered
    if subset.type != "motion_blur":
        assert np.array_equal(found.xyz[untouched], sweep.xyz[found.rows[untouched]])
    assert len(subset.apply(sweep.select(np.zeros(3000, bool)), np.random.default_rng(0))) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dataset", "subset"), EVERY)
def test_points_that_nothing_measures_do_no_harm(dataset, subset):
    """Points at the sensor, beyond any return, or of negative or huge intensity stay finite and need little memory."""
    sweep = made_up_sweep(1200, DATA_SETS[dataset].sensor)
    xyz, intensity = sweep.xyz.copy(), sweep.intensity.copy()
    xyz[:30] = 0
    xyz[30:60] *= 1e5
    xyz[60:90] *= 1e-38
    xyz[90] = 9e7
    intensity[10:40], intensity[90:100] = -1, 9e7
    corrupted = subset.apply(replace(sweep, xyz=xyz, intensity=intensity), np.random.default_rng(0))
    assert np.isfinite(corrupted.xyz).all() and np.isfinite(corrupted.intensity).all()
