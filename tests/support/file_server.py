"""Servers on 127.0.0.1 that have files in memory: one that fails in the ways of real ones, and one that is a hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

Server = TypeVar("Server", bound="FileServer")


class FileServer:
    """A server of `files`, path -> content.

    Attributes:
        url: its address.
        requests: method, path and headers of each request.
        cuts: after how many bytes the next responses break off; None: not.
        takes_ranges: whether it heeds the Range of a request.
        longest_part: how many bytes of a part it sends at most, however many are asked for; None: all.
        says_length: whether it says how long a body is.
        answers: path -> status and headers of an answer without a body.
        between: called before each answer with the number of requests so far.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cuts: list[int | None] = []
        self.takes_ranges = True
        self.longest_part: int | None = None
        self.says_length = True
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        self.between: Any = lambda number: None
        self.url = ""

    def link(self, path: str, sha256: str | None = None) -> str:
        """Returns what --checkpoint names a file by."""
        digest = hashlib.sha256(self.files.get(path, b"")).hexdigest() if sha256 is None else sha256
        return f"{self.url}{path}#sha256={digest}"

    def ranges(self) -> list[str]:
        """Lists the Range of each request so far; "": all."""
        return [headers.get("Range", "") for _, _, headers in self.requests]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers a request."""
        self.between(len(self.requests))
        path = unquote(urlsplit(request.path).path)
        self.requests.append((request.command, request.path, dict(request.headers)))
        if path in self.answers:
            status, headers = self.answers[path]
            self.send(request, status, headers)
        elif path in self.files:
            self.send_file(request, self.files[path], {})
        else:
            self.send(request, 404, {})

    def send_file(self, request: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str]) -> None:
        """Sends a file, or the part that is asked for."""
        start, status = 0, 200
        asked = request.headers.get("Range", "")
        if asked and self.takes_ranges:
            start, status = int(asked.removeprefix("bytes=").rstrip("-").partition("-")[0]), 206
            if start >= len(content):
                self.send(request, 416, {"Content-Range": f"bytes */{len(content)}"})
                return
            end = len(content) if self.longest_part is None else min(start + self.longest_part, len(content))
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
            content = content[:end]
        self.send(request, status, headers, content[start:])

    def send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        """Sends an answer, perhaps not all of it."""
        request.send_response(status)
        headers = {"Content-Type": "application/octet-stream", **headers}
        if self.says_length:
            headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            cut = self.cuts.pop(0) if self.cuts else None
            request.wfile.write(content[:cut])


class FakeHub(FileServer):
    """A hub with one model, owner/name; its `files` have names without a slash.

    Attributes:
        commit: the commit that every revision of `revisions` is.
        large: the files that are kept as LFS keeps them, behind a redirection.
        refused: status and X-Error-Code of every answer; None: it answers.
        spoiled: name -> what is sent in place of the file.
        cuts_of_files: after how many bytes the next large files break off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commit = "a" * 40
        self.revisions = {"main", "v1", "refs/pr/1"}
        self.large = {"model.safetensors"}
        self.refused: tuple[int, str] | None = None
        self.spoiled: dict[str, bytes] = {}
        self.cuts_of_files: list[int | None] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers a request as a hub does."""
        self.between(len(self.requests))
        self.requests.append((request.command, request.path, dict(request.headers)))
        path = urlsplit(request.path).path
        if self.refused is not None:
            status, code = self.refused
            self.send(request, status, {"X-Error-Code": code} if code else {})
        elif path.startswith("/api/models/owner/name"):
            revision = unquote(path.removeprefix("/api/models/owner/name").removeprefix("/revision/")) or "main"
            self._describe(request, revision)
        elif path.startswith("/owner/name/resolve/"):
            revision, _, name = path.removeprefix("/owner/name/resolve/").rpartition("/")
            self._resolve(request, unquote(revision), name)
        elif path.startswith("/cdn/"):
            name = path.removeprefix("/cdn/")
            self.cuts, self.cuts_of_files = self.cuts_of_files[:1], self.cuts_of_files[1:]
            self.send_file(request, self.spoiled.get(name, self.files[name]), {})
        else:
            self.send(request, 404, {"X-Error-Code": "RepoNotFound"})

    def _describe(self, request: BaseHTTPRequestHandler, revision: str) -> None:
        if revision not in {*self.revisions, self.commit}:
            self.send(request, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings: list[dict[str, Any]] = [
            {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            for name, content in self.files.items()
        ]
        for file in siblings:
            if (name := file["rfilename"]) in self.large:
                file["lfs"] = {"sha256": sha256(self.files[name]), "size": file["size"], "pointerSize": 134}
        said = {"id": "owner/name", "sha": self.commit, "siblings": siblings}
        self.send(request, 200, {"Content-Type": "application/json"}, json.dumps(said).encode())

    def _resolve(self, request: BaseHTTPRequestHandler, revision: str, name: str) -> None:
        if revision not in {*self.revisions, self.commit}:
            self.send(request, 404, {"X-Error-Code": "RevisionNotFound"})
        elif name not in self.files:
            self.send(request, 404, {"X-Error-Code": "EntryNotFound"})
        elif name in self.large:
            content = self.files[name]
            linked = {"X-Linked-ETag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            elsewhere = self.url.replace("127.0.0.1", "localhost")  # another host, for the library
            self.send(request, 302, {"X-Repo-Commit": self.commit, "Location": f"{elsewhere}/cdn/{name}", **linked})
        else:
            headers = {"X-Repo-Commit": self.commit, "ETag": f'"{git_sha1(self.files[name])}"'}
            self.send_file(request, self.files[name], headers)


def sha256(content: bytes) -> str:
    """Computes the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """Computes the digest by which git keeps a file."""
    return hashlib.sha1(f"blob {len(content)}".encode() + b"\0" + content).hexdigest()


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Runs a server in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
