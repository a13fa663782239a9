"""Points that a corruption has added to a scan, in a picture."""

from __future__ import annotations

from dataloader.corruptions.families import added_labels
from utils.labels import LabelMap
from utils.pictures.raster import ALTERED


def naming_added(label_map: LabelMap, dataset: str) -> LabelMap:
    """The map with ids of their own, behind those of the classes, for the points that corruptions of `dataset` add.

    In white, and with names for the legend that say that they are not judged.
    """
    names = {raw: f"{name} (added, ignored)" for raw, name in added_labels(dataset).items()}
    return label_map.adding(names, ALTERED)
