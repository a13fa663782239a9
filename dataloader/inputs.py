"""The scans that a command line names: files, folders, patterns, URLs and bags, as one list with a name for each."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Lock

from dataloader.formats import open as formats
from dataloader.formats.open import Clouds, Layout, open_clouds
from dataloader.target_names import clashes, possible, told_apart
from utils import locations
from utils.errors import UserError, one_line
from utils.scan.cloud_message import CloudMessage
from utils.scan.point_cloud import PointCloud

_OPEN_FILES = 4
_FEW = 8  # files named one by one that are not taken for a recording
_TEXT = {".txt", ".csv", ".asc", ".pts"}
"""Suffixes of tables that lie beside scans for other reasons (poses.txt, times.txt)."""


@dataclass(frozen=True)
class InputScan:
    """A frozen record of a scan to be labelled.

    Attributes:
        location: its file, or folder of a ROS 2 bag: a path or a URL.
        index: number of the scan in the file, 0 but for bags.
        target: where its results go below the output folder, without a suffix: "drive/000012".
        group: what was recorded together: a bag, or the files of one kind in a folder. Its scans are compared with the
            training together. A few files that are named one by one are each a group.
        recording: what one sensor took, scan after scan: a bag, or the files of one kind in a folder.
    """

    location: str
    index: int
    target: str
    group: str
    recording: str = ""

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"{self.location}, scan {self.index}" if self.index else self.location

    @property
    def source(self) -> str:
        """The scan whatever the folder that it is named from: its absolute location, and its number."""
        whole = locations.absolute(self.location)
        return f"{whole}, scan {self.index}" if self.index else whole


@dataclass(frozen=True)
class Inputs:
    """A frozen record of what a command line names.

    Attributes:
        scans: the scans, in the order of the command line, those of a folder by name; no two have the same target.
        problems: lines about what cannot be used, each naming a file or an argument.
    """

    scans: tuple[InputScan, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """A frozen record of a file: its location, and the parts of its name below the argument that led to it."""

    location: str
    below: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts of the location, for names that tell it apart from others."""
        text = self.location if locations.is_url(self.location) else _without_up(self.location)
        return tuple(part for part in text.replace("://", "/").split("/") if part not in ("", ".", ".."))

    @property
    def folder(self) -> str:
        """The folder of the file."""
        return self.location.replace("\\", "/").rpartition("/")[0] or "."

    @property
    def kind(self) -> str:
        """The files of its kind in its folder, as a pattern."""
        return f"{self.folder}/*{PurePosixPath(self.location).suffix.lower()}"


@dataclass
class _Open:
    """An open file: its clouds, its path on this machine, what closes it, and how many threads read it."""

    clouds: Clouds
    path: Path
    stack: ExitStack
    users: int = 0


