"""Shipped and published configurations load; every mistake is one line that names the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from utils.config import load_config, nearest_key, resolve_path, save_config
from utils.config_schema import Config, Section, known_keys
from utils.errors import UserError

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "config"
SHIPPED = sorted(CONFIG_FOLDER.glob("*.yaml"))

# A published run of 2DPASS on SemanticKITTI, key by key as it is printed at its start.
PUBLISHED = """
format_version: 1
model_params:
  model_architecture: arch_2dpass
  input_dims: 4
  spatial_shape: [1000, 1000, 60]
  scale_list: [2, 4, 8, 16]
  hiden_size: 64
  num_classes: 20
  backbone_2d: resnet34
  pretrained2d: False
dataset_params:
  training_size: 19132
  dataset_type: point_image_dataset_semkitti
  pc_dataset_type: SemanticKITTI
  collate_type: collate_fn_default
  ignore_label: 0
  label_mapping: ./config/label_mapping/semantic-kitti.yaml
  bottom_crop: [480, 320]
  color_jitter: [0.4, 0.4, 0.4]
  flip2d: 0.5
  image_normalizer: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
  max_volume_space: [50, 50, 2]
  min_volume_space: [-50, -50, -4]
  seg_labelweights: [0, 55437630, 320797, 541736, 2578735, 3274484, 552662, 184064, 78858, 240942562, 17294618,
    170599734, 6369672, 230413074, 101130274, 476491114, 9833174, 129609852, 4506626, 1168181]
  train_data_loader:
    data_path: ./dataset/SemanticKitti/dataset/sequences/
    batch_size: 8
    shuffle: True
    num_workers: 8
    rotate_aug: True
    flip_aug: True
    scale_aug: True
    transform_aug: True
    dropout_aug: True
  val_data_loader:
    data_path: ./dataset/SemanticKitti/dataset/sequences/
    shuffle: False
    num_workers: 8
    batch_size: 1
    rotate_aug: False
    flip_aug: False
    scale_aug: False
    transform_aug: False
    dropout_aug: False
train_params:
  max_num_epochs: 64
  learning_rate: 0.24
  optimizer: SGD
  lr_scheduler: CosineAnnealingWarmRestarts
  momentum: 0.9
  nesterov: True
  weight_decay: 1e-4
  lambda_seg2d: 1
  lambda_xm: 0.05
