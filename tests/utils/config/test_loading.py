"""A configuration is read, overridden and saved; every mistake is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.configs import CONFIG_FOLDER, RAW, REMOVED, SHIPPED, contained, plain, refusal, set_key
from utils.config.loading import load_config, save_config
from utils.config.messages import nearest_key
from utils.config.schema import Config, known_keys
from utils.errors import UserError
from utils.paths import expand_home, resolve_path


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train_params.learning_rat", "train_params.learning_rate"),
        ("learning_rat", "train_params.learning_rate"),
        ("model_params.hidden_size", "model_params.hiden_size"),
        ("hidden_size", "model_params.hiden_size"),
        ("dataset_params.hidden_size", "model_params.hiden_size"),
        ("dataset_params.Bottom_Crop", "dataset_params.bottom_crop"),
        ("dataset_params.val_data_loader.batchsize", "dataset_params.val_data_loader.batch_size"),
        ("dataset_params.train_data_loader.batchsize", "dataset_params.train_data_loader.batch_size"),
        ("train_param", "train_params"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(key: str, nearest: str, write) -> None:
    words = f"unknown key {key}, did you mean {nearest}?"
    assert refusal(write({key: 1})) == words
    assert refusal(write({}), (f"{key}=1",)) == f"{words} (from an override)"


def test_nothing_near_is_no_suggestion() -> None:
    assert nearest_key("train_params.zzz", known_keys()) is None
    assert nearest_key("dataset_params.resize", known_keys(RAW)) is None  # not "hiden_size"
    assert nearest_key("momentum", []) is None


def test_every_known_key_is_nearest_to_itself() -> None:
    assert [nearest_key(key, known_keys()) for key in known_keys()] == known_keys()


@pytest.mark.parametrize("key", ["train_params", "model_params.hiden_size", "dataset_params.val_data_loader.data_path"])
def test_a_missing_key_is_named(key: str, write) -> None:
    assert refusal(write({key: REMOVED})) == f"{key} is missing"


def test_all_mistakes_are_in_the_one_line(write) -> None:
    path = write({"train_params.max_num_epochs": "abc", "momentum": 1, "model_params.num_classes": REMOVED})
    assert set(refusal(path, ("train_params.lambda_xm",)).split("; ")) == {
        "train_params.max_num_epochs must be an integer, found 'abc'",
        "unknown key momentum, did you mean train_params.momentum?",
        "model_params.num_classes is missing",
        "override 'train_params.lambda_xm' must read key=value",
    }


def test_a_key_or_value_with_a_line_break_stays_in_the_line(write) -> None:
    assert "unknown key a b" in refusal(write({"a\nb": 1, "train_params.optimizer": "SGD\nAdam"}))


def test_a_key_that_is_no_text_is_unknown(write) -> None:
    raw = yaml.safe_load(write({}).read_text())
    raw["train_params"][7] = 1
    path = write({"train_params": raw["train_params"]})
    assert refusal(path) == "unknown key train_params.7"


def test_a_missing_label_mapping_is_named(write) -> None:
    line = refusal(write({"dataset_params.label_mapping": "config/label_mapping/none.yaml"}))
    assert line.startswith("dataset_params.label_mapping names config/label_mapping/none.yaml, but there is no such")


def test_a_home_folder_that_is_not_there_is_named(write) -> None:
    words = "dataset_params.label_mapping names ~nouser/x.yaml, but there is no such home folder, correct the path"
    assert refusal(write({"dataset_params.label_mapping": "~nouser/x.yaml"})) == words
    with pytest.raises(UserError, match=r"^~nouser/x, but there is no such home folder"):
        expand_home("~nouser/x")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/x") == tmp_path / "x"
    assert expand_home("x/~") == Path("x/~")


def test_a_path_is_looked_up_here_first_and_then_in_the_repository(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_path("config/2DPASS-demo.yaml").samefile(CONFIG_FOLDER / "2DPASS-demo.yaml")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "2DPASS-demo.yaml").write_text("mine")
    assert resolve_path("config/2DPASS-demo.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the configuration is empty"),
        ("# only a comment\n", "the configuration is empty"),
        ("- 1\n- 2\n", "must be a mapping of keys to values, found [1, 2]"),
        ("just text", "must be a mapping of keys to values, found 'just text'"),
        ("format_version: 1\nmodel_params: [1, 2\ntrain_params: 3\n", "not valid YAML, line 3"),
        ("format_version: 1\n\tmodel_params: 2\n", "not valid YAML, line 2"),
        ("format_version: \x01\n", "not valid YAML"),
        ("format_version: 2020-13-45\n", "not valid YAML"),
        ("format_version: !!python/name:os.system\n", "not valid YAML, line 1"),
        pytest.param("format_version: " + "[" * 5000 + "]" * 5000, "not valid YAML, nested too deeply", id="deep"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(content)
    assert words in refusal(tmp_path / "run.yaml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "no such configuration file" in refusal(tmp_path / "none.yaml")
    assert "cannot read the configuration" in refusal(tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    assert "not valid YAML" in refusal(tmp_path / "run.yaml")


def test_overrides_are_applied_and_checked_like_the_file(write) -> None:
    path = write({})
    overrides = {
        "train_params.max_num_epochs": ("2", 2),
        "train_params.learning_rate": ("1e-3", 0.001),
        "train_params.weight_decay": ("0", 0.0),
        "train_params.optimizer": ("Adam", "Adam"),
        "train_params.trainval": ("true", True),
        "model_params.scale_list": ("[2,4]", [2, 4]),
        "dataset_params.seg_labelweights": ("null", None),
        "dataset_params.train_data_loader.batch_size": ("4", 4),
        "dataset_params.val_data_loader.data_path": ("/data/a=b", "/data/a=b"),
    }
    expected = plain(load_config(path))
    for key, (_, value) in overrides.items():
        set_key(expected, key, value)
    for key in ("momentum", "nesterov", "weight_decay"):  # of SGD, where the file has their defaults
        del expected["train_params"][key]
    assert plain(load_config(path, [f"{key}={text}" for key, (text, _) in overrides.items()])) == expected


def test_the_last_override_wins(write) -> None:
    config = load_config(write({}), ["train_params.max_num_epochs=2", "train_params.max_num_epochs=3"])
    assert config.train_params.max_num_epochs == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train_params.max_num_epochs", "override 'train_params.max_num_epochs' must read key=value"),
        ("train_params.max_num_epochs=x", "must be an integer, found 'x' (from an override)"),
        ("train_params.max_num_epochs.x=1", "unknown key train_params.max_num_epochs.x"),
        ("model_params.scale_list=[2,", "override 'model_params.scale_list=[2,' is not valid YAML after the '='"),
        pytest.param("train_params.max_num_epochs=" + "[" * 5000, "after the '=', nested too deeply", id="deep"),
        ("=3", "unknown key"),
    ],
)
def test_a_wrong_override_is_refused(override: str, words: str, write) -> None:
    assert words in refusal(write({}), (override,))


def test_an_override_can_supply_what_the_file_lacks(write) -> None:
    path = write({"train_params.max_num_epochs": REMOVED})
    assert load_config(path, ["train_params.max_num_epochs=2"]).train_params.max_num_epochs == 2


def test_an_override_of_one_loader_leaves_its_yaml_alias_alone(write, tmp_path: Path) -> None:
    raw = yaml.safe_load(write({}).read_text())
    raw["dataset_params"]["train_data_loader"] = raw["dataset_params"]["val_data_loader"]
    text = yaml.safe_dump(raw)
    assert "&id" in text
    (tmp_path / "alias.yaml").write_text(text)
    data = load_config(tmp_path / "alias.yaml", ["dataset_params.train_data_loader.batch_size=3"]).dataset_params
    assert (data.train_data_loader.batch_size, data.val_data_loader.batch_size) == (3, 1)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "+1e-3", ".1e-2", "0.001", "1.0e-3"])
def test_numbers_with_an_exponent_are_numbers(text: str, write) -> None:
    path = write({"train_params.learning_rate": "PLACE"})
    path.write_text(path.read_text().replace("PLACE", text))
    assert load_config(path).train_params.learning_rate == pytest.approx(0.001, rel=1e-12)


LOSSES_OF_2DPASS = ("lambda_seg2d", "lambda_xm")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_saved_configuration_loads_as_the_same(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["train_params.learning_rate=1e-7", "dataset_params.train_data_loader.data_path='1e-3'"])
    save_config(config, tmp_path / "runs" / "saved.yaml")
    notes: list[str] = []
    assert load_config(tmp_path / "runs" / "saved.yaml", note=notes.append) == config
    assert notes == []  # no key in it is without an effect
    assert isinstance(config, Config)
    saved = yaml.safe_load((tmp_path / "runs" / "saved.yaml").read_text())
    assert list(saved["dataset_params"])[-2:] == ["train_data_loader", "val_data_loader"]  # as in what is shipped
    wanted = plain(config)
    if config.model_params.model_architecture != "arch_2dpass":
        wanted["train_params"] = {k: v for k, v in wanted["train_params"].items() if k not in LOSSES_OF_2DPASS}
    assert contained(saved, wanted) and contained(wanted, saved)


def test_a_configuration_that_cannot_be_saved_says_where(write, tmp_path: Path) -> None:
    config = load_config(write({}))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the configuration"):
        save_config(config, tmp_path / "file" / "saved.yaml")
