"""The model card of a published folder: README.md with the head that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from network.weights.description import Description
from network.weights.published_folder import IMAGES
from tools.publishing.about import About
from tools.publishing.origin import Origin
from tools.publishing.scores import Scores
from utils.config.model import ModelParams
from utils.results.published import CONFIG, MODEL, STATISTICS
from utils.scan.sensor import sensor_called
from utils.text import printable

_SPECIAL = "\\`*_[]<>|#&~$"
_LICENCES = {
    "SemanticKITTI": "SemanticKITTI, and the KITTI odometry scans that it labels, are under CC BY-NC-SA: "
    "weights that were trained on them are for non-commercial use, with attribution, under the same conditions.",
    "nuScenes": "nuScenes and nuScenes-lidarseg are under CC BY-NC-SA 4.0 with terms of use of their own: weights that "
    "were trained on them are for non-commercial use.",
}
"""What the licence of a data set means for weights that were trained on it."""


@dataclass(frozen=True)
class Model:
    """A frozen record of all that a card is written from.

    Attributes:
        about: what a person says.
        ours: the metadata of the published file.
        description: the checked description among them.
        origin: where the weights come from.
        scores: of the tests.
        values: number of values in the weights.
        size: of the file, bytes.
    """

    about: About
    ours: Mapping[str, Any]
    description: Description
    origin: Origin
    scores: Sequence[Scores]
    values: int
    size: int

    @property
    def kind(self) -> str:
        """Name of the data set whose layout and classes it was trained with."""
        return self.description.config.dataset_params.pc_dataset_type

    @property
    def data(self) -> str:
        """Data of the training, a phrase."""
        return self.about.data or f"data in the layout of {self.kind}"


def card_text(model: Model) -> str:
    """Makes the text of the card."""
    head = yaml.safe_dump(_head(model), sort_keys=False, allow_unicode=True, width=120)
    parts = [_what(model), _use(model), _training(model), *_scores(model), _limits(model), _licence(model)]
    return f"---\n{head}---\n\n# {_plain(model.about.name)}\n\n" + "\n\n".join(parts) + "\n"


def _head(model: Model) -> dict[str, Any]:
    name = model.about.license
    kind, architecture = model.kind.lower(), model.description.config.model_params.model_architecture
    named = {"license_name": "not-chosen"} if name == "other" else {}
    index = {"model-index": [{"name": model.about.name, "results": list(map(_result(model), model.scores))}]}
    return {
        "license": name,
        **named,
        "library_name": "2dpass",
        "pipeline_tag": "other",
        "tags": ["lidar", "point-cloud", "3d-semantic-segmentation", kind, architecture],
        **(index if model.scores else {}),
    }


def _result(model: Model) -> Any:
    def result(scores: Scores) -> dict[str, Any]:
        seen = scores.conditions
        views = {seen.views_text: scores.record, "one view": scores.with_one_view}
        return {
            "task": {"type": "semantic-segmentation", "name": "LiDAR semantic segmentation"},
            "dataset": {"type": model.kind.lower(), "name": model.data, "split": seen.split},
            "metrics": [
                {"type": kind, "name": f"{title}, {text}", "value": round(figures[key], 4)}
                for text, figures in views.items()
                for kind, title, key in (("mean_iou", "mIoU", "val/mIoU"), ("accuracy", "accuracy", "val/acc"))
            ],
        }

    return result


def _what(model: Model) -> str:
    config, statistics = model.description.config, model.description.statistics
    name = config.model_params.model_architecture
    kind = "the 3D network of 2DPASS" if isinstance(config.model_params, ModelParams) else name
    taught = " It was trained with camera images, and needs none." if model.ours.get(IMAGES) is True else ""
    rounded = f", matrices and kernels rounded to {model.origin.rounded}" if model.origin.rounded else ""
    names = ", ".join(map(_plain, model.description.label_map.names[1:]))
    points = "x, y, z, intensity" + (", age" if config.model_params.input_dims > 4 else "")
    lines = [
        f"LiDAR semantic segmentation, {kind}: every point of a scan ({points}) gets a class.{taught}",
        f"- **Trained on**: {_plain(model.data)}",
        f"- **Weights**: {model.values / 1e6:.2f} M values in `{MODEL}` ({model.size / 1e6:.2f} MB){rounded}; "
        "arithmetic is in fp32",
        f"- **Classes**: {names}",
    ]
    if statistics is not None:
        points = f"about {statistics.points_per_scan[4]:.0f} points per scan"
        lines.append(f"- **Sensor**: {points}; `{STATISTICS}` has more")
    return "\n".join([lines[0], "", *lines[1:]])


def _use(model: Model) -> str:
    return """## Use

