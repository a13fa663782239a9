"""Augmentation that mixes points of other scans into a scan: which kinds there are, and which an item gets.

A pair of scans is mixed before rotation, flip, scale and translation, so that both are augmented by the same draws. The
instances as 2DPASS publishes them are the exception: the other scan is augmented by draws of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from utils.scan.records import Scan, constant, no_pixels

Partner = Callable[[], Scan]
"""A function that draws another training scan and reads it: the points inside the volume, with their past points."""


class PairMixing(Protocol):
    """A kind of mixing that is applied before the augmentation of all points."""

    def mix(self, scan: Scan, partner: Partner, rng: np.random.Generator) -> Scan:
        """Returns the scan with points of others, which have no pixel and index -1; frame and image are its own."""
        ...


@dataclass(frozen=True)
class ChosenMixing:
    """A frozen record of what is mixed into one item.

    Attributes:
        pairs: kinds that are applied before the augmentation of all points, in order.
        instances: whether the instances of an augmented second scan are appended in the end.
    """

    pairs: tuple[PairMixing, ...] = ()
    instances: bool = False


NOTHING = ChosenMixing()


@dataclass(frozen=True)
class Mixing:
    """A frozen record of the kinds of mixing of an experiment, with their chances.

    Attributes:
        kinds: what each kind mixes, and its probability, 0..1; in the order in which they are applied.
        one_of: apply one kind at most, so that the probabilities sum to 1 at most; otherwise each for itself.
    """

    kinds: tuple[tuple[ChosenMixing, float], ...]
    one_of: bool = True

    def choose(self, rng: np.random.Generator) -> ChosenMixing:
        """Draws what is mixed into an item; where that is certain, nothing is drawn."""
        if self.one_of:
            chosen = self._one(rng)
        else:
            chosen = [kind for kind, chance in self.kinds if chance >= 1 or rng.random() < chance]
        return ChosenMixing(
            tuple(pair for kind in chosen for pair in kind.pairs), any(kind.instances for kind in chosen)
        )

    def _one(self, rng: np.random.Generator) -> list[ChosenMixing]:
        if len(self.kinds) == 1 and self.kinds[0][1] >= 1:
            return [self.kinds[0][0]]
        bounds = np.cumsum([chance for _, chance in self.kinds])
        drawn = int(np.searchsorted(bounds, rng.random(), side="right"))
        return [kind for kind, _ in self.kinds[drawn : drawn + 1]]


INSTANCE_MIX = Mixing(((ChosenMixing(instances=True), 1.0),))
"""The instances of a second scan in every item (`point_image_dataset_mix_semkitti`)."""


def foreign(scan: Scan) -> Scan:
    """Returns points that go into another scan: without pixels and with index -1, in neither its image nor its file."""
    return replace(scan, index=constant(np.int64(-1), len(scan)), pixels=no_pixels(len(scan)))


def mix_instances(scan: Scan, other: Scan) -> Scan:
    """Appends to `scan` every point of `other` that has an instance id; the image stays that of `scan`."""
    return Scan.concatenate([scan, foreign(other.select(other.instances != 0))])
