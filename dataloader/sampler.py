"""Which items a process sees, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Training keys (epoch, index); every process draws the same permutation and takes its share of it.

    All processes get equally many items, or gradient exchange would wait for ever: the permutation is continued from
    its start until it divides by `world_size`.

    Args:
        length: items in the data set.
        shuffle: a new order each epoch, from (seed, epoch); else ascending.
        seed: not negative.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, length: int, shuffle: bool = True, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        padded = np.resize(order, len(self) * self.world_size)
        return iter([(self.epoch, int(index)) for index in padded[self.rank :: self.world_size]])


class ShardSampler(Sampler[int]):
    """Evaluation indices of one process: rank, rank + world_size, ... Nothing is repeated, so counts summed over the
    processes are exact; a process may have one item fewer than another, or none.

    Args:
        length: items in the data set.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def steps_per_epoch(training_size: int, batch_size: int, num_gpu: int) -> int:
    """Optimiser steps per epoch over `training_size` scans, `batch_size` of them on each of `num_gpu` processes."""
    return math.ceil(training_size / (batch_size * max(num_gpu, 1)))
