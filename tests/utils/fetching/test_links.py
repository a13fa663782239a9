"""Checkpoints behind links: what comes is what was asked for, however the server and the connection behave."""

from __future__ import annotations

import errno
import multiprocessing
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.file_server import FileServer, serving, sha256
from tests.support.full_disk import files_of_at_most
from utils.errors import UserError
from utils.fetching import transfer
from utils.results.fetching import fetch

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer, "_PAUSES", (0.0, 0.0))
    with serving(FileServer()) as running:
        running.files["/best.ckpt"] = CONTENT
        yield running


def kept(tmp_path: Path) -> set[str]:
    """The names of the files in the cache."""
    return {path.name for path in (tmp_path / "cache" / "2dpass" / "checkpoints").iterdir()}


def refusal(reference: str) -> str:
    """The line about a reference that cannot be fetched."""
    with pytest.raises(UserError) as caught:
        fetch(reference, lambda line: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_comes_once_and_then_from_the_cache(server, tmp_path) -> None:
    notes: list[str] = []
    link = server.link("/best.ckpt")
    path = fetch(link.replace("sha256", "SHA256"), notes.append)
    assert path.read_bytes() == CONTENT and kept(tmp_path) == {f"sha256-{sha256(CONTENT)}"}
    assert notes == [f"fetching {server.url}/best.ckpt into {path}"]
    server.files.clear()
    assert fetch(link, notes.append) == path and len(notes) == 1 and len(server.requests) == 1
    assert fetch(f"https://elsewhere.invalid/other#sha256={sha256(CONTENT).upper()}") == path  # the digest counts


def test_a_damaged_file_of_the_cache_is_fetched_again(server, tmp_path) -> None:
    notes: list[str] = []
    path = fetch(server.link("/best.ckpt"), notes.append)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert fetch(server.link("/best.ckpt"), notes.append).read_bytes() == CONTENT
    assert "is damaged" in notes[1]


def test_another_file_is_refused_and_not_kept(server, tmp_path) -> None:
    line = refusal(server.link("/best.ckpt", "0" * 64))
    assert "refused" in line and sha256(CONTENT) in line and "0" * 64 in line
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_cut_connection_is_taken_up_again(server, monkeypatch, takes_ranges) -> None:
    monkeypatch.setattr(transfer, "_WORTH", 100)
    server.takes_ranges = takes_ranges
    server.cuts = [1000, 2000, 3000, 4000]  # more often than attempts without progress are allowed
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges()[:3] == ["", "bytes=1000-", "bytes=3000-" if takes_ranges else "bytes=2000-"]


def test_a_command_goes_on_where_an_earlier_one_was_cut(server, tmp_path) -> None:
    server.cuts = [5000, 0, 0, 0, 0]
    line = refusal(server.link("/best.ckpt"))
    assert "lost again and again" in line and "the same command again: it goes on" in line
    asked = len(server.requests)
    server.cuts = []
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges()[asked:] == ["bytes=5000-"]
    assert kept(tmp_path) == {f"sha256-{sha256(CONTENT)}"}


def test_a_server_that_ignores_ranges_and_cuts_does_not_hold_for_ever(server, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "_WORTH", 100)
    server.takes_ranges, server.cuts = False, [5000] * 50
    assert "lost again and again" in refusal(server.link("/best.ckpt"))
    assert len(server.requests) == 3


def test_parts_of_two_files_are_not_joined(server) -> None:
    """The file changes between two attempts: the first part, of the old one, is thrown away."""
    link = server.link("/best.ckpt")
    old = bytes(len(CONTENT))
    server.files["/best.ckpt"], server.cuts = old, [5000]

    def change(number: int) -> None:
        if number == 1:
            server.files["/best.ckpt"] = CONTENT

    server.between = change
    notes: list[str] = []
    assert fetch(link, notes.append).read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=5000-", ""] and "do not belong together" in notes[-1]


@pytest.mark.parametrize("more", [b"", b"too long"])
def test_a_part_that_is_all_of_it_or_more(server, tmp_path, more) -> None:
    partial = tmp_path / "cache" / "2dpass" / "checkpoints" / f".sha256-{sha256(CONTENT)}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT + more)
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges() == [f"bytes={len(CONTENT + more)}-", ""][: 2 if more else 1]


def test_a_body_without_a_length(server) -> None:
    server.says_length = False
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT


@pytest.mark.parametrize("says_length", [True, False])
def test_what_is_too_large_for_a_checkpoint_ends(server, tmp_path, monkeypatch, says_length) -> None:
    monkeypatch.setattr(transfer, "LARGEST", 9999)
    server.says_length = says_length
    assert "larger than" in refusal(server.link("/best.ckpt"))
    assert kept(tmp_path) == set()


def test_a_length_that_the_disk_has_not_is_refused_at_once(server, monkeypatch) -> None:
    server.answers["/best.ckpt"] = (200, {"Content-Length": str(8 << 30)})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    line = refusal(server.link("/best.ckpt"))
    assert "8589.9 MB more, and 1.0 are free" in line and "XDG_CACHE_HOME" in line


def test_a_full_disk_is_said_and_the_part_is_kept(server, tmp_path) -> None:
    with files_of_at_most(4000):
        line = refusal(server.link("/best.ckpt"))
    assert "cannot be written (File too large)" in line and "XDG_CACHE_HOME" in line
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=4000-"]


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    line = refusal(server.link("/best.ckpt"))
    assert str(tmp_path / "file") in line and "XDG_CACHE_HOME" in line and not server.requests


def test_a_silent_server_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer, "_SILENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = refusal(f"http://127.0.0.1:{listening.getsockname()[1]}/x#sha256={'0' * 64}")
    assert "cannot be reached (no answer for" in line


def test_where_nobody_listens_it_is_said_at_once(server, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "_PAUSES", (1000.0,))  # would be noticed
    line = refusal(f"http://127.0.0.1:9/best.ckpt#sha256={'0' * 64}")
    assert line.startswith("http://127.0.0.1:9/best.ckpt: cannot be reached (Connection refused)")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {}, "answers with 404, it has no such file"),
        (403, {}, "answers with 403, it wants a login"),
        (503, {}, "answers with 503; try again later"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "a web page, not a file"),
        (302, {"Location": "/best.ckpt"}, "answers with 302"),  # in a circle
        (302, {"Location": "http://example.org/x?key=SECRET"}, "leads to http://example.org/x?..., which is not encr"),
        (302, {"Location": "file:///etc/passwd"}, "answers with 302"),
    ],
)
def test_answers_that_are_no_file(server, tmp_path, status, headers, words) -> None:
    server.answers["/best.ckpt"] = (status, headers)
    line = refusal(server.link("/best.ckpt"))
    assert words in line and "SECRET" not in line and kept(tmp_path) == set()


