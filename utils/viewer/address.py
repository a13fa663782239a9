"""The address at which a page is served, and who may look at it there."""

from __future__ import annotations

import errno
import logging
import os
import socket
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from utils.errors import UserError

if TYPE_CHECKING:
    import viser

HERE = ("127.0.0.1", "localhost", "::1")
"""The addresses that only this machine reaches."""

_PORTS = 100
"""So many ports are tried, from the given one on."""


def quiet_server(host: str, port: int) -> viser.ViserServer:
    """Starts a server of viser that prints nothing, and shows the page to nobody but browsers that opened it from here.

    Args:
        host: the address to listen on.
        port: a port that is free; 0: any.

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
            """Shares nothing: viser would lead the whole internet to the page, for any browser that asks for it."""

    # Failed handshakes and browsers that are gone are no news.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    rich.get_console().quiet = True
    server = Server(host, port, label="2DPASS", verbose=False)
    _refuse_other_sites(server, only_here=host in HERE)
    return server


def _refuse_other_sites(server: viser.ViserServer, only_here: bool) -> None:
    """Closes connections that a page of another site has opened, in a browser of someone who may look at this one.

    Browsers let any page open a websocket to any address, this machine's own included, and say from where it is.
    """
    web = server._websock_server

    async def check(client: Any) -> None:
        connection = web._live_connections[client.client_id]
        headers = connection.request.headers if connection.request is not None else {}
        if not same_site(headers.get("Origin"), headers.get("Host"), only_here):
            await connection.close(1008, "from another site")

    web._client_connect_cb.insert(0, check)


def same_site(origin: str | None, host: str | None, only_here: bool) -> bool:
    """Returns whether a connection comes from our own page.

    Args:
        origin: the header that says which page has opened the connection; a program that is no browser has none.
        host: the header with the name under which the server was found.
        only_here: whether the server listens on this machine's own address only. A name that a foreign server has
            pointed there is then another site as well.
    """
    if origin is None:
        return True
    if urlsplit(origin).netloc != host:
        return False
    return not only_here or urlsplit(f"//{host}").hostname in HERE


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
