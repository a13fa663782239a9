"""A file of a server, written to a partial file that a later attempt, or a later run, goes on with.

By urllib of the standard library, as torch.hub has it: the proxies and certificates of the machine count. Which file it
is that comes is not compared here from attempt to attempt (ETag): the digest of the whole decides in the end.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.fetching.references import Link, Note, is_permitted, shown
from utils.fetching.sizes import LARGEST, megabytes
from utils.text import shortened

_SILENCE = 10.0  # seconds without a byte until a connection counts as lost
_PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt
_WORTH = 1 << 20  # bytes by which an attempt has to advance for the attempts to be counted from the first one again
_BLOCK = 1 << 20
_SAID = 64 << 20  # bytes of a file from which on its progress is said
_PART, _NO_RANGE = 206, 416  # status of an answer


class Lost(Exception):
    """A connection that failed or broke off; the text is the reason."""


def transfer(link: Link, partial: Path, note: Note) -> bool:
    """Writes the whole file, from the end of what the partial file has already; tries again when it is cut.

    Args:
        link: the file.
        partial: the partial file; it stays when an attempt fails.
        note: called with a line for the user now and then.

    Returns:
        Whether the file is made of parts that came at different times, perhaps of different files.

    Raises:
        UserError: the server cannot be reached or has no such file, or the disk is full.
    """
    try:
        return _all_of(link, partial, note)
    except BaseException:
        if not _size(partial):
            discard(partial)
        raise


def discard(partial: Path) -> None:
    """Removes a partial file, if it is there and can be removed; what went wrong before is what the user must know."""
    with suppress(OSError):
        partial.unlink()


def _all_of(link: Link, partial: Path, note: Note) -> bool:
    farthest, pauses = _size(partial), list(_PAUSES)
    received = False
    while True:
        try:
            return _attempt(link, partial, note)
        except Lost as error:
            reason, have = str(error), _size(partial)
        received |= have > farthest
        if have >= farthest + _WORTH:
            pauses = list(_PAUSES)
        farthest = max(farthest, have)
        if not received or not pauses:
            raise UserError(_lost(link, reason, have, received))
        time.sleep(pauses.pop(0))


def _attempt(link: Link, partial: Path, note: Note) -> bool:
    """Asks once for what is missing, and appends it; returns whether there was a part already."""
    with _appending(partial) as file:
        have = file.tell()
        with _opened(link, have) as response:
            if response is None:
                return True
            whole = _size_of_whole(response, have)
            if whole is None and have:
                file.truncate(0)
                have = 0
            if whole is None and response.status == _PART:
                raise Lost("the server sends another part than was asked for")
            total = response.length if whole is None else whole
            _refuse_too_large(link, partial, have, total)
            done = have
            while chunk := _received(response):
                _append(file, chunk, partial)
                done += len(chunk)
                if total is None:
                    _refuse_too_large(link, partial, done, done)
                elif total >= _SAID and 10 * done // total > 10 * (done - len(chunk)) // total:
                    note(f"{megabytes(done)} of {megabytes(total)} MB")
            if total is not None and done < total:
                raise Lost(f"closed after {megabytes(done)} of {megabytes(total)} MB")
            return have > 0


def _appending(partial: Path) -> Any:
    try:
        if os.path.lexists(partial) and not stat.S_ISREG(os.lstat(partial).st_mode):  # a pipe would hold for ever
            raise UserError(f"{partial}: not an ordinary file; remove it, and run the same command again")
        return partial.open("ab", buffering=0)
    except OSError as error:
        raise unwritable(partial, error) from error


def _append(file: Any, chunk: bytes, partial: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise unwritable(partial, error) from error


class _Encrypted(urllib.request.HTTPRedirectHandler):
    """A handler that follows no redirection to where others can read along."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_permitted(newurl) or (req.type == "https" and not newurl.lower().startswith("https:")):
            raise UserError(
                f"{shown(req.full_url)}: leads to {shown(newurl)}, which is not encrypted; use another link"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(link: Link, have: int) -> AbstractContextManager[http.client.HTTPResponse | None]:
    """Asks the server for the file from byte `have` on; gives None if nothing is missing."""
    headers = {"User-Agent": "2dpass", "Accept-Encoding": "identity"}
    request = urllib.request.Request(link.url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    if link.authorization:
        request.add_unredirected_header("Authorization", link.authorization)
    # http is for this machine alone: by a proxy it would leave it, unencrypted and with its password.
    proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme == "https"}
    opener = urllib.request.build_opener(_Encrypted, urllib.request.ProxyHandler(proxies))
    try:
        response = opener.open(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _NO_RANGE and have:
            return nullcontext()  # all of it is here, or of another file: the digest tells
        raise UserError(f"{link}: the server answers with {error.code}{_remedy(error.code)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Lost(_reason(error)) from None
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise UserError(f"{link}: a web page, not a file; give the address of the download itself")
    return response


def _received(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Lost(_reason(error)) from None


def _size_of_whole(response: http.client.HTTPResponse, have: int) -> int | None:
    """Returns the size of the file, if the body is a part of it from byte `have` on; some servers always send all."""
    said = re.fullmatch(
        r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", response.headers.get("Content-Range", ""), re.ASCII
    )
    if response.status != _PART or said is None or int(said[1]) != have:
        return None
    return int(said[2]) + 1 if said[3] == "*" else int(said[3])


def _refuse_too_large(link: Link, partial: Path, have: int, total: int | None) -> None:
    if total is None:
        return
    if total > LARGEST:
        discard(partial)
        raise UserError(f"{link}: larger than {LARGEST >> 30} GiB, which no checkpoint is; check the address")
    free = shutil.disk_usage(partial.parent).free
    if total - have > free:
        raise UserError(
            f"{partial.parent}: {link} needs {megabytes(total - have)} MB more, and {megabytes(free)} are free; make "
            "room there, or let XDG_CACHE_HOME name another folder"
        )


def unwritable(partial: Path, error: OSError) -> UserError:
    """Returns the line for the user about a folder of the cache that cannot be written."""
    return UserError(
        f"{partial.parent}: cannot be written ({error.strerror}); make room there or see to its permissions, or let "
        "XDG_CACHE_HOME name another folder"
    )


def _lost(link: Link, reason: str, have: int, received: bool) -> str:
    if not received:
        more = f"; {megabytes(have)} MB are here already, and the same command goes on there" if have else ""
        return (
            f"{link}: cannot be reached ({reason}); check the address, the network and its proxy, if it has one{more}"
        )
    return (
        f"{link}: the connection was lost again and again, at last at {megabytes(have)} MB ({reason}); run the same "
        "command again: it goes on there"
    )


def _remedy(code: int) -> str:
    if code in (401, 403, 407):
        return ", it wants a login; use a link that you have access to, or download the file and give its path"
    if code in (404, 410):
        return ", it has no such file; check the address"
    return "; try again later" if code == 429 or code >= 500 else "; check the address"


def _reason(error: Exception) -> str:
    """Describes an error of the network in a few words, without the URL."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {_SILENCE:.0f} seconds"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {shortened(cause.verify_message, 80)}"
    if isinstance(cause, http.client.HTTPException | ValueError) and not isinstance(cause, OSError):
        return f"no proper answer, {type(cause).__name__}"
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return shortened(said, 80)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
