"""The page as it is served: its address, its end, what it shows after what is chosen. Browsers: see tests/browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.support.shown import POINTS, MadeFrames, plain
from tests.utils.viewer.test_loading import wait_for
from utils.errors import UserError
from utils.viewer.address import same_site
from utils.viewer.palette import DARK, LIGHT, class_colors
from utils.viewer.records import Frames
from utils.viewer.server import Viewer

ROOT = Path(__file__).parents[3]


class Looked:
    """A viewer, and what stands on its page."""

    def __init__(self, frames: Frames) -> None:
        self.viewer = Viewer(frames)
        self.page = self.viewer._page
        self.panel = self.page._panel
        self.choose()

    def choose(self, **choices) -> None:
        self.page.change(**choices)
        wait_for(lambda: self.page._drawn and self.page._drawn[0] == self.page.choice and self.page._drawn[1])

    def points(self, number: int = 0) -> viser.PointCloudHandle:
        handle = self.viewer._server.scene.get_handle_by_name(f"/scan{number}/points")
        assert isinstance(handle, viser.PointCloudHandle)
        return handle


@pytest.fixture
def looked(frames: MadeFrames) -> Iterator[Looked]:
    looked = Looked(frames)
    yield looked
    looked.viewer.stop()


def test_the_page_shows_the_chosen_frame_in_the_colours_of_its_classes(looked: Looked) -> None:
    looked.choose(frame=2, side_by_side=False, prediction="second")
    assert "&lt;i&gt;scan&lt;/i&gt; 2" in looked.panel.title.content
    scan = MadeFrames().read(2)
    kept = np.isfinite(scan.xyz).all(axis=1)
    assert np.array_equal(looked.points().points, scan.xyz[kept].astype(np.float16))
    expected = class_colors(DARK, MadeFrames.colors)[scan.predictions["second"][kept]]
    assert np.array_equal(looked.points().colors, expected)
    looked.choose(coloring="truth", ground=LIGHT)
    assert scan.labels is not None
    assert np.array_equal(looked.points().colors, class_colors(LIGHT, MadeFrames.colors)[scan.labels[kept]])


def test_classes_are_switched_off_and_the_empty_cloud_is_not_visible(looked: Looked) -> None:
    looked.choose(side_by_side=False, hidden=frozenset({1, 2}))
    scan = MadeFrames().read(0)
    kept = np.isfinite(scan.xyz).all(axis=1) & ~np.isin(scan.predictions["first"], [1, 2])
    assert len(looked.points().points) == kept.sum() and looked.points().visible
    looked.choose(hidden=frozenset(range(5)))
    assert not looked.points().visible and len(looked.points().points) > 0
    looked.choose(hidden=frozenset())
    assert len(looked.points().points) == POINTS - 1


def test_two_predictions_stand_beside_each_other_each_in_its_colours(looked: Looked) -> None:
    scan = MadeFrames().read(0)
    kept = np.isfinite(scan.xyz).all(axis=1)
    legend = class_colors(DARK, MadeFrames.colors)
    for number, ids in enumerate(scan.predictions.values()):
        assert np.array_equal(looked.points(number).colors, legend[ids[kept]])
    places = [looked.viewer._server.scene.get_handle_by_name(f"/scan{number}") for number in (0, 1)]
    left, right = (place.position for place in places if place is not None)
    assert left[1] - right[1] > 100  # the left one is further left
    looked.choose(side_by_side=False)
    assert places[1] is not None and not places[1].visible
    assert not looked.points(1).visible


def test_a_frame_that_cannot_be_read_says_why_and_the_others_go_on() -> None:
    looked = Looked(MadeFrames(broken=(1,)))
    looked.choose(frame=1)
    wait_for(lambda: "1.bin: is &lt;cut&gt; off; copy it again" in looked.panel.title.content)
    assert not looked.points().visible
    looked.choose(frame=2)
    wait_for(lambda: f"{POINTS - 1} points" in looked.panel.title.content)
    assert looked.points().visible
    looked.viewer.stop()


def test_columns_that_do_not_fit_are_one_line_and_the_viewer_goes_on() -> None:
    looked = Looked(MadeFrames(change=lambda scan: replace(plain(scan), labels=np.full(POINTS, 77))))
    wait_for(lambda: "cannot be shown: " in looked.panel.title.content)
    looked.choose(coloring="height")
    wait_for(lambda: "points" in looked.panel.title.content)
    looked.viewer.stop()


def test_playing_goes_to_the_last_frame_and_stops_there(looked: Looked) -> None:
    looked.page.change(speed=50.0, playing=True)
    wait_for(lambda: looked.page.choice.frame == 3 and not looked.page.choice.playing)
    wait_for(lambda: looked.panel.play.label == "Play" and looked.panel.frame.value == 3)
    looked.page.change(frame=99)
    assert looked.page.choice.frame == 3


def test_what_is_typed_beyond_the_limits_is_the_nearest_within(looked: Looked) -> None:
    looked.page.change(frame=-7, speed=0.0, point_size=-1.0)
    choice = looked.page.choice
    assert (choice.frame, choice.speed, choice.point_size) == (0, 0.5, 0.02)


def test_classes_are_switched_one_by_one_and_all_at_once(looked: Looked) -> None:
    looked.page.switch([1], False)
    looked.page.switch([3], False)
    assert looked.page.choice.hidden == {1, 3}
    looked.choose()
    assert [box.value for box in looked.panel.classes._boxes] == [True, False, True, False, True]
    looked.page.switch(range(5), True)
    assert not looked.page.choice.hidden


def test_the_worst_class_is_marked_in_the_frame_where_most_of_it_is_wrong(looked: Looked) -> None:
    looked.page._judge.join()
    looked.choose(hidden=frozenset({1, 2, 3}))
    looked.page._actions._worst_class(None)
    choice = looked.page.choice
    found = looked.page._judge.worst_class("first")
    assert found is not None and (choice.marked, choice.frame) == (found[0], found[2])
    assert choice.marked not in choice.hidden
    looked.page._actions._worst_frame(None)
    worst = looked.page._judge.worst_frame("first")
    assert worst is not None and looked.page.choice.frame == worst[0] and looked.page.choice.marked is None
    first = looked.page.choice.frame
    looked.page._actions._worst_frame(None)
    assert looked.page.choice.frame != first


def test_a_scan_of_points_alone_has_neither_legend_nor_camera_nor_worst() -> None:
    looked = Looked(MadeFrames(number=1, change=plain))
    wait_for(lambda: "points" in looked.panel.title.content)
    assert not looked.panel.classes._folder.visible
    assert not looked.panel.camera._panel.visible
    assert not looked.panel.judging.visible
    assert not looked.panel.frame.visible  # there is nothing to slide over
    looked.viewer.stop()


def received(viewer: Viewer, origin: str | None) -> int:
    """The bytes that a page of another address gets from the viewer within a second."""
    address, total = f"ws://127.0.0.1:{viewer.port}", 0
    protocol = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(address, origin=None if origin is None else Origin(origin), subprotocols=protocol) as socket:
        try:
            while total < 1000:
                total += len(socket.recv(timeout=1))
        except (ConnectionClosed, TimeoutError):
            pass
    return total


def test_pages_of_other_sites_get_nothing(looked: Looked) -> None:
    own = looked.viewer.url
    assert received(looked.viewer, own) > 0 and received(looked.viewer, None) > 0
    for other in ("https://example.org", f"http://127.0.0.1:{looked.viewer.port + 1}", "null"):
        assert received(looked.viewer, other) == 0, other


def test_a_foreign_name_for_this_machine_is_another_site() -> None:
    assert same_site("http://localhost:8080", "localhost:8080", only_here=True)
    assert same_site("http://[::1]:8080", "[::1]:8080", only_here=True)
    assert not same_site("http://evil.example:8080", "evil.example:8080", only_here=True)
    assert same_site("http://lidar.lab:8080", "lidar.lab:8080", only_here=False)
    assert not same_site("http://evil.example", "lidar.lab:8080", only_here=False)


def test_nobody_can_lead_the_internet_to_the_page(looked: Looked) -> None:
    assert looked.viewer._server.request_share_url() is None


def test_a_port_that_is_taken_is_passed_over(frames: MadeFrames) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Viewer(frames, port=port) as viewer:
            assert viewer.port > port


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("no.such.host.invalid", 0), ("192.0.2.1", 0)]
)
def test_an_address_that_cannot_be_listened_on_is_one_line(frames: MadeFrames, host: str, port: int) -> None:
    with pytest.raises(UserError, match=str(port)):
        Viewer(frames, host, port)


def test_without_viser_there_is_a_line_that_says_how_to_get_it(
    frames: MadeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match="pip install viser"):
        Viewer(frames)


@pytest.mark.parametrize(
    ("host", "said"),
    [("0.0.0.0", "anyone who reaches"), ("127.0.0.1", r"ssh -L (\d+):127\.0\.0\.1:\1 192\.0\.2\.7 ")],
)
def test_view_prints_its_address_and_a_signal_ends_it_with_one_line(tmp_path: Path, host: str, said: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys
            from utils.command.start import begin
            begin()
            from utils.command.process import run_command
            from tests.support.shown import MadeFrames
            from utils.viewer.server import view
            sys.exit(run_command(lambda: view(MadeFrames(), host=sys.argv[1], port=0)))
        """)
    )
    process = subprocess.Popen(
        [sys.executable, program, host],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "SSH_CONNECTION": "198.51.100.4 50000 192.0.2.7 22"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell ignores it for its background jobs, as the tests may be, and the program leaves that as it is.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    first, second = process.stdout.readline(), process.stdout.readline()
    assert first.startswith("The scans are shown at http://127.0.0.1:") and "Ctrl-C" in first
    assert re.search(said, second)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (130, "", "interrupted; the viewer has ended\n")
