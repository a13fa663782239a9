"""The experiments (a) to (h), as data."""

from __future__ import annotations

from tools.studying.plan import FEW_SEEDS, SCANS, SEEDS, STEPS, Arm, Experiment, Row

CORRUPTED = ("fog_heavy", "snowfall_heavy", "local_heavy", "global_heavy", "sparse_16beam")
"""The corrupted validation scans of (g), subsets of `--family yan`."""

_MIXING = "dataset_params.mixing={}"
_RECIPE = _MIXING.format("{choose: one_of, laser_mix: {chance: 0.5}, polar_mix: {chance: 0.5}}")
_OBJECTS = "{chance: 1.0, database: ./dataset/study/objects}"
_PASTE = _MIXING.format(f"{{instance_paste: {_OBJECTS}}}")
_LASER_AND_PASTE = _MIXING.format(f"{{choose: each, laser_mix: {{chance: 0.5}}, instance_paste: {_OBJECTS}}}")
_WEATHER = (
    "dataset_params.corruption_aug="
    "{chance: 0.5, corruptions: [fog, snow, local_distortion, global_outliers, reduce_beams]}"
)


def _2dpass(name: str, title: str, *settings: str, **more: object) -> Arm:
    return Arm(name, title, "2DPASS", "2DPASS-demo", settings, **more)  # type: ignore[arg-type]


def _alone(name: str, title: str, *settings: str, **more: object) -> Arm:
    flags = ("--baseline_only",)
    return Arm(name, title, "3D network of 2DPASS", "2DPASS-demo", settings, flags, **more)  # type: ignore[arg-type]


def _minkowskinet(name: str, title: str, *settings: str) -> Arm:
    return Arm(name, title, "MinkowskiNet", "MinkowskiNet-demo", settings)


def _past(scans: int) -> Arm:
    title = f"{scans} past scan{'s' * (scans != 1)}"
    settings = (f"dataset_params.past_scans={scans}",)
    return Arm(f"past_{scans}", title, "MinkowskiNet, past scans", "MinkowskiNet-multiscan-demo", settings)


