"""Pictures of the page, and scenes as files that open in a browser without Python."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.files import write_text
from utils.text import printable, shortened
from utils.viewer import legend, viewpoints
from utils.viewer.address import quiet_server
from utils.viewer.choice import Choice
from utils.viewer.coloring import AGE
from utils.viewer.compose import Shown, classes_there, cloud_by_age, compose
from utils.viewer.loading import Frame, prepare
from utils.viewer.palette import Ground, class_colors
from utils.viewer.records import Frames
from utils.viewer.scene import Cloud, Scene

if TYPE_CHECKING:
    import viser

_PATIENCE = 30.0
"""Seconds that a browser has to draw a picture."""


def picture(client: viser.ClientHandle, ground: Ground) -> bytes:
    """Returns what a browser shows, without the controls, as a PNG.

    Raises:
        Exception: the browser is gone, or does not draw.
    """
    camera = client.camera
    drawn = client.get_render(camera.image_height, camera.image_width, transport_format="png", timeout=_PATIENCE)
    return png(drawn, ground)


def png(drawn: NDArray[np.uint8], ground: Ground) -> bytes:
    """Returns an (H, W, 4) uint8 RGBA image on a ground as a PNG."""
    front = Image.fromarray(np.asarray(drawn, dtype=np.uint8), "RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", front.size, (*ground.color, 255)), front)
    file = io.BytesIO()
    whole.convert("RGB").save(file, "PNG")
    return file.getvalue()


def scene_page(
    server: viser.ViserServer, client: viser.ClientHandle, frames: Frames, title: str, choice: Choice, frame: Frame
) -> str:
    """Returns what the page shows as a page of its own, which needs neither Python nor a network.

    Args:
        server: the server of the page.
        client: the browser whose point of view the page has at first.
        frames: where the scans come from.
        title: title of what is shown.
        choice: what is chosen on the page.
        frame: the frame that it shows.
    """
    start = server.initial_camera
    before = start.position, start.look_at
    start.position, start.look_at = client.camera.position, client.camera.look_at
    scene = server.get_scene_serializer().as_html(dark_mode=choice.ground.name == "dark")
    start.position, start.look_at = before  # after the end of the recording
    shown = compose(frames, frame, choice)
    key = _key(frames, frame, shown, classes_there(frames, frame, shown))
    return standalone(scene, title, key, choice.ground)


def save_html(
    frames: Frames, indices: Sequence[int], path: str | Path, choice: Choice | None = None, seconds: float = 1.0
) -> None:
    """Writes frames as a page that opens in a browser without Python, whole or not at all.

    Where there are points of past scans, the points stand there a second time, coloured by age.

    Args:
        frames: where the scans come from.
        indices: one frame, or several that follow each other in time; at least one.
        path: the .html to write; its folder is made.
        choice: how they are shown; None: as the viewer shows them at first.
        seconds: time between two frames.

    Raises:
        UserError: a frame cannot be read, or viser is not installed.
        OSError: the file cannot be written; the error names `path`.
    """
    choice, several = choice or Choice(), len(indices) > 1
    title = f"{len(indices)} scans" if several else frames.title(indices[0])
    server = quiet_server("127.0.0.1", 0)  # viser serialises the scene of a server only
    try:
        scene, recording, key = Scene(server, frames.sensor), None, ""
        there = np.zeros(len(frames.names), dtype=bool)
        for index in indices:
            frame = prepare(frames.read(index), frames.num_classes)
            shown = compose(frames, frame, choice)
            there |= classes_there(frames, frame, shown)
            if recording is not None:
                recording.insert_sleep(seconds)
            clouds, ages = _beside_ages(frames, frame, shown)
            scene.show(_titled(clouds, frames.title(index)) if several else clouds, shown.setting)
            if recording is None:
                camera = server.initial_camera
                camera.position, camera.look_at = viewpoints.start(frames.sensor, wide=len(clouds) > 1)
                recording = server.get_scene_serializer()
            key = _key(frames, frame, shown, there) + ages
        assert recording is not None
        page = recording.as_html(dark_mode=choice.ground.name == "dark")
    finally:
        server.stop()
    write_text(path, standalone(page, title, key, choice.ground))


def _beside_ages(frames: Frames, frame: Frame, shown: Shown) -> tuple[Sequence[Cloud], str]:
    """Returns the clouds of a frame, with that by age beside them where there are past scans, and the key of it."""
    by_age = cloud_by_age(frames, frame, shown)
    if by_age is None:
        return shown.clouds, ""
    look = shown.look
    named = [replace(cloud, title=cloud.title or look.coloring) for cloud in shown.clouds]
    key = legend.key(frame.scan, shown.names[0], AGE, look.ground, frames.num_classes)
    return [*named, by_age], legend.note([AGE]) + key


def _titled(clouds: Sequence[Cloud], title: str) -> list[Cloud]:
    line = shortened(printable(title), 100)
    return [replace(cloud, title=f"{line} {cloud.title}".strip()) for cloud in clouds]


def _key(frames: Frames, frame: Frame, shown: Shown, there: NDArray[np.bool_]) -> str:
    """Returns the HTML that says what the colours mean."""
    look = shown.look
    key = legend.key(frame.scan, shown.names[0], look.coloring, look.ground, frames.num_classes)
    if key:
        return key
    colors = class_colors(look.ground, frames.colors)
    return legend.classes([name for name, has in zip(frames.names, there, strict=True) if has], colors[there])


def standalone(scene: str, title: str, key: str, ground: Ground) -> str:
    """Returns the page of a serialised scene with a title and the meaning of its colours.

    Args:
        scene: the page that viser writes.
        title: title of the page, as it is in a file.
        key: HTML, the meaning of the colours.
        ground: the ground of the page.
    """
    red, green, blue = ground.color
    ink = "#ddd" if ground.name == "dark" else "#222"
    # Above the bar with which viser plays several frames; the mouse turns the scene also here.
    box = (
        f'<div style="position: fixed; left: 12px; bottom: 60px; z-index: 10; pointer-events: none; min-width: 12em; '
        f"padding: 0.6em 0.9em; border-radius: 4px; font: 13px sans-serif; line-height: 1.5; color: {ink}; "
        f'background: rgba({red}, {green}, {blue}, 0.8)"><b>{legend.text(title)}</b><br>{key}</div>'
    )
    head, _, rest = scene.rpartition("</body>")
    if not head:
        raise ValueError("the page of a scene has no end")
    head = head.replace("<title>Viser</title>", f"<title>{legend.text(title)}</title>", 1)
    return f"{head}{box}</body>{rest}"
