"""The origin of the weights of a published file: which checkpoint, and which training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from network.weights.published_folder import OURS

_DIGEST = re.compile("[0-9a-f]{64}")
ORIGIN = "origin"
_SETTINGS = (
    "--seed", "--precision", "--SWA", "number of devices", "steps per epoch", "training scans", "validation scans"
)  # fmt: skip
"""What a training notes beside its config that decides how it goes; none of it names a place or a person."""


@dataclass(frozen=True)
class Origin:
    """A frozen record of where the weights of a published file come from.

    Attributes:
        source: SHA-256 of the checkpoint of the training, in hexadecimal digits; "": not known.
        rounded: the type that they were rounded to, "bf16" or "fp16"; "": they are those of the training.
        epochs: number of finished epochs of the training; None: not known.
        training: settings of the training beside its config, by name.
    """

    source: str = ""
    rounded: str = ""
    epochs: int | None = None
    training: Mapping[str, Any] | None = None

    @staticmethod
    def of(content: Mapping[str, Any]) -> Origin:
        """Reads it from the content of a checkpoint, or of its outline; a value of another type is left out."""
        ours = content.get(OURS)
        ours = ours if isinstance(ours, Mapping) else {}
        found = ours.get(ORIGIN)
        if isinstance(found, Mapping):  # it was published before
            source, kind = found.get("source"), found.get("rounded")
            return Origin(
                source if isinstance(source, str) and _DIGEST.fullmatch(source) else "",
                str(kind) if kind in ("bf16", "fp16") else "",
                _number(found.get("epochs")),
                _settings(found.get("training")),
            )
        epoch = _number(content.get("epoch"))
        in_the_middle = bool(_number(ours.get("scans_of_epoch")))  # of the epoch, which does not count yet
        epochs = None if epoch is None else epoch + (not in_the_middle)
        return Origin(epochs=epochs, training=_settings(ours.get("settings")))

    def of_published(self, source: str, rounded: str) -> Origin:
        """Returns the origin of a file that is published from one of this origin.

        Args:
            source: SHA-256 of that file.
            rounded: the type that its weights are rounded to; "": they stay as they are.
        """
        if self.source and not rounded:
            return self
        return replace(self, source=source, rounded=rounded or self.rounded)

    def record(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return {**asdict(self), "training": dict(self.training or {})}


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 31 else None


def _settings(found: Any) -> dict[str, Any]:
    found = found if isinstance(found, Mapping) else {}
    plain = {name: found[name] for name in _SETTINGS if type(found.get(name)) in (bool, int, str)}
    return {name: value for name, value in plain.items() if len(str(value)) <= 64 and str(value).isprintable()}
