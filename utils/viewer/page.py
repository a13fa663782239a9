"""The page: what is chosen becomes what is shown, on one thread, however many browsers look at it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import UserError, one_line
from utils.text import printable
from utils.viewer import legend, viewpoints
from utils.viewer.actions import Actions
from utils.viewer.choice import Choice
from utils.viewer.coloring import colorings, pick
from utils.viewer.compose import Shown, camera_picture, cameras, compose
from utils.viewer.judging import Judge
from utils.viewer.loading import Frame, Loader
from utils.viewer.palette import class_colors
from utils.viewer.panel import POINT_SIZES, SPEEDS, Panel
from utils.viewer.records import Frames
from utils.viewer.scene import Scene, Setting

if TYPE_CHECKING:
    import viser

_AHEAD = 3
"""Frames that are read ahead."""


class Page:
    """The page that browsers look at, and the thread that changes it.

    All browsers share one `Choice`: whoever changes something changes it for all. The point of view is each browser's.
    """

    def __init__(self, server: viser.ViserServer, frames: Frames, start: int = 0) -> None:
        """Builds the page and shows a frame.

        Args:
            server: the server of the page.
            frames: at least one scan.
            start: the frame that is shown first.
        """
        self._frames = frames
        self._server = server
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._wake.set()  # for the first frame
        self._closed = False
        self._choice = Choice(frame=start)
        self._drawn: tuple[Choice, Frame | str | None] | None = None
        self._failed: tuple[int, str] | None = None
        self._due = 0.0
        self._wide = False
        self._loader = Loader(frames, self._wake.set)
        self._judge = Judge(frames, self._loader, self._wake.set)
        server.initial_camera.position, server.initial_camera.look_at = viewpoints.start(frames.sensor)
        self._scene = Scene(server, frames.sensor)
        self._panel = Panel(server, frames, self._choice, self.change, self.switch)
        self._actions = Actions(self, self._panel, self._judge)
        self._thread = threading.Thread(target=self._run, daemon=True, name="viewer-page")
        self._thread.start()

    @property
    def server(self) -> viser.ViserServer:
        """The server of the page."""
        return self._server

    @property
    def frames(self) -> Frames:
        """The frames that can be shown."""
        return self._frames

    @property
    def choice(self) -> Choice:
        """The choice that counts now."""
        return self._choice

    @property
    def drawn(self) -> tuple[Choice, Frame | None]:
        """The choice for which the page was drawn the last time, and the frame that it shows, if it shows one."""
        choice, content = self._drawn or (self._choice, None)
        return choice, content if isinstance(content, Frame) else None

    def change(self, **choices: Any) -> None:
        """Chooses something else; arguments: attributes of `Choice`. Returns at once.

        What someone types may lie outside of what the controls offer: the nearest that they offer is taken.
        """
        limits = {"frame": (0, len(self._frames) - 1), "speed": SPEEDS, "point_size": POINT_SIZES}
        for name in limits.keys() & choices.keys():
            low, high = limits[name]
            choices[name] = min(max(choices[name], low), high)
        with self._lock:
            self._choice = replace(self._choice, **choices)
        self._wake.set()

    def switch(self, ids: Iterable[int], on: bool) -> None:
        """Switches classes on or off, by their learning ids. Returns at once."""
        with self._lock:
            hidden = self._choice.hidden - set(ids) if on else self._choice.hidden | set(ids)
            self._choice = replace(self._choice, hidden=hidden)
        self._wake.set()

    def close(self) -> None:
        """Ends the threads of the page."""
        self._closed = True
        self._judge.close()
        self._wake.set()
        self._thread.join(timeout=1.0)
        self._loader.close()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(max(self._due - time.monotonic(), 0.01) if self._choice.playing else None)
            self._wake.clear()
            if self._closed:
                break
            try:
                self._advance()
                self._draw(self._choice)
                self._actions.show_judging()
            except Exception:  # a fault of ours: to be seen, and no reason to leave the page dead
                traceback.print_exc()

    def _advance(self) -> None:
        """Goes on to the next frame if it is time to; a frame that is still read is waited for."""
        with self._lock:
            choice = self._choice
            if not choice.playing or time.monotonic() < self._due:
                return
            if self._drawn is None or self._drawn[0].frame != choice.frame or self._drawn[1] is None:
                return
            if choice.frame + 1 >= len(self._frames):
                self._choice = replace(choice, playing=False)
                return
            self._choice = replace(choice, frame=choice.frame + 1)
            self._due = time.monotonic() + 1 / choice.speed

    def _draw(self, choice: Choice) -> None:
        content = self._content(choice.frame)
        if self._drawn is not None and self._drawn[0] == choice and self._drawn[1] is content:
            return
        try:
            self._show(choice, content)
        except Exception as error:  # columns that do not fit each other, labels without a name
            self._show(choice, _line(error))
        self._drawn = (choice, content)

    def _content(self, index: int) -> Frame | str | None:
        """Returns a frame, or why it cannot be read; None while it is read. It is read again when one comes back."""
        if self._failed is not None and self._failed[0] == index:
            return self._failed[1]
        self._failed = None
        near = [index + ahead for ahead in range(1, _AHEAD + 1)] + [index - 1]
        future = self._loader.ask(index, near)
        if not future.done():
            return None
        try:
            return future.result()
        except Exception as error:  # whatever one frame has, the others can be looked at
            self._loader.drop(index)
            self._failed = (index, _line(error))
            return self._failed[1]

    def _show(self, choice: Choice, content: Frame | str | None) -> None:
        panel = self._panel
        panel.show_choice(self._choice)  # not what is drawn: someone may have moved a control since
        title = self._frames.title(choice.frame)
        if isinstance(content, Frame):
            self._show_frame(choice, content, title)
        elif content is None:
            panel.title.content = legend.heading(title)
        else:
            panel.title.content = legend.heading(title, error=content)
            self._scene.show([], Setting(choice.ground, choice.point_size, choice.rings, 0.0))
            panel.show_nothing()

    def _show_frame(self, choice: Choice, frame: Frame, title: str) -> None:
        scan, panel = frame.scan, self._panel
        shown = compose(self._frames, frame, choice)
        self._scene.show(shown.clouds, shown.setting)
        points = int(np.count_nonzero(scan.current))
        past = None if scan.age is None else len(scan.xyz) - points
        judged = [f"{name}: {line}" for name, line in scan.conditions.items() if name in shown.names and frame.counts]
        panel.title.content = legend.heading(title, points, warning=scan.note, past=past, conditions=judged)
        panel.past.visible = past is not None
        panel.coloring.offer(colorings(scan), shown.look.coloring)
        panel.offer_predictions(list(scan.predictions), shown.names)
        key = legend.key(scan, shown.names[0], shown.look.coloring, choice.ground, self._frames.num_classes)
        panel.key.content = key
        panel.key.visible = bool(key)
        panel.classes.show(class_colors(choice.ground, self._frames.colors), shown.points, shown.iou, choice.marked)
        self._show_camera(choice, frame, shown)
        self._widen(len(shown.clouds) > 1)
        if frame.counts:
            self._judge.start()

    def _show_camera(self, choice: Choice, frame: Frame, shown: Shown) -> None:
        there = cameras(frame)
        name = pick(choice.camera, list(there))
        picture = None if name is None else camera_picture(self._frames, frame, shown, there[name])
        self._panel.camera.show(list(there), name, picture)
        self._panel.cameras.visible = name is not None and there[name].pose is not None

    def _widen(self, wide: bool) -> None:
        """Moves the points of view of all browsers back so that two clouds are in the window, or forward again."""
        if wide == self._wide:
            return
        self._wide = wide
        position, target = viewpoints.start(self._frames.sensor, wide)
        self._server.initial_camera.position, self._server.initial_camera.look_at = position, target
        for client in self._server.get_clients().values():
            viewpoints.move(client, position, target)


def _line(error: Exception) -> str:
    """Returns the line about a frame that cannot be shown."""
    if isinstance(error, UserError):
        return one_line(error)
    return printable(f"cannot be shown: {type(error).__name__}: {error}")
