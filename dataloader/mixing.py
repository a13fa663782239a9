"""The mixing that a config asks for, with what the data set says about its classes and its sensor."""

from __future__ import annotations

import math

from dataloader.augment.mixing import INSTANCE_MIX, ChosenMixing, Mixing
from dataloader.augment.mixing_pairs import LaserMix, PolarMix
from dataloader.catalogue import data_set_of
from utils.config.data import MIX_SEMKITTI
from utils.config.mixing import InstanceMixParams, LaserMixParams, MixingKind, PolarMixParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap

_KEY = "dataset_params.mixing"


def mixing_of(config: Config, label_map: LabelMap) -> Mixing | None:
    """Makes the mixing of a config; None: it asks for none.

    Raises:
        UserError: the data set lacks what a kind needs: classes of things, or instance ids.
    """
    data = config.dataset_params
    if data.dataset_type == MIX_SEMKITTI:
        return INSTANCE_MIX
    if data.mixing is None:
        return None
    kinds = [(_kind(name, kind, config, label_map), kind.chance) for name, kind in data.mixing.kinds()]
    return Mixing(tuple(kinds), data.mixing.choose == "one_of")


def _kind(name: str, kind: MixingKind, config: Config, label_map: LabelMap) -> ChosenMixing:
    data_set = data_set_of(config)
    if isinstance(kind, LaserMixParams):
        low, high = map(math.radians, kind.pitch or data_set.sensor.bands)
        return ChosenMixing((LaserMix(kind.bands, (low, high)),))
    if isinstance(kind, InstanceMixParams):
        if not data_set.has_instances:
            raise UserError(
                f"{_KEY}.{name}: the scans of {data_set.name} have no instance ids, so nothing would be mixed in; take "
                "laser_mix or polar_mix"
            )
        return ChosenMixing(instances=True)
    assert isinstance(kind, PolarMixParams)
    things = things_of(name, config, label_map)
    return ChosenMixing((PolarMix(things, kind.swap_chance, kind.paste_chance),))


def things_of(name: str, config: Config, label_map: LabelMap) -> tuple[int, ...]:
    """Returns the learning ids of the classes that are things.

    Raises:
        UserError: there are none.
    """
    if things := label_map.classes_called(data_set_of(config).things):
        return things
    raise UserError(
        f"{_KEY}.{name}: no class of {config.dataset_params.label_mapping} is a countable thing of "
        f"{config.dataset_params.pc_dataset_type} ({', '.join(data_set_of(config).things) or 'which names none'}); "
        "remove it"
    )
