"""The experiments: what they run are commands that our programs take, with keys that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import study
from tools.documenting.programs import parser_of
from tools.studying.experiments import CORRUPTED, EXPERIMENTS, LETTERS, ORDER
from tools.studying.files import Place
from tools.studying.jobs import jobs_in_order, scoring, training, with_needs
from tools.studying.plan import SEEDS
from utils.config.effects import refuse_idle
from utils.config.loading import load_config
from utils.corruptions import SUBSETS
from utils.errors import UserError

ROOT = Path(__file__).parents[3]
ARMS = {row.arm.name: row.arm for experiment in EXPERIMENTS for row in experiment.rows}
ARMS |= {arm.start.name: arm.start for arm in list(ARMS.values()) if arm.start is not None}
ARMS |= {arm.start.name: arm.start for arm in list(ARMS.values()) if arm.start is not None}


def test_every_command_is_understood(tmp_path):
    place = Place(tmp_path)
    for job in study.everything():
        program, *words = place.command(job)
        parser_of(program).parse_args(words)


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_the_settings_of_every_arm_make_a_config(arm):
    flags = parser_of("main.py").parse_args(training(arm, 1).words[1:])
    config = load_config(ROOT / flags.config, flags.set)
    refuse_idle(config, flags.baseline_only, flags.SWA)
    assert arm.epochs * arm.scans == arm.steps == config.train_params.max_num_epochs * arm.scans
    assert config.dataset_params.train_data_loader.batch_size == 1
    fraction = getattr(config.dataset_params, "label_fraction", None)
    assert arm.scans == (120 if fraction is None else max(1, round(120 * fraction)))
    assert flags.check_val_every_n_epoch == (config.train_params.max_num_epochs if arm.validated else 1)


def test_arms_have_names_of_their_own_and_rows_that_are_there():
    for experiment in EXPERIMENTS:
        keys = [row.key for row in experiment.rows]
        assert len(keys) == len(set(keys))
        assert {row.against for row in experiment.rows} <= {"", *keys}
        assert all(set(row.seeds) <= {*experiment.row(row.against).seeds} for row in experiment.rows if row.against)
    jobs = study.everything()
    assert len({job.name for job in jobs}) == len(jobs)
    by_run = {job.run: job.words for job in jobs if job.what == "training"}
    assert len(set(by_run.values())) == len(by_run)
    assert set(CORRUPTED) <= {subset.name for subset in SUBSETS["yan"]}


def test_every_row_is_run_and_what_matters_most_comes_first():
    wanted = {scoring(row, seed).name for one in EXPERIMENTS for row in one.rows for seed in row.seeds}
    order = [job.name for job in jobs_in_order(LETTERS, SEEDS)]
    assert wanted == set(order) and set(LETTERS) == {letter for letter, _ in ORDER}
    assert order[:4] == ["2dpass_seed1_views1", "alone_seed1_views1", "2dpass_seed2_views1", "alone_seed2_views1"]
    jobs = with_needs(jobs_in_order("a", [3]))
    assert [job.name for job in jobs if job.what == "training"] == ["2dpass_seed3", "alone_seed3"]


def test_unknown_experiments_and_seeds_are_refused():
    parse = study.build_parser().parse_args
    with pytest.raises(UserError, match="x: no such experiment"):
        study.chosen(parse(["list", "a", "x"]))
    with pytest.raises(UserError, match="--seeds 9"):
        study.chosen(parse(["run", "--seeds", "9"]))
    assert {job.run for job in study.chosen(parse(["run", "a", "--seeds", "2"]))} == {
        "study_2dpass_seed2",
        "study_alone_seed2",
    }
