"""The statements of a person about a model that is published: its name, its data, its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from utils.errors import UserError

CARD_KEY = "card"
_LONGEST = 200  # characters of a text
_IDENTIFIER = re.compile("[a-z0-9]+(?:[.-][a-z0-9]+)*")


@dataclass(frozen=True)
class About:
    """A frozen record of what a person says of a model.

    Attributes:
        name: of the model.
        data: what it was trained on, a phrase; "": only the kind of the data set is known.
        license: of the weights, an identifier of the hub.
    """

    name: str
    data: str = ""
    license: str = "other"

    def __post_init__(self) -> None:
        for flag, text in asdict(self).items():
            if not _is_said(flag, text):
                what = "an identifier of the hub, such as mit" if flag == "license" else "a text on one line"
                raise UserError(f"--{flag}: wants {what}, at most {_LONGEST} characters; change it")

    @staticmethod
    def of(ours: Mapping[str, Any]) -> dict[str, str]:
        """Reads what was said when the model was published before, from its metadata; nothing if it was not."""
        found = ours.get(CARD_KEY)
        found = found if isinstance(found, Mapping) else {}
        return {
            key: text
            for key in ("name", "data", "license")
            if isinstance(text := found.get(key), str) and _is_said(key, text)
        }


def _is_said(key: str, text: str) -> bool:
    """Returns whether a text may stand on the card."""
    if key == "license":
        return len(text) <= _LONGEST and _IDENTIFIER.fullmatch(text) is not None
    return len(text) <= _LONGEST and text.isprintable() and (key == "data" or bool(text.strip()))