With this folder, or its address on a hub (`hf://owner/name`), as the checkpoint of 2DPASS:

```
python predict.py --checkpoint FOLDER scan.bin --output out/ --format label ply
python predict.py --checkpoint FOLDER scan.bin --view
python main.py --test --checkpoint FOLDER --set dataset_params.val_data_loader.data_path=DATA
```

```python
from network.segmenter import Segmenter

result = Segmenter.load("FOLDER")(points)  # (N, 4) x, y, z in metres, intensity
```"""


def _training(model: Model) -> str:
    training, origin = model.description.config.train_params, model.origin
    facts = {
        "epochs": training.max_num_epochs if origin.epochs is None else f"{origin.epochs} of {training.max_num_epochs}",
        "optimiser": f"{_kind(training.optimizer)}, learning rate {training.learning_rate:g}",
        "schedule": _kind(training.lr_scheduler),
        **{name.removeprefix("--"): value for name, value in (origin.training or {}).items()},
        "began with": model.description.began or None,
    }
    rows = [f"| {_plain(name)} | {_plain(str(value))} |" for name, value in facts.items() if value is not None]
    return "\n".join(
        [
            "## Training",
            "",
            f"`{CONFIG}` has every key; places of files in it are not those of the training.",
            "",
            "| | |",
            "|---|---|",
            *rows,
        ]
    )


def _kind(value: Any) -> str:
    """Returns the name of an optimiser or a schedule, which a config may write as a name or with its parameters."""
    return value if isinstance(value, str) else str(value.name)


def _scores(model: Model) -> Iterator[str]:
    if not model.scores:
        yield "## Scores\n\nNone were measured."
        return
    shares = model.description.statistics
    names = model.description.label_map.names
    for scores in model.scores:
        weights = "these weights" if scores.same_weights else "the weights before they were rounded"
        seen = scores.conditions
        columns = {"one view": scores.with_one_view["iou"], seen.views_text: scores.ious}
        share = {} if shares is None else dict(zip(names, shares.class_shares, strict=True))
        rows = [
            f"| {' | '.join([_plain(name), *(_percent(column.get(name)) for column in (share, *columns.values()))])} |"
            for name in scores.ious
        ]
        means = {"one view": scores.with_one_view["val/mIoU"], seen.views_text: scores.miou}
        yield "\n".join(
            [
                "## Scores",
                "",
                f"Measured on {weights}: {_plain(seen.text)}.",
                "",
                f"| class | share of the training points, % | {' | '.join(f'IoU, {name}, %' for name in columns)} |",
                "|---|---:|" + "---:|" * len(columns),
                *rows,
                f"| **mean** | | {' | '.join(f'**{_percent(value)}**' for value in means.values())} |",
            ]
        )


def _limits(model: Model) -> str:
    sensor = sensor_called(model.kind)
    return (
        "## Limits\n\n"
        "Scans of another sensor, mounting or place than those of the training get worse labels; `predict.py` compares "
        f"each scan with `{STATISTICS}` and says what does not fit. Axes and intensities are expected as in "
        f"{sensor.name}. Classes that the training hardly had (see the shares) are hardly found. Nothing here has been "
        "tested for use in a vehicle."
    )


def _licence(model: Model) -> str:
    chosen = "has not been chosen yet: ask the publisher" if model.about.license == "other" else model.about.license
    data = "" if model.about.data else f"\n\n{_LICENCES.get(model.kind, 'Mind the licence of the training data.')}"
    return f"## Licence\n\nOf the weights: {_plain(chosen)}.{data}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _plain(text: str) -> str:
    """Returns a text on one line in which Markdown and HTML see nothing special."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in printable(text))
