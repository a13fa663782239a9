"""The page: what is chosen becomes what is shown, on one thread, however many browsers look at it."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import UserError, one_line
from utils.text import printable
from utils.viewer.choice import Choice
from utils.viewer.coloring import Look, color, colorings, labellings, pick, points_of, visible
from utils.viewer.loading import Frame, Loader
from utils.viewer.palette import class_colors
from utils.viewer.panel import Panel
from utils.viewer.records import Frames
from utils.viewer.scene import Cloud, Scene, Setting, axes

if TYPE_CHECKING:
    import viser

_AHEAD = 3
"""Frames that are read ahead."""


class Page:
    """What the page shows, and the thread that shows it.

    All browsers share one `Choice`: whoever changes something changes it for all. The point of view is each browser's.
    """

    def __init__(self, server: viser.ViserServer, frames: Frames) -> None:
        """Builds the page and shows the first frame.

        Args:
            server: the server of the page.
            frames: at least one scan.
        """
        self._frames = frames
        self._server = server
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._wake.set()  # for the first frame
        self._closed = False
        self._choice = Choice()
        self._drawn: tuple[Choice, Frame | str | None] | None = None
        self._due = 0.0
        self._loader = Loader(frames, self._wake.set)
        ahead, _ = axes(frames.sensor)
        server.initial_camera.position = -16 * ahead + np.array([0.0, 0.0, 11.0])
        server.initial_camera.look_at = 6 * ahead
        self._scene = Scene(server, frames.sensor)
        self._panel = Panel(server, frames, self._choice, self.change)
        self._bind()
        self._thread = threading.Thread(target=self._run, daemon=True, name="viewer-page")
        self._thread.start()

    def change(self, **choices: Any) -> None:
        """Chooses something else; arguments: attributes of `Choice`. Returns at once."""
        with self._lock:
            if "frame" in choices:
                choices["frame"] = min(max(int(choices["frame"]), 0), len(self._frames) - 1)
            self._choice = replace(self._choice, **choices)
        self._wake.set()

    def close(self) -> None:
        """Ends the threads of the page."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=1.0)
        self._loader.close()

    def _bind(self) -> None:
        async def play(_: Any) -> None:
            at_end = self._choice.frame >= len(self._frames) - 1
            again = {"frame": 0} if at_end and not self._choice.playing else {}
            self.change(playing=not self._choice.playing, **again)

        async def step(event: Any) -> None:
            self.change(frame=self._choice.frame + (1 if event.target.value == "Next" else -1), playing=False)

        self._panel.play.on_click(play)
        self._panel.step.on_click(step)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(max(self._due - time.monotonic(), 0.01) if self._choice.playing else None)
            self._wake.clear()
            if not self._closed:
                self._advance()
                self._draw(self._choice)

    def _advance(self) -> None:
        """Goes on to the next frame if it is time to; a frame that is still read is waited for."""
        with self._lock:
            choice = self._choice
            if not choice.playing or time.monotonic() < self._due:
                return
            shown = self._drawn is not None and self._drawn[0].frame == choice.frame and self._drawn[1] is not None
            if not shown:
                return
            if choice.frame + 1 >= len(self._frames):
                self._choice = replace(choice, playing=False)
                return
            self._choice = replace(choice, frame=choice.frame + 1)
            self._due = time.monotonic() + 1 / choice.speed

    def _draw(self, choice: Choice) -> None:
        near = [choice.frame + ahead for ahead in range(1, _AHEAD + 1)] + [choice.frame - 1]
        future = self._loader.ask(choice.frame, near)
        content: Frame | str | None = None
        if future.done():
            try:
                content = future.result()
            except Exception as error:  # whatever one frame has, the others can be looked at
                content = _line(error)
                self._loader.drop(choice.frame)
        if self._drawn == (choice, content):
            return
        self._drawn = (choice, content)
        try:
            self._show(choice, content)
        except Exception as error:  # columns that do not fit each other, labels without a name
            self._show(choice, _line(error))

    def _show(self, choice: Choice, content: Frame | str | None) -> None:
        panel = self._panel
        panel.frame.value = choice.frame
        panel.play.label = "Pause" if choice.playing else "Play"
        heading = _text(self._frames.title(choice.frame))
        self._server.gui.configure_theme(
            dark_mode=choice.ground.name == "dark", show_logo=False, show_share_button=False, control_width="large"
        )
        if content is None:
            panel.title.content = f"<p style='margin: 0 0.8em 0.6em'>{heading}<br>is read</p>"
        elif isinstance(content, str):
            panel.title.content = (
                f"<p style='margin: 0 0.8em 0.6em'>{heading}<br><b style='color: #e03131'>{_text(content)}</b></p>"
            )
            self._scene.show([], Setting(choice.ground, choice.point_size, choice.rings, 0.0))
        else:
            panel.title.content = f"<p style='margin: 0 0.8em 0.6em'>{heading}<br>{len(content.scan.xyz):,} points</p>"
            self._show_frame(choice, content)

    def _show_frame(self, choice: Choice, frame: Frame) -> None:
        scan, panel = frame.scan, self._panel
        names = list(scan.predictions)
        first = pick(choice.prediction, names)
        both = choice.side_by_side and len(names) > 1
        look = Look(pick(choice.coloring, colorings(scan)) or "", choice.hidden, choice.marked, choice.ground)
        shown: Sequence[str | None] = names[:2] if both else [first]
        clouds = [self._cloud(frame, name, look, title=name if both else "") for name in shown]
        poses = [camera.pose for row in scan.cameras for camera in row if camera.pose is not None]
        self._scene.show(clouds, Setting(choice.ground, choice.point_size, choice.rings, frame.floor, poses))

        panel.coloring.offer(colorings(scan), look.coloring)
        panel.prediction.offer(names, first, least=2)
        panel.both.visible = len(names) > 1
        ids = labellings(scan, shown[0], look.coloring)
        counts = frame.counts.get(shown[0] or "")
        panel.classes.show(
            class_colors(choice.ground, self._frames.colors),
            points_of(ids[0], len(self._frames.names)) if ids else None,
            None if counts is None else counts.iou,
            choice.marked,
        )
        panel.classes.set(choice.hidden)

    def _cloud(self, frame: Frame, name: str | None, look: Look, title: str | None) -> Cloud:
        scan = frame.scan
        kept = visible(scan, name, look, len(self._frames.names))
        rgb = color(scan, name, look, self._frames.colors, self._frames.num_classes)
        xyz = (scan.xyz[kept] - frame.origin).astype(np.float32)
        return Cloud(xyz, rgb[kept], printable(title or ""))


def _line(error: Exception) -> str:
    """Returns the line about a frame that cannot be shown."""
    if isinstance(error, UserError):
        return one_line(error)
    return printable(f"cannot be shown: {type(error).__name__}: {error}")


def _text(text: str) -> str:
    """Returns a text from a file as HTML that shows just this text."""
    return html.escape(printable(text))
