"""The data base of objects of an experiment: cut out of the scans that are trained on, once, by one process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dataloader.datasets.source import Source
from dataloader.objects.cutting import Cut
from dataloader.objects.files import FORMAT, read_objects, write_objects
from dataloader.objects.records import Objects
from dataloader.workers import start_worker, starting_workers
from utils.command.terminal import say_error
from utils.errors import UserError
from utils.files import remove_partials
from utils.locks import locked

_FILE, _LOCK = "objects.npz", ".lock"
_CLASS_POINTS = 400_000  # of the objects of one class, 6.4 MB; when it has so many, no more are taken
_LOOKED_AT = 8  # scans whose content tells the data base apart from that of other scans with the same names
_TOGETHER = 64  # scans between two choices of objects
_NEWS = 15.0  # seconds between two lines about a long build


@dataclass(frozen=True)
class ObjectBase:
    """A frozen record of where the objects of an experiment are kept, and how they are cut out.

    Attributes:
        folder: for the files, each in a folder of its own for each set of scans; they are made.
        name: of the data set, which begins the name of that folder.
        cut: what is cut out.
        most: objects of a class that are kept.
        processes: that cut; 0: this one does.
    """

    folder: Path
    name: str
    cut: Cut
    most: int
    processes: int = 0

    def open(self, source: Source, number: int) -> Objects:
        """Reads the objects of the first `number` scans of a source; cuts them out, if that has not been done.

        Several processes may call this at once: one cuts, the others wait for it. Killed, it leaves no file.

        Raises:
            UserError: a scan cannot be read, the file is damaged or cannot be written.
        """
        folder = self.folder / f"{self.name}-{self._fingerprint(source, number)}"
        path = folder / _FILE
        try:
            if path.exists():
                return read_objects(path, self.cut)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be made ({error.strerror}); name another folder in "
                "dataset_params.mixing.instance_paste.database"
            ) from error
        with locked(folder / _LOCK, lambda: say_error(f"{path}: waiting for another process, which makes it")):
            if not path.exists():  # else it was made while this process waited
                say_error(f"{path}: objects are cut out of {number} training scans, once")
                remove_partials(folder)  # of a run that was killed
                write_objects(path, self._cut(source, number))
        return read_objects(path, self.cut)

    def _fingerprint(self, source: Source, number: int) -> str:
        """Digests what the objects depend on: the scans by name, the content of some, and how they are cut."""
        digest = hashlib.sha256(repr((FORMAT, astuple(self.cut), self.most, number)).encode())
        for index in range(number):
            frame = source.frame(index)
            digest.update(f"{frame.sequence}/{frame.name}\n".encode("utf-8", "surrogateescape"))
        for index in np.unique(np.linspace(0, number - 1, _LOOKED_AT).astype(int)).tolist():
            scan = source.read(index, None)
            for column in (scan.xyz, scan.intensity, scan.labels, scan.instances):
                digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()[:16]

    def _cut(self, source: Source, number: int) -> Objects:
        loader = DataLoader(
            _Cuts(source, number, self.cut),
            batch_size=None,
            num_workers=self.processes,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # of single items, not of lists
            multiprocessing_context="fork" if self.processes else None,
            generator=torch.Generator(),  # else the network's dice would be thrown for the processes
            worker_init_fn=start_worker,
        )
        with starting_workers():
            parts = iter(loader)
        return self._choose(parts, number)

    def _choose(self, parts: Iterable[Objects], number: int) -> Objects:
        """Chooses objects of all scans by chance, so many of each class as are kept."""
        kept: list[Objects] = []
        news = time.monotonic() + _NEWS
        for done, part in enumerate(parts, start=1):
            kept.append(part)
            if done % _TOGETHER == 0 or done == number:
                kept = [chosen(Objects.joined(kept), self.most)]
            if time.monotonic() > news:
                news = time.monotonic() + _NEWS
                say_error(f"objects: {done} of {number} training scans")
        return kept[0]


class _Cuts(Dataset[Objects]):
    """The objects of each scan, for loader processes."""

    def __init__(self, source: Source, number: int, cut: Cut) -> None:
        self._source, self._number, self._cut = source, number, cut

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> Objects:
        if not 0 <= index < self._number:
            raise IndexError(index)
        return self._cut.objects(self._source.read(index, None), index)


def _as_it_is(objects: Objects) -> Objects:
    return objects


def chosen(objects: Objects, most: int) -> Objects:
    """Chooses of each class at most `most` objects, none more once they have 400,000 points, all with the same chance.

    Of a larger data base it chooses the same whether parts of that have been chosen from before or not: every object
    has a rank that depends on its scan and on its place among those of the scan.
    """
    ranks = _ranks(objects.facts)
    rows = []
    for label in np.unique(objects.facts["label"]):
        of_class = np.flatnonzero(objects.facts["label"] == label)
        of_class = of_class[np.argsort(ranks[of_class], kind="stable")]
        counts = objects.facts["count"][of_class].astype(np.int64)
        wanted = np.cumsum(counts) - counts < _CLASS_POINTS  # by the points of those before it alone
        rows.append(of_class[wanted][:most])
    return objects.select(np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64))


def _ranks(facts: NDArray[np.void]) -> NDArray[np.uint64]:
    """Draws a number for each object by its scan, its class and its instance, which are its own."""
    keys = facts["scan"].astype(np.uint64) << np.uint64(32)
    keys ^= facts["label"].astype(np.uint64) << np.uint64(24) ^ facts["instance"].astype(np.uint64)
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # the finaliser of SplitMix64
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))
