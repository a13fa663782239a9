"""The test of a network on scans: their classes, the scores of all of them, and the files that a test writes.

PyTorch Lightning has no part in it: its import takes two seconds, in which a test could have segmented its first scans.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from network.evaluation.voting import segment
from network.models.segmentation_network import SegmentationNetwork
from utils.command.terminal import say
from utils.errors import UserError
from utils.fp32 import set_fp32_arithmetic
from utils.metrics import ScoreCard, format_table
from utils.point_counts import SegmentationMetrics
from utils.results.conditions import Conditions
from utils.results.evaluation import EvaluationOutput
from utils.scan.packing import PackedBatch

_HALF = {"bf16": torch.bfloat16, "16": torch.float16}
_SELDOM = 10.0  # seconds between two states of the bar in a file


@dataclass(frozen=True)
class Place:
    """The place where a process of a test runs.

    Attributes:
        device: its device.
        rank: its number, from 0; the first one speaks.
        world_size: number of processes; those of several share the scans among them.
        precision: "32", "tf32", "bf16" or "16".
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    precision: str = "32"

    def prepare(self, network: SegmentationNetwork) -> None:
        """Moves a network to the device, ready for an evaluation."""
        set_fp32_arithmetic(tf32=self.precision == "tf32")
        network.to(self.device).eval()
        network.warm_up(self.device, _HALF.get(self.precision, torch.float32), training=False)

    def autocast(self) -> torch.autocast:
        """Returns the context of the arithmetic."""
        half = _HALF.get(self.precision)
        return torch.autocast(self.device.type, half, enabled=half is not None)

    def agree(self, made: Any) -> Any:
        """Returns what the first process has made, in all of them."""
        if self.world_size == 1:
            return made
        found = [made]
        torch.distributed.broadcast_object_list(found, src=0)
        return found[0]

    def wait_for_all(self) -> None:
        """Waits until every process is here."""
        if self.world_size > 1:
            torch.distributed.barrier()


@dataclass(frozen=True)
class ViewScores:
    """The scores of a test.

    Attributes:
        voted: those of all views.
        one_view: those of the scans as they are; None: there is no other view.
    """

    voted: ScoreCard
    one_view: ScoreCard | None

    def table(self, conditions: Conditions) -> str:
        """Formats the lines that are printed after the test."""
        lines = [format_table(self.voted, self.voted.miou), conditions.text, str(_rounded(self.voted))]
        if self.one_view is not None:
            lines += [f"With one view miou is {100 * self.one_view.miou:.3f}", conditions.one_view.text]
            lines += [str(_rounded(self.one_view))]
        return "\n".join(lines)


def _rounded(scores: ScoreCard) -> dict[str, float]:
    named = {**scores.named(), "val/best_miou": scores.miou}
    return {name: round(named[name], 5) for name in sorted(named)}


def test_network(
    network: SegmentationNetwork,
    batches: Iterable[PackedBatch],
    metrics: Callable[[], SegmentationMetrics],
    output: EvaluationOutput,
    place: Place,
) -> ViewScores:
    """Segments the scans of this process, writes their results, and prints the scores of all processes.

    Where there are votes, the scans as they are are scored, too, which costs one view more.

    Args:
        network: the network, as `Place.prepare` leaves it.
        batches: the scans, with their views if there are votes.
        metrics: makes a counter of scores.
        output: writes the files.
        place: where to run.

    Raises:
        UserError: the outputs of the network are NaN or infinite.
    """
    first = place.rank == 0
    output.open(place.agree(output.make_folder() if first else None))
    voted, single = metrics(), metrics() if output.conditions.views > 1 else None
    finite: torch.Tensor | bool = True
    with torch.inference_mode(), place.autocast(), _progress(batches, first) as shown:
        for number, batch in enumerate(shown):
            for segmentation in segment(network, batch.to(place.device), with_one_view=single is not None):
                whole = segmentation.whole
                voted.update(segmentation.prediction, whole.labels, whole.inside)
                if single is not None and segmentation.one_view is not None:
                    single.update(segmentation.one_view, whole.labels, whole.inside)
                finite = segmentation.finite & finite
                output.write(segmentation)
            if number == 0:  # at once, and not after hours
                _refuse_rubbish(finite)
    _refuse_rubbish(finite)
    found = ViewScores(voted.scores(), None if single is None else single.scores())
    place.wait_for_all()  # every process has written its scans
    if first:
        if found.voted.points:  # a test split has no labels
            say(found.table(output.conditions))
        for line in output.finish(found.voted, found.one_view):
            say(line)
    return found


def _refuse_rubbish(finite: torch.Tensor | bool) -> None:
    """Refuses outputs that are not finite: such predictions must not be scored."""
    if not bool(finite):
        raise UserError(
            "the network's outputs are NaN or infinite; its training has failed or its checkpoint is damaged (or "
            "--precision 16 is too narrow for it): test another checkpoint, or with --precision 32"
        )


@contextmanager
def _progress(batches: Iterable[PackedBatch], first: bool) -> Iterator[Iterable[PackedBatch]]:
    """Shows a bar while batches are taken; its line ends with it, also after an error."""
    total = len(batches) if isinstance(batches, Sized) else None
    seldom = 0.1 if sys.stdout.isatty() else _SELDOM
    bar = tqdm(batches, "Testing", total, file=sys.stdout, disable=not first, mininterval=seldom, dynamic_ncols=True)
    try:
        yield bar
    finally:
        bar.close()