def test_a_redirection_is_followed_without_the_password(server, tmp_path) -> None:
    server.files["/there"] = CONTENT
    server.answers["/best.ckpt"] = (302, {"Location": "/there"})
    link = server.link("/there").replace("/there", "/best.ckpt?token=SECRET").replace("//", "//me:SEC%20RET@")
    notes: list[str] = []
    assert fetch(link, notes.append).read_bytes() == CONTENT
    assert [headers.get("Authorization") for _, _, headers in server.requests] == ["Basic bWU6U0VDIFJFVA==", None]
    assert server.requests[0][1] == "/best.ckpt?token=SECRET" and "SEC" not in "".join(notes)
    server.answers["/best.ckpt"] = (401, {})
    assert "SEC" not in refusal(link.replace(sha256(CONTENT), "1" * 64))


def _fetch(link: str, done: multiprocessing.Queue) -> None:
    done.put(fetch(link, lambda line: None).read_bytes() == CONTENT)


def test_two_processes_download_once(server) -> None:
    ready = multiprocessing.get_context("fork")
    done = ready.Queue()
    both = [ready.Process(target=_fetch, args=(server.link("/best.ckpt"), done)) for _ in range(2)]
    for process in both:
        process.start()
    assert [done.get(timeout=30) for _ in both] == [True, True]
    for process in both:
        process.join()
    assert len(server.requests) == 1


def test_two_threads_download_once(server) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(server.link("/best.ckpt"), lambda line: None), range(2)))
    assert paths[0] == paths[1] and len(server.requests) == 1


def test_without_locks_each_process_writes_a_file_of_its_own(server, tmp_path, monkeypatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("utils.locks.fcntl.lockf", refuse)
    folder = tmp_path / "cache" / "2dpass" / "checkpoints"
    folder.mkdir(parents=True)
    of_another = folder / f".sha256-{sha256(CONTENT)}.partial"
    of_another.write_bytes(b"x" * 100)
    server.cuts = [5000, 0, 0]
    assert "lost again and again" in refusal(server.link("/best.ckpt"))
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert of_another.read_bytes() == b"x" * 100 and len(kept(tmp_path) - {".sha256-" + sha256(CONTENT) + ".lock"}) == 2


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_part_that_is_no_ordinary_file_is_named(server, tmp_path, kind) -> None:
    partial = tmp_path / "cache" / "2dpass" / "checkpoints" / f".sha256-{sha256(CONTENT)}.partial"
    partial.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(partial)
    else:
        partial.symlink_to("/dev/null")
    assert f"{partial}: not an ordinary file; remove it" in refusal(server.link("/best.ckpt"))
    assert not server.requests


def test_a_read_only_disk_is_named(server, monkeypatch) -> None:
    """There, also removing a file that does not exist fails."""

    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    fetch(server.link("/best.ckpt"), print)  # makes the folder
    for name in ("open", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("utils.locks.os.open", refuse)
    line = refusal(server.link("/other", "0" * 64))
    assert "cannot be written (Read-only file system)" in line and "XDG_CACHE_HOME" in line


def test_a_server_that_sends_less_than_the_part_is_asked_again(server) -> None:
    server.cuts, server.longest_part = [5000], 3000
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=5000-", "bytes=8000-"]


@pytest.mark.parametrize("said", ["bytes 7-9/10240", "bytes */10240", "bytes 5000", ""])
def test_another_part_than_was_asked_for_is_not_taken(server, said) -> None:
    """Such an answer is no file either, and the next attempt asks for all of it."""
    server.cuts = [5000]

    def answer(number: int) -> None:
        server.answers = {"/best.ckpt": (206, {"Content-Range": said})} if number == 1 else {}

    server.between = answer
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT
    assert server.ranges() == ["", "bytes=5000-", ""]


def test_a_link_of_this_machine_does_not_leave_it_by_a_proxy(server, monkeypatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch(server.link("/best.ckpt"), print).read_bytes() == CONTENT


def test_a_proxy_that_refuses_is_told_from_a_server(server, monkeypatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", server.url)  # which knows no CONNECT
    line = refusal(f"https://host.invalid/x#sha256={'0' * 64}")
    assert "Tunnel connection failed: 501" in line and "proxy" in line
