"""The server of the page in the browser that shows scans: its address, and its life."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import warnings
from types import TracebackType

from utils.command.terminal import say
from utils.errors import UserError
from utils.viewer.page import Page
from utils.viewer.records import Frames

_PORTS = 100
"""So many ports are tried, from the given one on."""
_HERE = ("127.0.0.1", "localhost", "::1")


def view(frames: Frames, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serves the page until Ctrl-C; prints its address first.

    Args:
        frames: at least one scan.
        host: the address to listen on. Anything but this machine's own lets others look on; a line says so.
        port: the port; if it is taken, the next free one.

    Raises:
        UserError: viser is not installed, or the address cannot be listened on.
    """
    with Viewer(frames, host, port) as viewer:
        taken = "" if viewer.port == port or port == 0 else f" (port {port} is taken)"
        say(f"The scans are shown at {viewer.url}{taken}; Ctrl-C ends it")
        if host not in _HERE:
            say(f"anyone who reaches {host}, port {viewer.port}, of this machine can look at them, and use the page")
        threading.Event().wait()


class Viewer:
    """A page that is served from the moment the object exists until `stop`."""

    def __init__(self, frames: Frames, host: str = "127.0.0.1", port: int = 0) -> None:
        """Starts to serve; arguments as in `view`, port 0 for any free one.

        Raises:
            UserError: viser is not installed, or the address cannot be listened on.
        """
        port = free_port(host, port)
        self._server = quiet_server(host, port)
        self.host = host
        self.port: int = self._server.get_port()
        self._page = Page(self._server, frames)

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


def quiet_server(host: str, port: int):  # noqa: ANN201  (viser is imported inside)
    """Starts a server of viser that prints nothing, and shares nothing with the world.

    Raises:
        UserError: viser is not installed.
    """
    try:
        import rich
        import viser
    except ImportError as error:
        raise UserError(f"the viewer needs viser, which cannot be imported ({error}): pip install viser") from error

    class Server(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> str | None:
            """Shares nothing: viser would send the page to a server on the internet, for whoever asks."""

    # Failed handshakes and browsers that are gone are no news.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    rich.get_console().quiet = True
    return Server(host, port, label="2DPASS", verbose=False)


def free_port(host: str, port: int) -> int:
    """Returns the first free port from the given one on.

    Raises:
        UserError: there is none, or this machine does not have that address.
    """
    if not 0 <= port < 1 << 16:
        raise UserError(f"port {port}: must be 0 to 65535 (0: any free one)")
    reason: OSError | None = None
    for candidate in range(port, min(port + _PORTS, 1 << 16)):
        try:
            _listen(host, candidate)
            return candidate
        except OSError as error:
            reason = error
            if error.errno != errno.EADDRINUSE:
                break
    raise UserError(f"host {host}, port {port}: cannot be listened on ({reason}); choose others")


def _listen(host: str, port: int) -> None:
    """Listens at all addresses of a host for a moment, as the server would."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen()
