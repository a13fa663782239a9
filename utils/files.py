"""Files on disk are written whole or not at all, and read only if they are ordinary files."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_BUFFER = 1 << 20
_PARTIAL = ".partial"
_KEPT = 100  # characters of the name of a file in that of its incomplete form


class _Watched(io.RawIOBase):
    """An open file descriptor that remembers the first error of a write.

    Libraries hide such an error (torch, Pillow), or lose its number (`ndarray.tofile`). They do not get the descriptor
    itself, so that everything they write passes through here.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self._descriptor, size)
        return size


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under its name when it is complete, or not at all.

    A file beside `path` is written, flushed to the disk and renamed: a reader of `path` sees the old file or the new
    one, also after a kill or on a full disk. Missing folders are made.

    Args:
        path: the file. An existing file is replaced; anything else that exists, such as /dev/full, is an error.

    Yields:
        A binary file. Any exception in the block leaves `path` as it was.

    Raises:
        OSError: the file cannot be written; `filename` is `path`, even if a library has changed the error.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:_KEPT]}.{os.getpid()}.{uuid.uuid4().hex[:8]}{_PARTIAL}")
    raw = None
    try:
        if path.exists():
            require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            raw = _Watched(descriptor)
            file = io.BufferedWriter(raw, _BUFFER)
            yield file
            file.flush()
            os.fsync(descriptor)
        finally:
            if raw is not None:
                raw.close()  # or the rest of the buffer would go to the next file that gets this descriptor
            os.close(descriptor)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        cause = raw.error if raw is not None and raw.error is not None else error
        if not isinstance(cause, OSError) or isinstance(cause, io.UnsupportedOperation):
            raise
        if cause.filename not in (None, str(partial), partial):
            raise
        raise _named(cause, path) from error


def _named(error: OSError, path: Path) -> OSError:
    """Returns the same error with the name of the file that could not be written."""
    number = error.errno or errno.EIO
    return OSError(number, os.strerror(number) if error.errno else f"cannot be written ({error})", str(path))


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Writes a file, whole or not at all.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    with whole_file(path) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all; bytes of a path that are not text are written as escapes.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Reads a UTF-8 text file, if it is an ordinary file.

    Args:
        path: the file.
        errors: how bytes that are not UTF-8 are handled, as in `bytes.decode`.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file; the error names `path`.
        UnicodeDecodeError: the file is not UTF-8.
    """
    require_regular(path)
    return Path(path).read_text(encoding="utf-8", errors=errors)


def sha256_of(path: str | Path) -> str:
    """Computes the SHA-256 of an ordinary file, in hexadecimal digits, block by block.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file; the error names `path`.
    """
    require_regular(path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BUFFER):
            digest.update(block)
    return digest.hexdigest()


def remove_partials(folder: str | Path, name: str = "") -> None:
    """Removes incomplete files that killed processes have left; no other process may write them now.

    Args:
        folder: where they lie.
        name: of the file that they were to become, without characters of a pattern; "": of any.
    """
    for path in Path(folder).glob(f".{name[:_KEPT]}*{_PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def require_regular(path: str | Path) -> None:
    """Checks that a path is an ordinary file: reading from a pipe, a socket or a device may never end.

    Raises:
        OSError: there is no such file (`FileNotFoundError`), it is a folder (`IsADirectoryError`), or it is not an
            ordinary file; the error names `path`.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not an ordinary file", str(path))
