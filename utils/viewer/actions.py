"""The buttons of the page, and the work that they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.text import printable, shortened
from utils.viewer import legend, viewpoints
from utils.viewer.coloring import pick
from utils.viewer.compose import cameras, pose_in_scene
from utils.viewer.judging import Judge
from utils.viewer.panel import Panel
from utils.viewer.saving import picture, scene_page
from utils.viewer.scene import places

if TYPE_CHECKING:
    import viser

    from utils.viewer.page import Page


class Actions:
    """The buttons of the page; each acts for the browser in which it was pressed, or for the choice of all."""

    def __init__(self, page: Page, panel: Panel, judge: Judge) -> None:
        """Binds the buttons.

        Args:
            page: the page.
            panel: its controls.
            judge: the scores of all frames.
        """
        self._page = page
        self._panel = panel
        self._judge = judge
        self._seen_frames: set[int] = set()
        self._seen_classes: set[int] = set()
        self._found = ""
        panel.play.on_click(_at_once(self._play))
        panel.step.on_click(_at_once(self._step))
        panel.birds_eye.on_click(_at_once(self._birds_eye))
        panel.drivers.on_click(_at_once(self._drivers))
        panel.cameras.on_click(_at_once(self._cameras))
        panel.worst_frame.on_click(_at_once(self._worst_frame))
        panel.worst_class.on_click(_at_once(self._worst_class))
        panel.save_picture.on_click(self._save_picture)
        panel.save_scene.on_click(self._save_scene)

    def show_judging(self) -> None:
        """Shows how many frames are judged, and what was found last."""
        number, name = len(self._page.frames), self._prediction()
        shown = name is not None and self._judge.done > 0
        self._panel.judging.visible = shown
        if name is None or not shown:
            return
        lines = [f"{self._judge.done:,} of {number:,} frames judged"]
        if self._found:
            lines.append(self._found)
        _, frame = self._page.drawn
        if frame is not None and name in frame.scan.conditions:
            lines.append(frame.scan.conditions[name])
        self._panel.worst_note.content = legend.note(lines)

    def _play(self, _: Any) -> None:
        choice = self._page.choice
        at_end = choice.frame >= len(self._page.frames) - 1
        again = {"frame": 0} if at_end and not choice.playing else {}
        self._page.change(playing=not choice.playing, **again)

    def _step(self, event: Any) -> None:
        by = 1 if event.target.value == "Next" else -1
        self._page.change(frame=self._page.choice.frame + by, playing=False)

    def _birds_eye(self, event: Any) -> None:
        viewpoints.move(event.client, *viewpoints.birds_eye(self._page.frames.sensor, self._both()))

    def _drivers(self, event: Any) -> None:
        viewpoints.move(event.client, *viewpoints.drivers(self._page.frames.sensor, self._place()))

    def _cameras(self, event: Any) -> None:
        choice, frame = self._page.drawn
        if frame is None:
            return
        there = cameras(frame)
        pose = pose_in_scene(frame, there.get(pick(choice.camera, list(there)) or ""))
        if pose is not None:
            viewpoints.move_to_camera(event.client, pose, self._place())

    def _worst_frame(self, _: Any) -> None:
        name = self._prediction()
        if name is None:
            return
        found = self._judge.worst_frame(name, self._seen_frames)
        if found is None:  # all have been shown: from the worst on again
            self._seen_frames.clear()
            found = self._judge.worst_frame(name)
        if found is not None:
            frame, miou = found
            self._seen_frames.add(frame)
            self._found = f"Frame {frame}: mIoU {100 * miou:.1f} %"
            self._page.change(frame=frame, marked=None, playing=False)

    def _worst_class(self, _: Any) -> None:
        name = self._prediction()
        if name is None:
            return
        found = self._judge.worst_class(name, self._seen_classes)
        if found is None:
            self._seen_classes.clear()
            found = self._judge.worst_class(name)
        if found is not None:
            worst, iou, frame = found
            self._seen_classes.add(worst)
            self._found = f"{self._page.frames.names[worst]}: IoU {100 * iou:.1f} %, most wrong points in frame {frame}"
            hidden = self._page.choice.hidden - {worst}
            self._page.change(frame=frame, marked=worst, hidden=hidden, playing=False)

    def _save_picture(self, event: Any) -> None:
        self._send(event.client, "png", lambda: picture(event.client, self._page.drawn[0].ground))

    def _save_scene(self, event: Any) -> None:
        choice, frame = self._page.drawn
        if frame is not None:
            title = self._page.frames.title(choice.frame)
            page = self._page
            make = lambda: scene_page(page.server, event.client, page.frames, title, choice, frame)  # noqa: E731
            self._send(event.client, "html", lambda: make().encode())

    def _send(self, client: viser.ClientHandle | None, suffix: str, make: Callable[[], bytes]) -> None:
        """Sends a file to the browser that asked for it, under a name made from the title of the frame."""
        if client is None:
            return
        try:
            title = self._page.frames.title(self._page.drawn[0].frame)
            stem = re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_")[:80] or "scan"
            client.send_file_download(f"{stem}.{suffix}", make(), save_immediately=True)
        except Exception as error:  # the browser is gone, or cannot draw
            client.add_notification("Nothing was saved", shortened(printable(str(error)), 200), color="red")

    def _prediction(self) -> str | None:
        """Returns the prediction whose scores are meant: the one that is shown, or the left one of two."""
        choice, frame = self._page.drawn
        if frame is None or not frame.counts:
            return None
        names = list(frame.scan.predictions)
        return names[0] if self._both() else pick(choice.prediction, names)

    def _both(self) -> bool:
        choice, frame = self._page.drawn
        return choice.side_by_side and frame is not None and len(frame.scan.predictions) > 1

    def _place(self) -> np.ndarray:
        """Returns where the sensor of the first cloud is in the scene, (3,) metres."""
        return places(self._page.frames.sensor, 2 if self._both() else 1)[0]


def _at_once(do: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Makes a button act on the thread that hears of it, in the order of the clicks."""

    async def act(event: Any) -> None:
        if event.client is not None:
            do(event)

    return act
