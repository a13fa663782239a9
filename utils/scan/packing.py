"""A batch on its way from a loader process to the network: one piece of memory, each number in few bytes.

One piece is handed over by one file descriptor, page-locked by one call and copied to a GPU in one go. What follows
from other numbers is not sent: which scan a point belongs to, and the coordinates of whole scans inside the volume. The
device computes it, without the host waiting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import get_worker_info

from utils.scan.records import Batch, Frame, WholeScan
from utils.scan.unthreaded import filled, numbered, put_rows, taken, whole_numbers

_ALIGNED = 64  # bytes; at least those of the largest number, so that a tensor may begin there


@dataclass(frozen=True)
class Place:
    """The place of a tensor in the memory.

    Attributes:
        start: number of its first byte.
        dtype, shape: of the tensor.
    """

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class PackedBatch:
    """A frozen record of B scans in one piece of memory; `to` makes the `Batch` of them.

    Tensors, by name (W: points of all files, O: those of them outside the volume):
        points: (P, columns) float32; labels: (P,) uint8; views: (B, V, 3, 4) float32: as in `Batch`.
        visible: (M,) int32. pixels: (M, 2) int16, or int32 for a large image: of the visible points.
        images: (B, 3, H, W) uint8; or image_features: (B, h, w, D) float16.
        whole_labels: (W,) uint8. whole_inside: (W,) bool. whole_donor: (W,) int32: as in `WholeScan`.
        outside: (O,) int32, the rows of a file's points that are outside. outside_xyz: (O, 3) float32.

    Attributes:
        memory: (bytes,) uint8.
        places: where in it a tensor lies, by name; what a batch does not have is missing.
        lengths: B numbers of points.
        frames: which sweeps the whole scans are; empty in training.
        whole_lengths, outside_lengths: B numbers of points of the files, and of those outside.
        image_sizes: as in `Batch`.
    """

    memory: Tensor
    places: Mapping[str, Place]
    lengths: tuple[int, ...]
    frames: tuple[Frame, ...] = ()
    whole_lengths: tuple[int, ...] = ()
    outside_lengths: tuple[int, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()

    @property
    def num_scans(self) -> int:
        """The number of scans B."""
        return len(self.lengths)

    def tensor(self, name: str) -> Tensor:
        """Returns a tensor by its name; it shares the memory."""
        place = self.places[name]
        return self.memory[place.start : place.start + place.size].view(place.dtype).view(place.shape)

    def pin_memory(self) -> PackedBatch:
        """Returns a copy in page-locked memory; the DataLoader calls this."""
        return replace(self, memory=self.memory.pin_memory())

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Copies the memory to `device` and makes the batch of it there; on the CPU, tensors share the memory."""
        there = replace(self, memory=self.memory.to(device, non_blocking=non_blocking))
        points, views = there.tensor("points"), there.tensor("views") if "views" in self.places else None
        pixels, visible = there._pixels()
        return Batch(
            points=points,
            scan_ids=numbered(self.lengths, there.memory.device),
            labels=whole_numbers(there.tensor("labels")),
            pixels=pixels,
            visible=visible,
            images=there.tensor("images") if "images" in self.places else None,
            lengths=self.lengths,
            whole=there._whole(points) if self.frames else (),
            views=views,
            image_sizes=self.image_sizes,
            image_features=there.tensor("image_features") if "image_features" in self.places else None,
        )

    def _pixels(self) -> tuple[Tensor, Tensor]:
        """Computes `Batch.pixels` (P, 2) and `Batch.visible` (M,), both int64."""
        total, device = sum(self.lengths), self.memory.device
        if "visible" not in self.places:
            nowhere = torch.full((1, 2), -1, device=device).expand(total, 2)
            return nowhere, torch.empty(0, dtype=torch.int64, device=device)
        visible = whole_numbers(self.tensor("visible"))
        pixels = whole_numbers(self.tensor("pixels"))
        return put_rows(filled((total, 2), -1, device), visible, pixels), visible

    def _whole(self, points: Tensor) -> tuple[WholeScan, ...]:
        """Makes `Batch.whole`; the coordinates inside the volume are those of `points` (P, columns)."""
        labels, inside = (self.tensor(f"whole_{name}").split(self.whole_lengths) for name in ("labels", "inside"))
        donors = whole_numbers(self.tensor("whole_donor")).split(self.whole_lengths)
        outside = whole_numbers(self.tensor("outside")).split(self.outside_lengths)
        xyz_outside = self.tensor("outside_xyz").split(self.outside_lengths)
        scans = points.split(self.lengths)
        found = []
        for number, frame in enumerate(self.frames):
            xyz = taken(scans[number], donors[number])[:, :3]  # whole rows are taken several times as fast
            put_rows(xyz, outside[number], xyz_outside[number])
            found.append(WholeScan(frame, xyz, labels[number], inside[number], donors[number]))
        return tuple(found)


def lay_out(shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> tuple[Tensor, dict[str, Place]]:
    """Makes memory for tensors.

    Args:
        shapes: dtype and shape of each tensor, by name.

    Returns:
        The memory, (bytes,) uint8, not initialised, and the places of the tensors.
    """
    places, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        places[name] = Place(end, dtype, shape)
        end += -(-places[name].size // _ALIGNED) * _ALIGNED
    return torch.empty(end, dtype=torch.uint8), places


def sendable(memory: Tensor) -> Tensor:
    """Copies memory of a loader process to where the main process can see it, too; in other processes it stays.

    It is written there as into a file: filled through its addresses, the system would stop at each of its pages, which
    takes several times as long as the copy. Where there is no room it stays, and how it gets to the main process is
    decided when it is sent (`dataloader.workers`).
    """
    if get_worker_info() is None:
        return memory
    try:
        storage = memory._typed_storage()._new_shared(len(memory))
        shared = memory.new(storage).resize_(len(memory))
        if get_sharing_strategy() == "file_descriptor":
            _write(storage._share_fd_cpu_()[0], memory.numpy().data)
        else:
            shared.copy_(memory)
        return shared
    except (RuntimeError, OSError):
        return memory


def _write(file: int, content: memoryview) -> None:
    """Writes a file from its beginning; a system may write less at a time than it is given."""
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], done)
