"""docs/reference/corruptions.md: both families, subset by subset, with the parameters of their functions."""

from __future__ import annotations

from collections.abc import Mapping

from dataloader.augment.weather import severities_of
from dataloader.corruptions.families import CLEAN, FAMILIES, SENSORS, CorruptedSubset
from tools.documenting.markdown import code, page, table
from utils.robustness.family import load_family

_INTRODUCTION = f"""What `tools/make_corruptions.py` makes with its defaults (`--mode physical`), and what `corruption_aug` draws from.
[Corruptions](../guides/corruptions.md) shows them picture by picture, and says what the papers leave open.

Yan et al. have the untouched scans beside the subsets, in `{CLEAN}`."""


def corruptions_page() -> str:
    """Return the page."""
    blocks = [_INTRODUCTION]
    for family, datasets in FAMILIES.items():
        for dataset, subsets in datasets.items():
            known = load_family(family, dataset)
            votes = "more are allowed" if known.votes_allowed else "no more are allowed"
            blocks.append(f"## {'Yan et al.' if family == 'yan' else 'Robo3D'} on {dataset}")
            blocks.append(
                f"`--family {family}`: {known.title}. {len(subsets)} subsets of {len(known.titles)} corruptions; "
                f"{known.num_vote} view{'s' * (known.num_vote > 1)} per scan by its protocol, {votes}."
            )
            header = ("subset", "function", "parameters", "drawn for each frame", "raw id of altered points")
            blocks.append(table(header, map(_row, subsets)))
    blocks.append("## Names of corruption_aug")
    blocks.append(
        "`dataset_params.corruption_aug` takes these names; a severity is drawn from as many as there are, each with "
        "equal chance."
    )
    names = {name: None for sensor in SENSORS.values() for name in severities_of(sensor)}
    counts = {dataset: severities_of(sensor) for dataset, sensor in SENSORS.items()}
    rows = [(code(name), *(str(len(found.get(name, ()))) for found in counts.values())) for name in names]
    blocks.append(table(("name", *(f"severities on {dataset}" for dataset in counts)), rows, right=(1, 2)))
    return page("Corruptions", *blocks)


def _row(subset: CorruptedSubset) -> tuple[str, str, str, str, str]:
    drawn = "; ".join(f"{name} from {_shown(values)}" for name, values in subset.drawn.items())
    function = code(f"{subset.function.__module__.rpartition('.')[2]}.{subset.function.__name__}")
    return code(subset.name), function, _listed(subset.parameters), drawn, str(subset.label or "")


def _listed(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in parameters.items() if value is not None)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) if not any(isinstance(v, tuple) for v in value) else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
