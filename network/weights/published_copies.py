"""The readable copies in a published folder of what the metadata of its network say.

They are not read but compared: to change one would have no effect, so that is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from network.weights.description import DESCRIPTION, Description, read_description
from network.weights.published_folder import OURS
from utils.config.loading import check_config, config_text
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import read_text
from utils.labels import UNKNOWN, LabelMap
from utils.results.published import CONFIG, LABELS, MODEL, STATISTICS
from utils.yaml_file import YamlError, read_yaml

_LARGEST = 1 << 20  # bytes of a copy


def copies(content: Mapping[str, Any], path: str | Path) -> dict[str, str]:
    """Makes the readable copies of what the metadata of a published network hold: name of the file -> text.

    Args:
        content: of the network, from `read_checkpoint` or `read_outline`; it has a description.
        path: its file, for messages.
    """
    ours = _description(content, path)
    statistics = content[OURS][DESCRIPTION]["statistics"]
    return {
        CONFIG: config_text(ours.config),
        LABELS: yaml.safe_dump(_label_tables(ours.label_map), sort_keys=False, allow_unicode=True, width=120),
        STATISTICS: json.dumps(statistics, indent=2) + "\n",
    }


def refuse_changed_copies(content: Mapping[str, Any], path: Path) -> None:
    """Refuses a published folder in which a readable copy says something else than the network's own metadata.

    Args:
        content: of the network, from `read_checkpoint` or `read_outline`.
        path: its file. Of one that is not called as in a published folder, nothing is compared.

    Raises:
        UserError: a copy differs, or cannot be read.
    """
    if path.name != MODEL or not _is_described(content):
        return
    ours = _description(content, path)
    statistics = content[OURS][DESCRIPTION]["statistics"]
    for name, same, remedy in (
        (CONFIG, lambda copy: _config(copy) == ours.config, "give changes to --set"),
        (LABELS, lambda copy: _label_tables(LabelMap.load(copy)) == _label_tables(ours.label_map), "publish it again"),
        (STATISTICS, lambda copy: json.loads(read_text(copy)) == statistics, "publish it again"),
    ):
        copy = path.with_name(name)
        if copy.exists() and not _says(copy, same):
            raise UserError(
                f"{copy}: differs from what {path.name} beside it holds, of which it is only a copy: a change there "
                f"has no effect; restore or remove the copy, and {remedy}"
            )


def _says(copy: Path, same: Callable[[Path], bool]) -> bool:
    """Returns whether a copy passes a comparison; one that is damaged does not."""
    try:
        if copy.stat().st_size > _LARGEST:
            return False
        read_text(copy)  # here, since the readers of the comparisons do not tell a lack of permission from damage
        return same(copy)
    except OSError as error:
        raise UserError(
            f"{copy}: cannot be read ({error.strerror or error}); see to its permissions, or remove it: it is only a "
            f"copy of what {MODEL} holds"
        ) from None
    except (UserError, YamlError, ValueError, TypeError, RecursionError):
        return False


def _is_described(content: Mapping[str, Any]) -> bool:
    ours = content.get(OURS)
    return isinstance(ours, Mapping) and DESCRIPTION in ours


def _config(copy: Path) -> Config | None:
    found = read_yaml(copy)
    return check_config(found, copy) if isinstance(found, dict) else None


def _label_tables(label_map: LabelMap) -> dict[str, Any]:
    """Returns the tables of a label mapping as its file has them."""
    known = np.flatnonzero(label_map.to_learning != UNKNOWN).tolist()
    to_raw = label_map.to_raw.tolist()
    moving = {number: True for number in label_map.moving}
    return {
        "labels": dict(label_map.raw_names),
        "color_map": {raw: label_map.colors[number].tolist()[::-1] for number, raw in enumerate(to_raw)},
        "learning_map": {raw: int(label_map.to_learning[raw]) for raw in known},
        "learning_map_inv": dict(enumerate(to_raw)),
        "class_names": dict(enumerate(label_map.names)),
        **({"learning_moving": moving} if moving else {}),
        **({"split": {part: list(names) for part, names in label_map.split.items()}} if label_map.split else {}),
    }


def _description(content: Mapping[str, Any], path: str | Path) -> Description:
    found = read_description(content, path)
    if found is None:
        raise ValueError(f"{path} has no description")
    return found
