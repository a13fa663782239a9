"""The page docs/reference/corruptions.md: both families, subset by subset, with the parameters of their functions."""

from __future__ import annotations

from collections.abc import Mapping

from dataloader.augment.weather import severities_of
from dataloader.catalogue import DATA_SETS
from dataloader.corruptions.families import CORRUPTED_SETS, CorruptedSubset
from tools.documenting.markdown import code, page, table
from utils.corruptions import CLEAN_FOLDER
from utils.robustness.family import load_family

_INTRODUCTION = f"""\
These are the subsets that `tools/make_corruptions.py` makes with its defaults (`--mode physical`); `corruption_aug`
draws from them.
[Corruptions](../guides/corruptions.md) shows them picture by picture, and says what the papers leave open.

Yan et al. have the untouched scans beside the subsets, in `{CLEAN_FOLDER}`."""

_TITLES = {"yan": "Yan et al.", "robo3d": "Robo3D"}


def corruptions_page() -> str:
    """Returns the page."""
    blocks = [_INTRODUCTION]
    for family, datasets in CORRUPTED_SETS.items():
        for dataset, subsets in datasets.items():
            known = load_family(family, dataset)
            views = f"{known.protocol.num_vote} view{'s' * (known.protocol.num_vote > 1)} per scan by its protocol"
            more = "more are allowed" if known.protocol.votes_allowed else "no more are allowed"
            blocks.append(f"## {_TITLES.get(family, family)} on {dataset}")
            blocks.append(
                f"`--family {family}`: {known.title}. {len(subsets)} subsets of {len(known.titles)} corruptions; "
                f"{views}, {more}."
            )
            header = ("subset", "function", "parameters", "drawn for each frame", "raw id of altered points")
            blocks.append(table(header, map(_row, subsets)))
    return page("Corruptions", *blocks, *_drawn_in_training())


def _drawn_in_training() -> list[str]:
    """Lists the names that `corruption_aug` takes, with the number of severities on each data set."""
    found = [severities_of(data_set.sensor) for data_set in DATA_SETS.values()]
    names = dict.fromkeys(name for severities in found for name in severities)
    rows = [(code(name), *(str(len(severities.get(name, ()))) for severities in found)) for name in names]
    return [
        "## Names of corruption_aug",
        "`dataset_params.corruption_aug` takes these names; a severity is drawn from as many as there are, each with "
        "equal chance.",
        table(("name", *(f"severities on {dataset}" for dataset in DATA_SETS)), rows, right=range(1, 1 + len(found))),
    ]


def _row(subset: CorruptedSubset) -> tuple[str, str, str, str, str]:
    drawn = "; ".join(f"{name} from {_shown(values)}" for name, values in subset.drawn.items())
    function = code(f"{subset.function.__module__.rpartition('.')[2]}.{subset.function.__name__}")
    return code(subset.name), function, _listed(subset.parameters), drawn, str(subset.label or "")


def _listed(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in parameters.items() if value is not None)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
