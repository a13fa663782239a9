"""The controls of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.text import printable, shortened
from utils.viewer.choice import Choice
from utils.viewer.palette import GROUNDS
from utils.viewer.records import Frames

if TYPE_CHECKING:
    import viser

_LONGEST = 60  # characters of a name


class Panel:
    """The controls of the page, which call what is to be done when they are used."""

    def __init__(self, server: viser.ViserServer, frames: Frames, choice: Choice, change: Callable[..., None]) -> None:
        """Adds the controls.

        Args:
            server: the server of the page.
            frames: the scans.
            choice: what is chosen at the start.
            change: called with the attributes of a `Choice` that are chosen anew.
        """
        self._gui = server.gui
        self._change = change
        self.title = self._gui.add_html("")
        several = len(frames) > 1
        self.frame = self._gui.add_slider("Frame", 0, max(len(frames) - 1, 1), 1, 0, visible=several)
        _on(self.frame, lambda value: change(frame=value))
        self.play = self._gui.add_button("Play", visible=several)
        self.step = self._gui.add_button_group("Step", ("Previous", "Next"), visible=several)
        self.speed = self._gui.add_slider(
            "Speed", 0.5, 20.0, 0.5, choice.speed, visible=several, hint="frames per second"
        )
        _on(self.speed, lambda value: change(speed=value))
        self.coloring = Options(self._gui, "Colour by", lambda value: change(coloring=value))
        self.prediction = Options(self._gui, "Prediction", lambda value: change(prediction=value))
        self.both = self._gui.add_checkbox("Side by side", choice.side_by_side, visible=False)
        _on(self.both, lambda value: change(side_by_side=value))
        self.numbers = self._gui.add_html("", visible=False)
        self.classes = Classes(self._gui, frames.names, change)
        with self._gui.add_folder("Display"):
            size = self._gui.add_slider("Point size", 0.02, 0.5, 0.02, choice.point_size, hint="metres")
            _on(size, lambda value: change(point_size=value))
            rings = self._gui.add_checkbox("Rings", choice.rings, hint="every 10 m")
            _on(rings, lambda value: change(rings=value))
            ground = self._gui.add_dropdown("Background", tuple(GROUNDS), initial_value=choice.ground.name)
            _on(ground, lambda value: change(ground=GROUNDS.get(value, choice.ground)))


class Options:
    """A drop-down list whose options change from frame to frame. Options are told apart, also if they look alike."""

    def __init__(self, gui: viser.GuiApi, label: str, change: Callable[[str], None]) -> None:
        """Adds the list, which is not visible yet.

        Args:
            gui: where it is added.
            label: what stands before it.
            change: called with the option that is chosen.
        """
        self._list: viser.GuiDropdownHandle[str] = gui.add_dropdown(label, list[str]([""]), visible=False)
        self._options: dict[str, str] = {}
        _on(self._list, lambda value: change(self._options[value]) if value in self._options else None)

    def offer(self, options: Sequence[str], picked: str | None, least: int = 1) -> None:
        """Offers options.

        Args:
            options: the options, in their order.
            picked: the one that is shown as chosen.
            least: the list is visible from so many options on.
        """
        shown = dict(zip(distinct(options), options, strict=True))
        if shown and shown != self._options:
            self._options = shown
            self._list.options = tuple(shown)
        for label, option in shown.items():
            if option == picked:
                self._list.value = label
        self._list.visible = len(options) >= least


def distinct(names: Sequence[str]) -> list[str]:
    """Returns names that can be shown and told apart: on one line, not too long, equal ones with a number."""
    found: list[str] = []
    for name in names:
        short = shortened(printable(name), _LONGEST) or "(no name)"
        number = 2
        label = short
        while label in found:
            label = f"{short} ({number})"
            number += 1
        found.append(label)
    return found


class Classes:
    """The legend: each class with its colour, points and IoU in this frame, to be switched on and off."""

    def __init__(self, gui: viser.GuiApi, names: Sequence[str], change: Callable[..., None]) -> None:
        """Adds the legend, which is not visible yet.

        Args:
            gui: where it is added.
            names: names of the classes.
            change: called with `hidden`, the ids of the classes that are switched off, and `marked`.
        """
        self._change = change
        self._folder = gui.add_folder("Classes", visible=False)
        with self._folder:
            buttons = gui.add_button_group("Show", ("All", "None"))
            self._boxes = [gui.add_checkbox(name, True) for name in distinct(names)]
            self._style = gui.add_html("")
        _on(buttons, lambda value: self._switch_all(value == "All"))
        for box in self._boxes:
            _on(box, lambda _: self._switched())

    def show(
        self,
        colors: NDArray[np.uint8],
        points: NDArray[np.int64] | None,
        iou: NDArray[np.float64] | None,
        marked: int | None = None,
    ) -> None:
        """Shows the classes of a frame.

        Args:
            colors: (K + added, 3) uint8 RGB, as they are on the page.
            points: (K + added,) points of each class; None: the points have no classes, and there is no legend.
            iou: (K,) IoU of each class, NaN where there is none; None without truth.
            marked: the class that is looked at.
        """
        self._folder.visible = points is not None
        if points is None:
            return
        rules = [_BOX]
        for number, box in enumerate(self._boxes):
            text = f"{points[number]:,}"
            if iou is not None and number < len(iou) and not np.isnan(iou[number]):
                text += f" · {100 * iou[number]:.1f} %"
            rgb = ", ".join(map(str, colors[number].tolist()))
            ring = "outline: 2px solid #ffa000;" if number == marked else ""
            uuid = box._impl.uuid
            rules.append(f'label[for="{uuid}"]::before {{background: rgb({rgb}); {_SWATCH} {ring}}}')
            rules.append(f'.mantine-Checkbox-root:has([id="{uuid}"])::after {{content: "{text}"; {_NUMBER}}}')
        self._style.content = f"<style>{' '.join(rules)}</style>"

    def set(self, hidden: frozenset[int]) -> None:
        """Makes the boxes show which classes are switched off."""
        for number, box in enumerate(self._boxes):
            box.value = number not in hidden

    def _switched(self) -> None:
        self._change(hidden=frozenset(n for n, box in enumerate(self._boxes) if not box.value))

    def _switch_all(self, on: bool) -> None:
        hidden = frozenset() if on else frozenset(range(len(self._boxes)))
        self.set(hidden)
        self._change(hidden=hidden, marked=None)


# Generated content of the page's own check boxes: viser's controls have a name, but neither a colour nor a number.
_BOX = ".mantine-Checkbox-root {display: flex; align-items: center}"
_SWATCH = (
    'content: ""; display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em; border-radius: 2px; '
    "vertical-align: -0.05em;"
)
_NUMBER = (
    "font-size: 0.75em; margin-left: 0.8em; opacity: 0.75; white-space: nowrap; font-variant-numeric: tabular-nums;"
)


def _on(handle: Any, do: Callable[[Any], None]) -> None:
    """Calls `do` with the value of a control whenever someone at a browser changes it, in the order of the changes."""

    async def changed(event: Any) -> None:
        if event.client_id is not None:  # else the page itself has changed it
            do(event.target.value)

    register = handle.on_click if hasattr(handle, "on_click") else handle.on_update
    register(changed)
