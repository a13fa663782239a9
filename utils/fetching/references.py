"""Texts that name a checkpoint on the network: `hf://owner/name[@revision]` and `https://host/file#sha256=<digits>`.

What is shown of them has no passwords and no query, which may hold a key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from utils.errors import UserError
from utils.names import is_path_below
from utils.text import shortened

FORMS = (
    "a file, a published folder, hf://owner/name[@revision], https://host/file#sha256=<64 digits>, or `last` or `best` "
    "of --log_dir"
)
"""What a checkpoint can be named by, for messages and the help of flags."""

Note = Callable[[str], object]
"""A function that is called with each line for the user, at once."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # one letter: a drive of Windows, or a short name of a folder
_PARTS = re.compile(
    r"([^/]*/+)"
    r"(?:[^/?#]*@|[^/?#@\[]*:(?!\d*(?:[/?#]|$)).*@)?"  # a login; no port is behind the colon: a password with / ? or #
    r"([^?#]*)(\?[^#]*)?",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?")
_REVISION = re.compile(r"[A-Za-z0-9._+@/-]+")
_DIGITS = 64
_SAFE = "%/:@!$&'()*+,;=~-._"
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face hub.

    Attributes:
        repository: owner/name.
        revision: a branch, a tag or a commit; None: the main branch as it is today.
    """

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Link:
    """A file on a server, and what it must be.

    Attributes:
        url: where it is, without a password; its query may hold a key.
        sha256: the SHA-256 of the file, 64 hexadecimal digits.
        authorization: value of the header of that name; "": none.
    """

    url: str = field(repr=False)
    sha256: str
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return shown(self.url)


def is_reference(name: str) -> bool:
    """Returns whether a name has a scheme (`hf://`, `https://`, `s3://`), and is no path of this machine."""
    return _SCHEME.match(name) is not None


def shown(url: str) -> str:
    """Returns a URL for messages: without password, query and fragment, and not too long."""
    parts = _PARTS.match(url)
    if parts is None:
        return shortened(url, 40)
    return shortened(f"{parts[1]}{parts[2]}{'?...' if parts[3] else ''}", 200)


def parse(reference: str) -> HubModel | Link:
    """Reads a text for which `is_reference` is true.

    Raises:
        UserError: it names nothing that can be fetched; the message has no passwords.
    """
    if any("\ud800" <= char <= "\udfff" for char in reference):  # so Python has bytes of a command that are no text
        raise UserError(f"{shown(reference)}: holds bytes that are no text; write such characters as %XX")
    scheme = reference.partition(":")[0].lower()
    if scheme not in ("hf", "https", "http"):
        raise UserError(f"{shown(reference)}: {scheme}:// is not fetched; --checkpoint takes {FORMS}")
    if not reference[len(scheme) + 1 :].startswith("//"):
        raise UserError(
            f"{shown(reference)}: {scheme}: goes with two slashes, {scheme}://; in Python give a text, as pathlib.Path "
            "drops one of them"
        )
    return _hub_model(reference) if scheme == "hf" else _link(reference)


def _hub_model(reference: str) -> HubModel:
    repository, at, revision = reference[len("hf://") :].partition("@")
    names = repository.rstrip("/").split("/")
    if len(names) != 2:
        raise UserError(
            f"{shown(reference)}: not a model of the hub; write hf://owner/name or hf://owner/name@revision"
        )
    for name in names:
        if _NAME.fullmatch(name) is None or "--" in name or ".." in name:
            raise UserError(
                f"{shown(reference)}: {shortened(name, 40)!r} cannot be a name on the hub, which has letters, digits, "
                "_ and between them single - or .; write hf://owner/name or hf://owner/name@revision"
            )
    if at and not (_REVISION.fullmatch(revision) and is_path_below(revision) and not revision.startswith("-")):
        raise UserError(
            f"{shown(reference)}: {shortened(revision, 40)!r} cannot be a revision; behind @ stands a branch, a tag or "
            "a commit of the repository"
        )
    return HubModel("/".join(names), revision or None)


def _link(reference: str) -> Link:
    url, _, fragment = reference.partition("#")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, None
    if parts is None or not host:
        raise UserError(f"{shown(reference)}: not an address of a file; write https://host/file#sha256=<64 digits>")
    host = f"[{host}]" if ":" in host else host
    path = quote(parts.path, safe=_SAFE) or "/"
    query = f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else ""
    address = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}{query}"
    if not is_permitted(address):
        raise UserError(f"{shown(reference)}: http:// is not encrypted; write https://, or fetch the file yourself")
    authorization = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
    return Link(address, _sha256(fragment, reference), authorization)


def _sha256(fragment: str, reference: str) -> str:
    """Returns the digits of `sha256=<digits>`."""
    name, _, digits = fragment.partition("=")
    if name.lower() != "sha256" or not digits:
        raise UserError(
            f"{shown(reference)}: needs the SHA-256 of the file behind it, #sha256=<64 digits>, so that no other file "
            "is taken for it; the page that offers the file names it, or `sha256sum FILE` where the file is"
        )
    if len(digits) != _DIGITS or re.fullmatch("[0-9A-Fa-f]+", digits) is None:
        raise UserError(
            f"{shown(reference)}: {shortened(digits, 80)!r} ({len(digits)} characters) is no SHA-256, which has "
            f"{_DIGITS} hexadecimal digits; `sha256sum FILE` prints it where the file is"
        )
    return digits.lower()


def is_permitted(url: str) -> bool:
    """Returns whether a URL may be asked: https, or http of this machine, whose traffic nobody else sees."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
