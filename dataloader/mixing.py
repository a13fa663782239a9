"""The mixing that a config asks for, with what the data set says about its classes and its sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dataloader.augment.mixing import INSTANCE_MIX, ChosenMixing, Mixing
from dataloader.augment.mixing_pairs import LaserMix, PolarMix
from dataloader.augment.mixing_paste import InstancePaste
from dataloader.catalogue import data_set_of
from dataloader.datasets.data_set import DataSet
from dataloader.datasets.source import Source
from dataloader.object_base import ObjectBase
from dataloader.objects.cutting import Cut
from dataloader.objects.records import Objects
from utils.config.data import MIX_SEMKITTI
from utils.config.mixing import InstanceMixParams, InstancePasteParams, LaserMixParams, MixingKind, PolarMixParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import expand_home

_KEY = "dataset_params.mixing"


def mixing_of(config: Config, label_map: LabelMap, source: Source, number: int, processes: int = 0) -> Mixing | None:
    """Makes the mixing of a config; cuts objects out of the training scans, if they are wanted and not there yet.

    Args:
        config: the experiment.
        label_map: its classes.
        source: the scans that are trained on.
        number: of them, the first so many.
        processes: that cut objects out; 0: this one does.

    Returns:
        None: the config asks for none.

    Raises:
        UserError: the data set lacks what a kind needs: classes of things, instance ids, or objects.
    """
    data = config.dataset_params
    if data.dataset_type == MIX_SEMKITTI:
        _refuse_without_instances(f"dataset_params.dataset_type {MIX_SEMKITTI}", source, number)
        return INSTANCE_MIX
    if data.mixing is None:
        return None
    maker = _Maker(config, label_map, source, number, processes)
    kinds = [(maker.kind(name, kind), kind.chance) for name, kind in data.mixing.kinds()]
    return Mixing(tuple(kinds), data.mixing.choose == "one_of")


@dataclass(frozen=True)
class _Maker:
    """The objects from which the kinds of mixing are made; see `mixing_of`."""

    config: Config
    label_map: LabelMap
    source: Source
    number: int
    processes: int

    @property
    def data_set(self) -> DataSet:
        """The data set of the config."""
        return data_set_of(self.config)

    def kind(self, name: str, kind: MixingKind) -> ChosenMixing:
        """Makes a kind of mixing."""
        if isinstance(kind, LaserMixParams):
            low, high = map(math.radians, kind.pitch or self.data_set.sensor.bands)
            return ChosenMixing((LaserMix(kind.bands, (low, high)),))
        if isinstance(kind, PolarMixParams):
            things = self._classes(name, self.data_set.things, "a countable thing")
            return ChosenMixing((PolarMix(things, kind.swap_chance, kind.paste_chance),))
        if isinstance(kind, InstancePasteParams):
            return ChosenMixing((self._paste(name, kind),))
        assert isinstance(kind, InstanceMixParams)
        if not self.data_set.has_instances:
            raise UserError(
                f"{_KEY}.{name}: the scans of {self.data_set.name} have no instance ids, so nothing would be mixed in; "
                "take instance_paste, laser_mix or polar_mix"
            )
        _refuse_without_instances(f"{_KEY}.{name}", self.source, self.number)
        return ChosenMixing(instances=True)

    def _paste(self, name: str, kind: InstancePasteParams) -> InstancePaste:
        things = self._classes(name, self.data_set.things, "a countable thing")
        ground = self._classes(name, self.data_set.surfaces, "ground that things stand on")
        wanted = None if kind.classes is None else self._named(f"{name}.classes", kind.classes, things)
        cut = Cut(things, ground, len(self.label_map.names))
        folder = expand_home(kind.database, key=f"{_KEY}.{name}.database")
        base = ObjectBase(folder, self.data_set.name, cut, kind.objects_per_class, self.processes)
        objects = base.open(self.source, self.number)
        there = tuple(np.unique(objects.facts["label"]).tolist())
        if not there:
            raise UserError(
                f"{_KEY}.{name}: no object stands on visible ground in the {self.number} training scans; remove it"
            )
        if wanted is not None and (lacking := [label for label in wanted if label not in there]):
            raise UserError(
                f"{_KEY}.{name}.classes: no {self.label_map.names[lacking[0]]} could be cut out of the {self.number} "
                f"training scans; name some of {', '.join(self.label_map.names[label] for label in there)}"
            )
        return InstancePaste(objects, kind.objects, wanted or rare(objects, there), ground)

    def _classes(self, name: str, raw_names: tuple[str, ...], what: str) -> tuple[int, ...]:
        """Returns the learning ids of the classes with some raw names.

        Raises:
            UserError: there are none.
        """
        if found := self.label_map.classes_called(raw_names):
            return found
        raise UserError(
            f"{_KEY}.{name}: no class of {self.config.dataset_params.label_mapping} is {what} of {self.data_set.name} "
            f"({', '.join(raw_names) or 'which names none'}); remove it"
        )

    def _named(self, key: str, names: tuple[str, ...], things: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the learning ids of classes, which must be things."""
        ids = {self.label_map.names[label]: label for label in things}
        if wrong := [name for name in names if name not in ids]:
            raise UserError(f"{_KEY}.{key}: {wrong[0]} is no countable thing; name some of {', '.join(ids)}")
        return tuple(dict.fromkeys(ids[name] for name in names))


def _refuse_without_instances(key: str, source: Source, number: int) -> None:
    """Reads scans until one has an instance id, which is usually the first; raises a UserError if none has."""
    if not any(source.read(index, None).instances.any() for index in range(number)):
        raise UserError(
            f"{key}: none of the {number} training scans has an instance id in its label file, so nothing would be "
            "mixed in; take instance_paste, laser_mix or polar_mix in dataset_params.mixing"
        )


def rare(objects: Objects, classes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns those of some classes that have no more points in the training scans than these have on average."""
    counts = objects.class_points[list(classes)]
    return tuple(label for label, count in zip(classes, counts, strict=True) if count <= counts.mean())
