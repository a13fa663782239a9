"""Files that are named by a path of this machine or by a URL of fsspec, such as s3://bucket/drive/scan.bin.

Paths stay paths, and take the ways of `utils.files`. A URL is read by way of a temporary file and written as one
object, which appears whole in every store. The scheme chooses the driver, a library of its own for most.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import require_regular, write_bytes
from utils.paths import expand_home
from utils.text import shortened

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")


def is_url(name: str) -> bool:
    """Returns whether a name is a URL (`s3://bucket/key`, `memory://x`), and not a path."""
    return _SCHEME.match(name) is not None


def join(folder: str, below: str) -> str:
    """Returns the location of a file below a folder; `below` has "/" between its parts."""
    return f"{folder.rstrip('/')}/{below}" if is_url(folder) else str(Path(folder, below))


def exists(location: str) -> bool:
    """Returns whether there is a file.

    Raises:
        UserError: the store of a URL cannot be asked.
    """
    if (here := path_of(location)) is not None:
        return here.is_file()
    with _explaining(location):
        store, path = _store(location)
        return bool(store.isfile(path))


def write(location: str, content: bytes) -> None:
    """Writes a file, whole or not at all; missing folders are made.

    Raises:
        OSError: a path cannot be written.
        UserError: a URL cannot be written.
    """
    if (here := path_of(location)) is not None:
        write_bytes(here, content)
        return
    with _explaining(location):
        store, path = _store(location)
        store.makedirs(store._parent(path), exist_ok=True)
        store.pipe_file(path, content)


def put(location: str, file: Path) -> None:
    """Copies a file of this machine to a URL, where it appears whole.

    Raises:
        UserError: the URL cannot be written.
    """
    with _explaining(location):
        store, path = _store(location)
        store.makedirs(store._parent(path), exist_ok=True)
        store.put_file(str(file), path)


def read(location: str) -> bytes:
    """Reads a small file.

    Raises:
        OSError: a path cannot be read.
        UserError: a URL cannot be read.
    """
    if (here := path_of(location)) is not None:
        require_regular(here)
        return here.read_bytes()
    with _explaining(location):
        store, path = _store(location)
        return bytes(store.cat_file(path))


def absolute(location: str) -> str:
    """Returns a location by which two names of the same file can be told: an absolute path, or the URL."""
    return location if (here := path_of(location)) is None else os.path.realpath(here)


def version(location: str) -> str:
    """Returns what changes when a file or folder does: its size and its time; "" where that cannot be known."""
    try:
        if (here := path_of(location)) is not None:
            found = [path.stat() for path in (here.iterdir() if here.is_dir() else [here])]
            return f"{sum(each.st_size for each in found)} bytes, {max(each.st_mtime_ns for each in found)}"
        with _explaining(location):
            store, path = _store(location)
            facts = store.info(path)
    except (OSError, ValueError, UserError):
        return ""
    times = (facts[key] for key in ("ETag", "mtime", "LastModified", "updated", "created") if facts.get(key))
    return f"{facts.get('size')} bytes, {next(times, '')}"


@contextmanager
def on_disk(location: str) -> Iterator[Path]:
    """Gives a file as a path of this machine; that of a URL is a copy, which goes when the block ends.

    Raises:
        UserError: a URL cannot be read.
    """
    if (here := path_of(location)) is not None:
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="2dpass-") as folder:
        copy = Path(folder) / (location.rstrip("/").rpartition("/")[2] or "file")
        with _explaining(location):
            store, path = _store(location)
            store.get(path, str(copy), recursive=store.isdir(path))
        yield copy


def matches(pattern: str) -> list[str]:
    """Lists the files and folders that a name or a glob pattern stands for, sorted; a name that exists is itself.

    Raises:
        UserError: the store of a URL cannot be asked, or there is no such home folder.
    """
    if not is_url(pattern):
        path = expand_home(pattern)
        return [str(path)] if os.path.lexists(path) else sorted(glob.glob(str(path), recursive=True))
    with _explaining(pattern):
        store, path = _store(pattern)
        if store.exists(path):
            return [pattern]
        found = (name for name in store.glob(path) if not name.rpartition("/")[2].startswith("."))
        return sorted(_url(store, name, pattern) for name in found)


def is_one(pattern: str) -> bool:
    """Returns whether a name is that of a file or folder, and no pattern, so that `matches` has returned it alone."""
    if is_url(pattern):
        return matches(pattern) == [pattern]
    return os.path.lexists(expand_home(pattern))


def is_folder(location: str) -> bool:
    """Returns whether a location is a folder.

    Raises:
        UserError: the store of a URL cannot be asked.
    """
    if (here := path_of(location)) is not None:
        return here.is_dir()
    with _explaining(location):
        store, path = _store(location)
        return bool(store.isdir(path))


def files_below(folder: str) -> list[str]:
    """Lists all files in a folder and below it, sorted; hidden files and folders are left out.

    Raises:
        UserError: the folder cannot be read.
    """
    if not is_url(folder):
        return sorted(_walk(folder))
    with _explaining(folder):
        store, path = _store(folder)
        found = (name for name in store.find(path) if "/." not in name[len(path) :])
        return sorted(_url(store, name, folder) for name in found)


def _walk(folder: str) -> Iterator[str]:
    """Yields the files in a folder and below; links to folders are followed, but not in a circle."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); correct its permissions") from error

    above: dict[str, frozenset[str]] = {folder: frozenset([os.path.realpath(folder)])}
    for base, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        passed = above.pop(base)
        folders[:] = [name for name in folders if not name.startswith(".")]
        places = {name: os.path.realpath(os.path.join(base, name)) for name in folders}
        folders[:] = [name for name in folders if places[name] not in passed]
        above.update({os.path.join(base, name): passed | {places[name]} for name in folders})
        yield from (os.path.join(base, name) for name in names if not name.startswith("."))


def path_of(location: str) -> Path | None:
    """Returns the path of a location on this machine, also of a `file://` URL; None for any other URL."""
    if not is_url(location):
        return Path(location)
    scheme, _, rest = location.partition("://")
    return Path("/", rest.lstrip("/")) if scheme in ("file", "local") and rest.startswith("/") else None


def _store(url: str) -> tuple[Any, str]:
    import fsspec.core

    return fsspec.core.url_to_fs(url)


def _url(store: Any, path: str, like: str) -> str:
    """Returns the URL of a path in a store, in the way that `like` is written."""
    protocol = like.partition("://")[0]
    return f"{protocol}://{path.lstrip('/') if protocol != 'file' else path}"


@contextmanager
def _explaining(location: str) -> Iterator[None]:
    """Turns what drivers raise, of whatever class, into one line."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        reason = shortened(str(error), 200)
        raise UserError(f"{location}: the driver of this kind of URL is not installed ({reason})") from error
    except Exception as error:
        reason = shortened(f"{type(error).__name__} {error}".strip(), 200)
        raise UserError(f"{location}: cannot be reached ({reason}); check the URL and your access to it") from error
