"""Controls of the page that change from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.pictures.raster import Pixels
from utils.text import printable, shortened
from utils.viewer import legend

if TYPE_CHECKING:
    import viser

_LONGEST = 60  # characters of a name
_WIDTH, _GAP = 640, 15  # pixels on the page, of the camera picture and around it
_QUALITY = 92  # of the JPEG of the camera picture


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
        on_change(self._list, lambda value: change(self._options[value]) if value in self._options else None)

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


class CameraPanel:
    """The picture of a camera in a window of its own, which can be moved and enlarged."""

    def __init__(self, gui: viser.GuiApi, choose: Callable[[str], None]) -> None:
        """Adds the window, which is not visible yet.

        Args:
            gui: where it is added.
            choose: called with the name of the camera that is chosen.
        """
        self._panel = gui.add_panel(visible=False)
        with self._panel.add_tab("Camera picture"):
            self._names = Options(gui, "Camera", choose)
            self._image = gui.add_image(np.zeros((1, 1, 3), dtype=np.uint8), format="jpeg", jpeg_quality=_QUALITY)
        self._panel.float(x=_GAP, y=-_GAP, width=_WIDTH)

    def show(self, names: Sequence[str] = (), name: str | None = None, picture: Pixels | None = None) -> None:
        """Shows a picture, or hides the window if there is none.

        Args:
            names: names of the cameras of the frame.
            name: the camera whose picture it is.
            picture: (H, W, 3) uint8 RGB.
        """
        self._panel.visible = picture is not None
        if picture is not None:
            self._names.offer(names, name, least=2)
            self._image.image = picture


class Classes:
    """The legend: each class with its colour, points and IoU in this frame, to be switched on and off."""

    def __init__(
        self,
        gui: viser.GuiApi,
        names: Sequence[str],
        num_classes: int,
        switch: Callable[[Iterable[int], bool], None],
        unmark: Callable[[], None],
    ) -> None:
        """Adds the legend, which is not visible yet.

        Args:
            gui: where it is added.
            names: names of the classes, and after them of points that a corruption has added.
            num_classes: the number K of classes; what comes after them is offered only where there are such points.
            switch: called with the classes that are to be switched, and with whether they are to be on.
            unmark: called when no class is to be looked at alone any more.
        """
        self._switch, self._unmark, self._num_classes = switch, unmark, num_classes
        self._folder = gui.add_folder("Classes", visible=False)
        with self._folder:
            buttons = gui.add_button_group("Show", ("All", "None"))
            self._boxes = [gui.add_checkbox(name, True) for name in distinct(names)]
            self._style = gui.add_html("")
        on_change(buttons, lambda value: self._switch_all(value == "All"))
        for number, box in enumerate(self._boxes):
            on_change(box, partial(self._switch_one, number))

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
            box.visible = number < self._num_classes or bool(points[number])
            text = f"{points[number]:,}"
            if iou is not None and number < len(iou) and not np.isnan(iou[number]):
                text += f" · {100 * iou[number]:.1f} %"
            ring = "outline: 2px solid #ffa000;" if number == marked else ""
            uuid = box._impl.uuid
            rules.append(f'label[for="{uuid}"]::before {{background: {legend.css(colors[number])}; {_SWATCH} {ring}}}')
            rules.append(f'div:has(> p > label[for="{uuid}"]) {{{_ROOM}}}')
            rules.append(f'.mantine-Checkbox-root:has([id="{uuid}"])::after {{content: "{text}"; {_NUMBER}}}')
        self._style.content = f"<style>{' '.join(rules)}</style>"

    def hide(self) -> None:
        """Hides the legend."""
        self._folder.visible = False

    def set(self, hidden: frozenset[int]) -> None:
        """Makes the boxes show which classes are switched off."""
        for number, box in enumerate(self._boxes):
            box.value = number not in hidden

    def _switch_one(self, number: int, on: bool) -> None:
        self._switch([number], on)

    def _switch_all(self, on: bool) -> None:
        self._unmark()
        self._switch(range(len(self._boxes)), on)


# Generated content of the page's own check boxes: viser's controls have a name, but neither a colour nor a number.
_BOX = ".mantine-Checkbox-root {display: flex; align-items: center}"
_SWATCH = (
    'content: ""; display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em; border-radius: 2px; '
    "vertical-align: -0.05em;"
)
_ROOM = "width: 8.8em !important"  # for "moving-other-vehicle" on one line
_NUMBER = (
    "font-size: 0.75em; margin-left: 0.8em; opacity: 0.75; white-space: nowrap; font-variant-numeric: tabular-nums;"
)


def on_change(handle: Any, do: Callable[[Any], None]) -> None:
    """Calls a function whenever someone at a browser changes a control, in the order of the changes.

    Args:
        handle: the control.
        do: called with its value.
    """

    async def changed(event: Any) -> None:
        if event.client_id is not None:  # else the page itself has changed it
            do(event.target.value)

    register = handle.on_click if hasattr(handle, "on_click") else handle.on_update
    register(changed)
