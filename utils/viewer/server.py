"""The page in the browser that shows scans."""

from __future__ import annotations

from utils.viewer.records import Frames


def view(frames: Frames, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serves the page until Ctrl-C; prints its address first.

    Args:
        frames: at least one scan.
        host: the address to listen on. Anything but this machine's own lets others look on; a line says so.
        port: the port; if it is taken, the next free one.
    """
    raise NotImplementedError
