"""Pictures of the page, and scenes as files that open in a browser without Python."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.viewer import legend
from utils.viewer.choice import Choice
from utils.viewer.palette import Ground, class_colors
from utils.viewer.records import Frames

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
    server: viser.ViserServer, client: viser.ClientHandle | None, frames: Frames, title: str, choice: Choice
) -> str:
    """Returns what the page shows as a page of its own, which needs neither Python nor a network.

    Args:
        server: the server of the page.
        client: the browser whose point of view the page has at first; None: that of a new browser.
        frames: where the scans come from.
        title: title of what is shown.
        choice: what is chosen on the page.
    """
    start = server.initial_camera
    before = start.position, start.look_at
    if client is not None:
        start.position, start.look_at = client.camera.position, client.camera.look_at
    scene = server.get_scene_serializer().as_html(dark_mode=choice.ground.name == "dark")
    start.position, start.look_at = before  # after the end of the recording
    colors = class_colors(choice.ground, frames.colors)
    body = f"<b>{legend.text(title)}</b><br>{legend.classes(frames.names, colors)}"
    return standalone(scene, legend.text(title), body, choice.ground)


def standalone(scene: str, title: str, body: str, ground: Ground) -> str:
    """Returns the page of a serialised scene with a title and a legend.

    Args:
        scene: the page that viser writes.
        title: HTML for the title of the window.
        body: HTML of the legend.
        ground: the ground of the page.
    """
    red, green, blue = ground.color
    ink = "#ddd" if ground.name == "dark" else "#222"
    box = (
        f'<div style="position: fixed; left: 12px; bottom: 12px; z-index: 10; max-height: 92vh; overflow: auto; '
        f"padding: 0.6em 0.9em; border-radius: 4px; font: 13px sans-serif; line-height: 1.5; color: {ink}; "
        f'background: rgba({red}, {green}, {blue}, 0.8)">{body}</div>'
    )
    head, _, rest = scene.rpartition("</body>")
    if not head:
        raise ValueError("the page of a scene has no end")
    head = head.replace("<title>Viser</title>", f"<title>{title}</title>", 1)
    return f"{head}{box}</body>{rest}"
