"""A scan as a page that opens in a browser without Python, made without a browser."""

from __future__ import annotations

from pathlib import Path

from utils.files import write_text
from utils.viewer import viewpoints
from utils.viewer.choice import Choice
from utils.viewer.compose import compose
from utils.viewer.loading import prepare
from utils.viewer.records import Frames
from utils.viewer.saving import scene_page
from utils.viewer.scene import Scene
from utils.viewer.server import free_port, quiet_server


def save_html(frames: Frames, index: int, path: str | Path) -> None:
    """Saves a scan, as the viewer shows it at first, as a page of its own.

    Args:
        frames: where the scan comes from.
        index: its number.
        path: the file, which appears whole or not at all.

    Raises:
        UserError: the scan cannot be read, or viser is not installed.
        OSError: the file cannot be written.
    """
    frame, choice = prepare(frames.read(index), frames.num_classes), Choice(frame=index)
    shown = compose(frames, frame, choice)
    server = quiet_server("127.0.0.1", free_port("127.0.0.1", 0))  # it keeps the scene; nobody asks it
    try:
        Scene(server, frames.sensor).show(shown.clouds, shown.setting)
        start = server.initial_camera
        start.position, start.look_at = viewpoints.start(frames.sensor, wide=len(shown.clouds) > 1)
        page = scene_page(server, None, frames, frames.title(index), choice)
    finally:
        server.stop()
    write_text(path, page)
