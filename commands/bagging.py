"""Bags of labelled clouds, put together from the labels of each scan and the scans themselves, one at a time."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.inputs import InputScan, OpenFiles
from dataloader.planned_bags import BagJob, PlannedBag
from utils import locations
from utils.command.terminal import say, say_error
from utils.errors import UserError, one_line
from utils.labels import LabelMap
from utils.results.bag_files import labelled_topic, open_bag_writer
from utils.results.labelled_cloud import classes_text, with_labels
from utils.results.point_files import PARTS
from utils.results.prediction_records import PredictionRecords
from utils.scan.cloud_message import CloudMessage


def write_bags(
    job: BagJob, scans: PredictionRecords, failed: Collection[str], files: OpenFiles, classes: LabelMap
) -> list[str]:
    """Writes the bags that are not there, or whose scans have changed.

    Args:
        job: what to make.
        scans: where the labels of each scan are.
        failed: the targets of scans that have no labels; they are left out.
        files: reads the scans.
        classes: the classes of the labels.

    Returns:
        A line for each bag that cannot be made.

    Raises:
        OSError: a bag cannot be written.
        UserError: a bag cannot be written.
    """
    problems = []
    for bag in job.bags:
        done = [scan for scan in bag.scans if scan.target not in failed]
        left_out = f"; {len(bag.scans) - len(done)} could not be labelled" if len(done) < len(bag.scans) else ""
        version = bag.version(scans, done, job.confidence)
        if not done or job.records.is_done(bag.target, bag.source, version):
            continue
        notes = [found for scan in done if (found := scans.find(scan.target))]
        advice = next((found.advice for found in notes if found.advice), "")
        begun = job.records.begin_bag(bag.target, bag.source, version, [scan.target for scan in done], advice)
        try:
            for kind in job.records.suffixes:
                location = job.records.file(bag.target, kind)
                _write(location, kind, _clouds(bag, done, job.confidence, scans, files, classes), classes)
                say(f"{location}: {len(done)} of {len(bag.scans)} scans of {bag.recording}{left_out}")
        except UserError as error:
            problems.append(f"{bag.recording}: no bag can be made of it now: {one_line(error)}")
            say_error(f"error: {problems[-1]}")
            continue
        job.records.finish_bag(bag.target, begun)
    return problems


def _clouds(
    bag: PlannedBag, done: Sequence[InputScan], confidence: bool, scans: PredictionRecords, files: OpenFiles,
    classes: LabelMap,
) -> Iterator[CloudMessage]:  # fmt: skip
    """Yields the clouds of a bag with their labels.

    Raises:
        UserError: a scan cannot be read any more, or its labels are not those of its points.
    """
    for scan, message in bag.messages(files, done):
        labels = _part(scans.file(scan.target, PARTS[0]), len(message.table), "u1")
        if labels.max() >= len(classes.names):
            raise UserError(f"{scan.name}: its labels are damaged; give --overwrite")
        sure = _part(scans.file(scan.target, PARTS[1]), len(labels), "<f4") if confidence else None
        table = with_labels(message.table, labels, sure, classes)
        yield replace(message, table=table, topic=labelled_topic(message.topic))


def _part(location: str, count: int, kind: str) -> NDArray[Any]:
    """Reads what is noted of each point of a scan.

    Raises:
        UserError: it is damaged, or of another scan.
    """
    try:
        found = np.load(io.BytesIO(locations.read(location)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{location}: is missing or damaged; give --overwrite") from error
    if found.dtype != kind or found.shape != (count,):
        raise UserError(f"{location}: is not of the {count} points of its scan, which may have changed; run again")
    return found


def _write(location: str, kind: str, clouds: Iterator[CloudMessage], classes: LabelMap) -> None:
    """Writes a bag, whole or not at all; that of a URL grows on this machine."""
    with _place(location) as path, open_bag_writer(path, kind, classes_text(classes)) as writer:
        for cloud in clouds:
            writer.add(cloud)


@contextmanager
def _place(location: str) -> Iterator[Path]:
    if (path := locations.path_of(location)) is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="2dpass-") as folder:
        path = Path(folder, location.rpartition("/")[2])
        yield path
        locations.put(location, path)