class OpenFiles:
    """The files that scans are read from; the last few stay open, since a bag is read message by message.

    Args:
        layout: what the user has said about the files.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = Lock()
        self._siblings: dict[str, tuple[str, ...]] = {}

    def beside(self, files: Iterable[str]) -> None:
        """Remembers files that were recorded together; their sizes may tell the layout of all."""
        groups: dict[str, list[str]] = defaultdict(list)
        for file in files:
            groups[_File(file, ()).folder].append(file)
        self._siblings.update({group: tuple(names) for group, names in groups.items()})

    def clouds(self, location: str) -> Clouds:
        """Opens a file, or returns it if it is open.

        Raises:
            UserError: it cannot be read, or is damaged.
        """
        with self._opened(location) as file:
            return file.clouds

    def read(self, scan: InputScan) -> PointCloud:
        """Reads a scan; its cloud is called by its location.

        Raises:
            UserError: the file is damaged.
        """
        with self._opened(scan.location) as file:
            try:
                return replace(file.clouds.read(scan.index), name=scan.name)
            except UserError as error:
                raise at_location(scan.location, file.path, error) from error

    def message(self, scan: InputScan) -> CloudMessage | None:
        """Reads a scan of a bag with all fields of its message; None: it comes from another file.

        Raises:
            UserError: the bag is damaged.
        """
        with self._opened(scan.location) as file:
            try:
                return file.clouds.message(scan.index)
            except UserError as error:
                raise at_location(scan.location, file.path, error) from error

    @contextmanager
    def _opened(self, location: str) -> Iterator[_Open]:
        """Gives an open file, which is not closed in the block: the copy of a URL would go while it is read."""
        file = self._taken(location) or self._taken(location, self._newly_opened(location))
        assert file is not None
        try:
            yield file
        finally:
            with self._lock:
                file.users -= 1
                idle = [name for name, each in self._open.items() if not each.users]
                for name in idle[: max(len(self._open) - _OPEN_FILES, 0)]:
                    self._open.pop(name).stack.close()

    def _taken(self, location: str, made: _Open | None = None) -> _Open | None:
        """Returns the open file, with one more user; `made` if there is none."""
        with self._lock:
            file = self._open.get(location)
            if file is None and made is not None:
                file = self._open[location] = made
            elif made is not None:
                made.stack.close()  # another thread was faster
            if file is not None:
                file.users += 1
                self._open.move_to_end(location)
            return file

    def _newly_opened(self, location: str) -> _Open:
        stack = ExitStack()
        path = stack.enter_context(locations.on_disk(location))
        try:
            return _Open(open_clouds(path, self._layout, iter(self._of_same_folder(location))), path, stack)
        except UserError as error:
            stack.close()
            raise at_location(location, path, error) from error

    def _of_same_folder(self, location: str) -> Iterator[Path]:
        if not locations.is_url(location):
            yield from map(Path, self._siblings.get(_File(location, ()).folder, ()))


def _without_up(path: str) -> str:
    """Returns an absolute path without "..", by the way that the system takes through links."""
    start, up, rest = f"{Path(path).absolute().as_posix()}/".rpartition("/../")
    return f"{os.path.realpath(start + up)}/{rest}" if up else start + rest


def at_location(location: str, path: Path, error: UserError) -> UserError:
    """Returns an error that names the location, where it names the temporary copy."""
    return UserError(one_line(error).replace(str(path), location)) if locations.is_url(location) else error


def find_inputs(
    arguments: Sequence[str], files: OpenFiles, is_result: Callable[[str], bool] = lambda location: False
) -> Inputs:
    """Lists the scans that arguments name.

    A folder stands for all point files in it and below; its structure is kept in the targets. A file is called by its
    name. Where two would write the same file, more of their paths is kept, as much as tells them apart, and then the
    suffix.

    Args:
        arguments: paths, URLs and glob patterns.
        files: opens bags, to count their scans.
        is_result: tells the files that an earlier run has made; in a folder these do not count.
    """
    found: dict[tuple[str, ...], _File] = {}
    problems: list[str] = []
    for argument in arguments:
        try:
            for file in _files(argument, is_result):
                found.setdefault(file.parts, file)
        except UserError as error:
            problems.append(one_line(error))
    files.beside(file.location for file in found.values())
    named = Counter(file.kind for file in found.values() if len(file.below) == 1)
    scans: list[InputScan] = []
    for file, target in zip(found.values(), _targets(list(found.values())), strict=True):
        if not _is_bag(file.location):
            alone = len(file.below) == 1 and named[file.kind] <= _FEW
            scans.append(InputScan(file.location, 0, target, file.location if alone else file.kind, file.kind))
            continue
        try:
            clouds = files.clouds(file.location)
        except UserError as error:
            problems.append(one_line(error))
            continue
        names = [f"{target}/{clouds.label(number)}" for number in range(len(clouds))]
        scans += [InputScan(file.location, row, name, *[file.location] * 2) for row, name in enumerate(names)]
    targets = told_apart([possible(scan.target) for scan in scans])
    return Inputs(tuple(map(_called, scans, targets)), tuple(problems))


def _called(scan: InputScan, target: str) -> InputScan:
    return scan if scan.target == target else replace(scan, target=target)


def _files(argument: str, is_result: Callable[[str], bool]) -> list[_File]:
    """Lists the files that an argument names.

    Raises:
        UserError: it names none.
    """
    named = locations.matches(argument)
    if not named:
        raise UserError(f"{argument}: no such file, folder or pattern; correct the argument")
    several, found = not locations.is_one(argument), []
    for location in named:
        if locations.is_folder(location) and not _is_bag_folder(location):
            below = _in_folder(location, is_result)
            if not below and not several:
                raise UserError(f"{location}: no point files in the folder or below; name the folder that has them")
            found += below
        elif not several or _is_point_file(location) or _is_bag_folder(location):
            found.append(_File(location, (_File(location, ()).parts[-1],)))
    if not found:
        raise UserError(f"{argument}: nothing that it matches is a point file; correct the pattern")
    return found


def _in_folder(folder: str, is_result: Callable[[str], bool]) -> list[_File]:
    """Lists the point files in a folder and below; tables of text count only where there is nothing else."""
    own = _File(folder, ()).parts[-1:]
    all_below = locations.files_below(folder)
    bags = sorted(filter(_is_bag_folder, {_File(name, ()).folder for name in all_below}))
    in_bags = tuple(f"{bag}/" for bag in bags)
    files = [name for name in all_below if _is_point_file(name) and not name.startswith(in_bags)]
    files = [name for name in files if not is_result(name)]
    clouds = [name for name in files if PurePosixPath(name).suffix.lower() not in _TEXT]
    start = len(folder.rstrip("/")) + 1
    bags = [bag for bag in bags if not is_result(bag)]
    return [_File(name, (*own, *name[start:].split("/"))) for name in sorted([*(clouds or files), *bags])]


def _is_point_file(location: str) -> bool:
    return formats.is_point_file(Path(location.rstrip("/").rpartition("/")[2]))


def _is_bag(location: str) -> bool:
    """Returns whether a location holds several scans."""
    name = location.rstrip("/").rpartition("/")[2] if locations.is_url(location) else location
    return formats.is_bag(Path(name))


def _is_bag_folder(location: str) -> bool:
    return not locations.is_url(location) and formats.is_bag_folder(Path(location))


def _targets(files: Sequence[_File]) -> list[str]:
    """Names the results of files so that no two have the same name, whatever the case of its letters."""
    lengths, with_suffix = [len(file.below) for file in files], [False] * len(files)

    def name(number: int) -> str:
        parts = files[number].parts[-lengths[number] :]
        stem = _stem(parts[-1])
        # The confidences of a.bin are in a.confidence.npy.
        keep = with_suffix[number] or stem.lower().endswith(".confidence")
        return "/".join(parts if keep else (*parts[:-1], stem))

    for _ in range(2 + max((len(file.parts) for file in files), default=0)):
        for numbers in clashes([name(number) for number in range(len(files))]):
            in_one_folder = len({files[number].parts[:-1] for number in numbers}) == 1
            for number in numbers:  # in one folder the suffix tells files apart, otherwise more of the path
                if in_one_folder:
                    with_suffix[number] = True
                else:
                    lengths[number] = min(lengths[number] + 1, len(files[number].parts))
    return [name(number) for number in range(len(files))]


def _stem(name: str) -> str:
    stem = name[: -len(".bin")] if name.lower().endswith(".pcd.bin") else name
    return PurePosixPath(stem).stem or stem