"""


def plain(value: Any) -> Any:
    """Mappings and lists all the way down, as a YAML file has them."""
    if isinstance(value, pydantic.BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def contained(published: Any, found: Any) -> bool:
    """Every key of `published` is in `found` with an equal value."""
    if isinstance(published, dict):
        return all(key in found and contained(value, found[key]) for key, value in published.items())
    return bool(published == found)


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        raw = raw[section]
    if value is REMOVED:
        del raw[leaf]
    else:
        raw[leaf] = value


REMOVED = object()
RAW = yaml.safe_load(PUBLISHED.replace("1e-4", "0.0001"))


@pytest.fixture
def write(tmp_path: Path):
    """Writes the published run with some keys changed; its label mapping is a file of the test's own."""
    (tmp_path / "labels.yaml").write_text("{}")

    def write_changed(changes: dict[str, Any]) -> Path:
        raw = copy.deepcopy(RAW)
        raw["dataset_params"]["label_mapping"] = str(tmp_path / "labels.yaml")
        for key, value in changes.items():
            set_key(raw, key, value)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
        return tmp_path / "run.yaml"

    return write_changed


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """The message with which the file is refused: one line, and the file's name first."""
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_from_any_folder(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(path)
    assert contained(yaml.safe_load(path.read_text()), plain(config))
    assert resolve_path(config.dataset_params.label_mapping).is_file()


def test_the_three_configurations_of_semantickitti_are_shipped() -> None:
    assert {"2DPASS-semantickitti", "2DPASS-large-semantickitti", "2DPASS-demo"} <= {path.stem for path in SHIPPED}


def test_a_published_run_loads_as_it_is_and_is_what_we_ship(tmp_path: Path) -> None:
    (tmp_path / "published.yaml").write_text(PUBLISHED)
    published = load_config(tmp_path / "published.yaml")
    assert contained(RAW, plain(published))
    assert published == load_config(CONFIG_FOLDER / "2DPASS-semantickitti.yaml")


def test_the_large_run_differs_from_the_small_one_only_where_published() -> None:
    small, large = (load_config(CONFIG_FOLDER / f"2DPASS-{name}semantickitti.yaml") for name in ("", "large-"))
    raw = plain(small)
    for key, value in {
        "model_params.hiden_size": 256,
        "model_params.scale_list": [2, 4, 8, 16, 16, 16],
        "dataset_params.dataset_type": "point_image_dataset_mix_semkitti",
        "dataset_params.train_data_loader.batch_size": 4,
        "train_params.lr_scheduler": "CosineAnnealingLR",
        "train_params.lambda_lovasz": 1,
    }.items():
        set_key(raw, key, value)
    assert plain(large) == raw


def test_every_key_is_described() -> None:
    sections: list[type[pydantic.BaseModel]] = [Section, *Section.__subclasses__()]
    fields = {f"{section.__name__}.{name}": f for section in sections for name, f in section.model_fields.items()}
    assert len(fields) > 50
    assert [name for name, field in fields.items() if not field.description] == []


def test_a_configuration_is_frozen(write) -> None:
    config = load_config(write({}))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.train_params.learning_rate = 1.0
    hash(config)  # no list or mapping is left inside


# Each key with a value it must refuse, and what the line must then say.
WRONG_VALUES = [
    ("train_params.max_num_epochs", "abc", "must be an integer, found 'abc'"),
    ("train_params.max_num_epochs", "8", "must be an integer, found '8'"),
    ("train_params.max_num_epochs", 1.0, "must be an integer, found 1.0"),
    ("train_params.max_num_epochs", True, "must be an integer, found true"),
    ("train_params.max_num_epochs", None, "must be an integer, found nothing"),
    ("train_params.max_num_epochs", 0, "must be greater than 0, found 0"),
    ("train_params.learning_rate", True, "must be a number, found true"),
    ("train_params.learning_rate", "fast", "must be a number, found 'fast'"),
    ("train_params.learning_rate", float("inf"), "must be a finite number, found inf"),
    ("train_params.nesterov", 1, "must be true or false, found 1"),
    ("train_params.nesterov", "yes please", "must be true or false, found 'yes please'"),
    ("train_params.momentum", 1, "must be less than 1, found 1"),
    ("train_params.weight_decay", -1, "must be 0 or more, found -1"),
    ("train_params.swa_epoch_start", 1.5, "must be 1 or less, found 1.5"),
    ("train_params.optimizer", "Adm", "must be 'SGD' or 'Adam', found 'Adm'"),
    ("train_params", None, "must be a mapping of keys to values, found nothing"),
    ("train_params", [1], "must be a mapping of keys to values, found [1]"),
    ("format_version", 2, "must be 1, found 2"),
    ("format_version", True, "must be an integer, found true"),
    ("model_params.input_dims", 5, "must be 4, found 5"),
    ("model_params.sparse_backend", "cuda", "must be 'auto', 'torch' or 'spconv', found 'cuda'"),
    ("model_params.hiden_size", 63, "must be a multiple of 2, found 63"),
    ("model_params.num_classes", 1, "must be greater than 1, found 1"),
    ("model_params.spatial_shape", [1000, 1000], "must have 3 entries, found 2"),
    ("model_params.spatial_shape", 1000, "must be a list, found 1000"),
    ("model_params.scale_list", [], "must be a list that is not empty, found []"),
    ("model_params.scale_list", [2, 8, 4], "must not decrease, found [2, 8, 4]"),
    ("model_params.scale_list", [2, 3], "must hold only 2, 4, 8, 16, found [2, 3]"),
    ("dataset_params.ignore_label", 255, "must be 0, found 255"),
    ("dataset_params.bottom_crop", [480, 320, 3], "must have 2 entries, found 3"),
    ("dataset_params.flip2d", -0.1, "must be 0 or more, found -0.1"),
    ("dataset_params.color_jitter", [0.4, 0.4], "must have 3 entries, found 2"),
    ("dataset_params.image_normalizer", [[0, 0, 0]], "must have 2 entries, found 1"),
    ("dataset_params.image_normalizer", [[0, 0, 0], [1, 1, 0]], "must hold standard deviations above 0"),
    ("dataset_params.min_volume_space", [-50, -50, 2], "must lie below max_volume_space [50.0, 50.0, 2.0]"),
    ("dataset_params.seg_labelweights", [0, 3, 5], "must have 20 entries (model_params.num_classes), found 3"),
    ("dataset_params.seg_labelweights", [0] * 20, "must be above 0 for every class but the ignored class 0"),
    ("dataset_params.train_data_loader.data_path", 3, "must be a string, found 3"),
    ("dataset_params.train_data_loader.data_path", "", "must be a string that is not empty, found ''"),
    ("dataset_params.train_data_loader.num_workers", -1, "must be 0 or more, found -1"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_was_expected_and_found(key: str, value: Any, words: str, write) -> None:
    assert refusal(write({key: value})).startswith(f"{key} {words}")


def test_a_wrong_entry_of_a_list_is_named_by_its_place(write) -> None:
    line = refusal(write({"dataset_params.bottom_crop": [480, 321], "model_params.scale_list": [2, True]}))
    assert "dataset_params.bottom_crop[1] must be a multiple of 16, found 321" in line
    assert "model_params.scale_list[1] must be an integer, found true" in line


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
    assert nearest_key("dataset_params.resize", known_keys()) is None  # not "hiden_size"
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


@pytest.mark.parametrize("scheduler", ["StepLR", "ReduceLROnPlateau"])
def test_a_decaying_schedule_needs_its_decay(scheduler: str, write) -> None:
    line = refusal(write({"train_params.lr_scheduler": scheduler}))
    assert f"train_params.decay_step must be set for lr_scheduler {scheduler}" in line
    assert f"train_params.decay_rate must be set for lr_scheduler {scheduler}" in line
    decay = {"train_params.decay_step": 5, "train_params.decay_rate": 0.1, "train_params.lr_scheduler": scheduler}
    assert load_config(write(decay)).train_params.decay_step == 5


def test_nesterov_needs_momentum(write) -> None:
    line = refusal(write({"train_params.momentum": 0}))
    assert line == "train_params.nesterov must be false where momentum is 0"
    assert load_config(write({"train_params.momentum": 0, "train_params.nesterov": False})).train_params.momentum == 0
    assert load_config(write({"train_params.momentum": 0, "train_params.optimizer": "Adam"})).train_params.momentum == 0


def test_a_missing_label_mapping_is_named(write) -> None:
    line = refusal(write({"dataset_params.label_mapping": "config/label_mapping/none.yaml"}))
    assert line.startswith("dataset_params.label_mapping names config/label_mapping/none.yaml, but there is no such")


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
    raw["dataset_params"]["val_data_loader"] = raw["dataset_params"]["train_data_loader"]
    text = yaml.safe_dump(raw)
    assert "&id" in text
    (tmp_path / "alias.yaml").write_text(text)
    data = load_config(tmp_path / "alias.yaml", ["dataset_params.train_data_loader.batch_size=3"]).dataset_params
    assert (data.train_data_loader.batch_size, data.val_data_loader.batch_size) == (3, 8)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "+1e-3", ".1e-2", "0.001", "1.0e-3"])
def test_numbers_with_an_exponent_are_numbers(text: str, write) -> None:
    path = write({"train_params.learning_rate": "PLACE"})
    path.write_text(path.read_text().replace("PLACE", text))
    assert load_config(path).train_params.learning_rate == pytest.approx(0.001, rel=1e-12)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_saved_configuration_loads_as_the_same(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["train_params.learning_rate=1e-7", "dataset_params.train_data_loader.data_path='1e-3'"])
    save_config(config, tmp_path / "runs" / "saved.yaml")
    assert load_config(tmp_path / "runs" / "saved.yaml") == config
    assert isinstance(config, Config)
    saved = yaml.safe_load((tmp_path / "runs" / "saved.yaml").read_text())
    assert contained(saved, plain(config)) and contained(plain(config), saved)


def test_a_configuration_that_cannot_be_saved_says_where(write, tmp_path: Path) -> None:
    config = load_config(write({}))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the configuration"):
        save_config(config, tmp_path / "file" / "saved.yaml")
