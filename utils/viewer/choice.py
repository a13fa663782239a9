"""The choice of what the page shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from utils.viewer.palette import DARK, Ground


@dataclass(frozen=True)
class Choice:
    """A frozen record of what is chosen on the page; it is the same for all browsers that look at it.

    What a frame does not have stays chosen for the frames that do.

    Attributes:
        frame: index of the frame.
        coloring: what the points are coloured by; None: the first that the frame has.
        prediction: the prediction that is shown; None: the first.
        side_by_side: whether two predictions are shown beside each other.
        hidden: learning ids of the classes that are switched off.
        marked: learning id of the class that is looked at; None: all.
        point_size: edge of a point, metres.
        past: whether points of past scans are shown.
        rings: whether distance rings are shown.
        ground: the ground of the page.
        camera: name of the camera whose picture is shown; None: the first.
        playing: whether the frames follow each other.
        speed: frames per second.
    """

    frame: int = 0
    coloring: str | None = None
    prediction: str | None = None
    side_by_side: bool = True
    hidden: frozenset[int] = field(default_factory=frozenset)
    marked: int | None = None
    point_size: float = 0.06
    past: bool = True
    rings: bool = True
    ground: Ground = DARK
    camera: str | None = None
    playing: bool = False
    speed: float = 5.0