METHOD = _2dpass("2dpass", "2DPASS")
ALONE = _alone("alone", "3D network of 2DPASS alone")
METHOD_RECIPE = _2dpass("2dpass_recipe", "2DPASS, LaserMix or PolarMix", _RECIPE)
METHOD_PASTE = _2dpass("2dpass_instance_paste", "2DPASS, pasted objects", _PASTE)
PLAIN = _minkowskinet("minkowskinet", "MinkowskiNet")
_FEW = "dataset_params.label_fraction=0.1"
FEW_PLAIN, FEW_RECIPE = (
    Arm(name, title, "MinkowskiNet", "MinkowskiNet-demo", settings, scans=SCANS // 10, steps=2 * STEPS)
    for name, title, settings in (
        ("minkowskinet_few", "MinkowskiNet, 10 % of the labels (12 scans)", (_FEW,)),
        ("minkowskinet_few_recipe", "MinkowskiNet, 10 % of the labels, LaserMix or PolarMix", (_FEW, _RECIPE)),
    )
)
PASTE = _minkowskinet("minkowskinet_instance_paste", "MinkowskiNet, pasted objects", _PASTE)
LASER_PASTE = _minkowskinet("minkowskinet_laser_paste", "MinkowskiNet, LaserMix and pasted objects", _LASER_AND_PASTE)
RECIPE = _minkowskinet("minkowskinet_recipe", "MinkowskiNet, LaserMix or PolarMix", _RECIPE)

_TEACHER = _2dpass("teacher", "the teacher: 2DPASS on another world", world="teacher", seed=0)
_PRETRAINED = Arm(
    "pretrained",
    "distillation pre-training, no labels",
    "2DPASS",
    "2DPASS-demo",
    flags=("--pretrain_distill",),
    start=_TEACHER,
    taking=("--pretrain2d",),
    seed=1,
    validated=False,
)


def _share(percent: int, pretrained: bool) -> str:
    scans = max(1, round(SCANS * percent / 100))
    return f"{percent} % of the labels ({scans} scan{'s' * (scans != 1)}), {'' if pretrained else 'not '}pre-trained"


def _few_labels(percent: int, pretrained: bool) -> Arm:
    scans = max(1, round(SCANS * percent / 100))
    settings = (f"dataset_params.label_fraction={percent / 100:g}",) if percent < 100 else ()
    start = {"start": _PRETRAINED, "taking": ("--fine_tune",)} if pretrained else {}
    title = _share(percent, pretrained)
    name = f"labels_{percent}{'_pretrained' * pretrained}"
    return _alone(name, title, *settings, scans=scans, **start)


def _with_views(arm: Arm) -> tuple[Row, ...]:
    return Row(arm), *(Row(arm, views, against=arm.name) for views in (4, 12))


def _few_label_rows() -> tuple[Row, ...]:
    rows: list[Row] = []
    for percent, first in ((1, True), (10, False), (100, False)):
        without = ALONE if percent == 100 else _few_labels(percent, pretrained=False)
        rows.append(Row(without, seeds=FEW_SEEDS, first=first, called=_share(percent, pretrained=False)))
        rows.append(Row(_few_labels(percent, pretrained=True), seeds=FEW_SEEDS, against=without.name, first=first))
    return tuple(rows)


def _mixing(name: str, title: str, mixing: str) -> Row:
    arm = _minkowskinet(f"minkowskinet_{name}", f"MinkowskiNet, {title}", _MIXING.format(mixing))
    return Row(arm, against=PLAIN.name)


def _optimisation(name: str, title: str, *settings: str, first: bool = False) -> Row:
    return Row(_minkowskinet(name, title, *settings), seeds=FEW_SEEDS, against=PLAIN.name, first=first)


_WEATHERED = _minkowskinet("minkowskinet_corrupted", "MinkowskiNet, trained on corruptions", _WEATHER)

EXPERIMENTS = (
    Experiment(
        "a",
        "2DPASS against its 3D network alone",
        "Does what the image branch teaches help the 3D network, which is tested alone in both arms?",
        (Row(METHOD, against=ALONE.name), Row(ALONE)),
    ),
    Experiment(
        "b",
        "Mixing of scans",
        "Every kind on its own, the recipe of the papers (LaserMix or PolarMix, half and half), and LaserMix in every "
        "second scan together with pasted objects in every scan.",
        (
            Row(PLAIN),
            Row(PASTE, against=PLAIN.name),
            Row(METHOD),
            Row(METHOD_PASTE, against=METHOD.name),
            _mixing("laser_mix", "LaserMix", "{laser_mix: {chance: 1.0}}"),
            _mixing("polar_mix", "PolarMix", "{polar_mix: {chance: 1.0}}"),
            _mixing("instance_mix", "the published instance mixing", "{instance_mix: {chance: 1.0}}"),
            Row(RECIPE, against=PLAIN.name),
            Row(LASER_PASTE, against=PLAIN.name, seeds=FEW_SEEDS, first=False),
            Row(METHOD_RECIPE, against=METHOD.name, seeds=FEW_SEEDS, first=False),
        ),
    ),
    Experiment(
        "c",
        "Optimiser and schedule",
        "The settings of the large recipes, their milestones moved in proportion; the demo's own come first.",
        (
            Row(PLAIN, seeds=FEW_SEEDS),
            _optimisation(
                "adamw_multistep",
                "AdamW 0.008, weight decay 0.01, x 0.1 after epochs 3 and 4",
                "train_params.optimizer=AdamW",
                "train_params.learning_rate=0.008",
                "train_params.weight_decay=0.01",
                "train_params.lr_scheduler=MultiStepLR",
                "train_params.milestones=[3, 4]",
                "train_params.decay_rate=0.1",
                first=True,
            ),
            _optimisation(
                "adamw_onecycle",
                "AdamW 0.008, weight decay 0.005, OneCycle (4 % rise)",
                "train_params.optimizer=AdamW",
                "train_params.learning_rate=0.008",
                "train_params.weight_decay=0.005",
                "train_params.lr_scheduler=OneCycleLR",
                "train_params.pct_start=0.04",
            ),
            _optimisation(
                "sgd_warmup",
                "SGD 0.02, warm-up of half an epoch, cosine, label smoothing 0.1",
                "train_params.optimizer=SGD",
                "train_params.learning_rate=0.02",
                "train_params.momentum=0.9",
                "train_params.nesterov=true",
                "train_params.weight_decay=0.0001",
                "train_params.lr_scheduler=CosineAnnealingWarmup",
                "train_params.warmup_epochs=0.5",
                "train_params.label_smoothing=0.1",
            ),
        ),
    ),
    Experiment(
        "d",
        "Past scans",
        "The 25 classes of multi-scan, which tell what moves from what stands: not to be compared with other tables.",
        (
            Row(_past(0), seeds=FEW_SEEDS),
            Row(_past(2), seeds=FEW_SEEDS, against=_past(0).name),
            Row(_past(1), seeds=FEW_SEEDS, against=_past(0).name, first=False),
        ),
    ),
    Experiment(
        "e",
        "Views at test",
        "The same checkpoints over several views of each scan (test-time augmentation).",
        _with_views(METHOD),
    ),
    Experiment(
        "f",
        "Few labels, and pre-training without labels",
        "The 3D network alone is trained with a part of the labels, from random weights or from weights that have "
        "learned a teacher's features on all training scans without any label. The teacher is the image branch of a "
        "2DPASS network that was trained on another made-up world (other streets), frozen: it plays the foundation "
        "model. Pre-training takes as many steps again, which the other arms do not have, and is done once: the seeds "
        "are those of the fine-tuning.",
        _few_label_rows(),
    ),
    Experiment(
        "g",
        "Training on corruptions",
        f"Clean validation scans, and the mean over {', '.join(CORRUPTED)} of them (style of Yan et al., one view).",
        (
            Row(PLAIN, corrupted=True, seeds=FEW_SEEDS),
            Row(_WEATHERED, corrupted=True, seeds=FEW_SEEDS, against=f"{PLAIN.name}-corrupted"),
            Row(PLAIN, seeds=FEW_SEEDS),
            Row(_WEATHERED, seeds=FEW_SEEDS, against=PLAIN.name),
        ),
    ),
    Experiment(
        "h",
        "Mixing where labels are few",
        "The recipe with a tenth of the labelled scans, at twice the steps: 100 epochs of 12 scans.",
        (Row(FEW_PLAIN, seeds=FEW_SEEDS), Row(FEW_RECIPE, against=FEW_PLAIN.name, seeds=FEW_SEEDS)),
    ),
)

LETTERS = tuple(experiment.letter for experiment in EXPERIMENTS)
ORDER = (
    *(("a", True), ("b", True), ("e", True)),
    *(("f", True), ("c", True), ("g", True), ("d", True), ("h", True)),
    *(("b", False), ("f", False), ("c", False), ("d", False)),
)
"""What is run one after another: the letter of an experiment, and which rows of it (`Row.first`)."""
assert set(SEEDS) >= set(FEW_SEEDS)
