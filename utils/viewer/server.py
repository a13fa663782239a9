"""The server of the page in the browser that shows scans: its address, and its life."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from utils.command.stopping import running
from utils.command.terminal import say
from utils.text import printable
from utils.viewer.address import HERE, free_port, quiet_server
from utils.viewer.page import Page
from utils.viewer.records import Frames

_CHECK = 0.2
"""Seconds between two looks at whether a signal has come."""


def view(frames: Frames, host: str = "127.0.0.1", port: int = 8080, start: int = 0) -> None:
    """Serves the page until Ctrl-C; prints its address first.

    Args:
        frames: at least one scan.
        host: the address to listen on. Anything but this machine's own lets others look on; a line says so.
        port: the port; if it is taken, the next free one.
        start: the frame that is shown first.

    Raises:
        UserError: viser is not installed, or the address cannot be listened on.
    """
    with running("the viewer has ended"), Viewer(frames, host, port, start) as viewer:
        taken = "" if viewer.port == port or port == 0 else f" (port {port} is taken)"
        say(f"The scans are shown at {viewer.url}{taken}; Ctrl-C ends it")
        if host in HERE and (server := _reached_by_ssh()):
            there = viewer.url.removeprefix("http://")
            say(f"from another machine: run ssh -L {viewer.port}:{there} {server} there, and open the same address")
        if host not in HERE:
            say(f"anyone who reaches {host}, port {viewer.port}, of this machine can look at them, and use the page")
        while True:  # a signal that comes just before a wait without end would be handled after it
            time.sleep(_CHECK)


def _reached_by_ssh() -> str | None:
    """Returns this machine's address in the SSH session that the program runs in; None: it runs in none."""
    fields = os.environ.get("SSH_CONNECTION", "").split()  # the client's address and port, the server's
    return printable(fields[2]) if len(fields) == 4 else None


class Viewer:
    """A page that is served from the moment the object exists until `stop`."""

    def __init__(self, frames: Frames, host: str = "127.0.0.1", port: int = 0, start: int = 0) -> None:
        """Starts to serve; arguments as in `view`, port 0 for any free one.

        Raises:
            UserError: viser is not installed, or the address cannot be listened on.
        """
        port = free_port(host, port)
        self._server = quiet_server(host, port)
        self.host = host
        self.port: int = self._server.get_port()
        self._page = Page(self._server, frames, start)

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def stop(self) -> None:
        """Ends the page, at the latest after two seconds; a browser that does not answer is left alone."""
        self._page.close()
        stopping = threading.Thread(target=self._server.stop, daemon=True)
        stopping.start()
        stopping.join(timeout=1.0)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
