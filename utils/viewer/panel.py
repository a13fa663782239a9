"""The controls of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from utils.viewer.choice import Choice
from utils.viewer.controls import CameraPanel, Classes, Options, on_change
from utils.viewer.palette import GROUNDS
from utils.viewer.records import Frames

if TYPE_CHECKING:
    import viser

SPEEDS = (0.5, 20.0)
"""The least and the largest number of frames per second."""
POINT_SIZES = (0.02, 0.5)
"""The edges of the smallest and of the largest points, metres."""

_WIDTH = 340  # pixels
_ROOM = "<style>.mantine-ScrollArea-content {box-sizing: border-box; padding-right: 10px}</style>"
"""Room for the scroll bar, which would lie on the controls."""


class Panel:
    """The controls of the page. Those that choose do so themselves; `Actions` binds the buttons."""

    def __init__(
        self,
        server: viser.ViserServer,
        frames: Frames,
        choice: Choice,
        change: Callable[..., None],
        switch: Callable[[Iterable[int], bool], None],
    ) -> None:
        """Adds the controls.

        Args:
            server: the server of the page.
            frames: the scans.
            choice: what is chosen at the start.
            change: called with the attributes of a `Choice` that are to be chosen.
            switch: called with the classes that are to be switched, and with whether they are to be on.
        """
        self._gui = server.gui
        self._change = change
        self._ground = ""
        self._gui.add_html(_ROOM)
        self.title = self._gui.add_html("")
        self._add_time(len(frames), choice)
        self.coloring = Options(self._gui, "Colour by", lambda value: change(coloring=value))
        self.prediction = Options(self._gui, "Prediction", lambda value: change(prediction=value))
        self.both = self._gui.add_checkbox("Side by side", choice.side_by_side, visible=False)
        on_change(self.both, lambda value: change(side_by_side=value))
        self.past = self._gui.add_checkbox("Past scans", choice.past, visible=False, hint="moved to where this one is")
        on_change(self.past, lambda value: change(past=value))
        self.key = self._gui.add_html("", visible=False)
        self.classes = Classes(self._gui, frames.names, frames.num_classes, switch, lambda: change(marked=None))
        self.judging = self._gui.add_folder("Worst", visible=False)
        with self.judging:
            self.worst_frame = self._gui.add_button("Next worst frame")
            self.worst_class = self._gui.add_button("Next worst class")
            self.worst_note = self._gui.add_html("")
        self._add_display(choice)
        with self._gui.add_folder("View"):
            self.birds_eye = self._gui.add_button("Bird's-eye view")
            self.drivers = self._gui.add_button("Driver's view")
            self.cameras = self._gui.add_button("Camera's view", visible=False)
        with self._gui.add_folder("Save"):
            self.save_picture = self._gui.add_button("Save picture")
            self.save_scene = self._gui.add_button("Save scene")
        self.camera = CameraPanel(self._gui, lambda value: change(camera=value))
        self._gui.main_panel.dock_right()
        self._gui.main_panel.set_width(_WIDTH)

    def show_choice(self, choice: Choice) -> None:
        """Makes the controls show what is chosen."""
        self.frame.value = choice.frame
        self.play.label = "Pause" if choice.playing else "Play"
        self.classes.set(choice.hidden)
        if choice.ground.name != self._ground:
            self._ground = choice.ground.name
            dark = self._ground == "dark"
            self._gui.configure_theme(dark_mode=dark, show_logo=False, show_share_button=False)

    def offer_predictions(self, names: Sequence[str], shown: Sequence[str | None]) -> None:
        """Offers the predictions of a frame.

        Args:
            names: all of them.
            shown: those that are shown.
        """
        self.prediction.offer(names, shown[0], least=2 if len(shown) == 1 else len(names) + 1)
        self.both.visible = len(names) > 1

    def show_nothing(self) -> None:
        """Hides what is about a frame, when there is none to be seen."""
        self.past.visible = False
        self.key.visible = False
        self.classes.hide()
        self.camera.show()

    def _add_time(self, number: int, choice: Choice) -> None:
        several = number > 1
        self.frame = self._gui.add_slider("Frame", 0, max(number - 1, 1), 1, 0, visible=several)
        on_change(self.frame, lambda value: self._change(frame=value))
        self.play = self._gui.add_button("Play", visible=several)
        self.step = self._gui.add_button_group("Step", ("Previous", "Next"), visible=several)
        self.speed = self._gui.add_slider(
            "Speed", *SPEEDS, 0.5, choice.speed, visible=several, hint="frames per second"
        )
        on_change(self.speed, lambda value: self._change(speed=value))

    def _add_display(self, choice: Choice) -> None:
        with self._gui.add_folder("Display"):
            size = self._gui.add_slider("Point size", *POINT_SIZES, 0.02, choice.point_size, hint="metres")
            on_change(size, lambda value: self._change(point_size=value))
            rings = self._gui.add_checkbox("Rings", choice.rings, hint="every 10 m")
            on_change(rings, lambda value: self._change(rings=value))
            ground = self._gui.add_dropdown("Background", tuple(GROUNDS), initial_value=choice.ground.name)
            on_change(ground, lambda value: self._change(ground=GROUNDS[value]) if value in GROUNDS else None)
