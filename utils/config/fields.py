"""The base class of the sections of a configuration, and the types of their values.

Values are strict: `8` is an integer, `"8"` and `8.0` are not, and `true` is no number. An integer is accepted in place
of a number. Records are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from utils.yaml_file import UNSAFE


def only(value: int) -> AfterValidator:
    """Returns a check for a key of the format for which this program supports a single value; others are refused."""

    def verify(found: int) -> int:
        if found != value:
            raise ValueError(f"must be {value}, found {found}: no other value is supported")
        return found

    return AfterValidator(verify)


def list_of(length: int | None = None) -> BeforeValidator:
    """Returns a converter of a YAML list to a tuple, as frozen records need, with `length` entries if that is given."""

    def convert(found: Any) -> Any:
        if not isinstance(found, list | tuple):
            return found  # pydantic says what is wrong with it
        if length is not None and len(found) != length:
            raise ValueError(f"must have {length} entries, found {len(found)}")
        return tuple(found)

    return BeforeValidator(convert)


def _harmless(found: str) -> str:
    """Refuses in the config of a checkpoint what `parse_yaml` refuses in a file."""
    if UNSAFE.search(found):
        raise ValueError(f"must not hold control characters, found {found!r}")
    return found


@dataclass(frozen=True, init=False)
class ForKinds:
    """An annotation of a key that has an effect with some architectures only.

    Attributes:
        names: values of `model_params.model_architecture`.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


# Bounds far above any use: a larger value is a mistake, or overflows somewhere in the arithmetic.
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
Epochs = Annotated[int, Field(gt=0, le=10**6)]
Channels = Annotated[int, Field(gt=0, le=4096)]
Classes = Annotated[int, Field(gt=1, le=255)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
PointCount = Annotated[float, Field(ge=0, le=1e15)]
PastSweeps = Annotated[int, Field(ge=0, le=100)]
Step = Annotated[int, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Multiple16 = Annotated[int, Field(gt=0, le=8192, multiple_of=16)]
Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_harmless)]
Bounded = Annotated[float, Field(ge=-1e6, le=1e6)]
Triple = Annotated[tuple[Bounded, Bounded, Bounded], list_of(3)]


class Section(BaseModel):
    """A mapping of the YAML: frozen, strict, and without unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )
