"""The samplers: which items a process gets, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """A sampler of training keys (epoch, index): every process draws the same permutation and takes its share.

    All processes get the same number of items, because gradient exchange would otherwise wait for ever: the permutation
    is continued from its start until its length divides by `world_size`.

    Args:
        length: number of items in the data set.
        shuffle: whether each epoch has a new order, drawn from (seed, epoch); else indices ascend.
        seed: 0 or more.
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
        self._begun = (0, 0)

    def begin_within(self, epoch: int, scans: int) -> None:
        """Leaves out the first `scans` of an epoch, which all processes together have trained on already."""
        self._begun = (epoch, scans)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0; Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        done = self._begun[1] if self._begun[0] == self.epoch else 0
        left = -(-(self.length - done) // self.world_size)
        padded = np.resize(order, done + left * self.world_size)[done:]
        return iter([(self.epoch, int(index)) for index in padded[self.rank :: self.world_size]])


class ShardSampler(Sampler[int]):
    """A sampler of the evaluation indices of one process: rank, rank + world_size, rank + 2 world_size and so on.

    Nothing is repeated, so counts summed over the processes are exact. A process may have one item fewer than another,
    or none.

    Args:
        length: number of items in the data set.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def batches_done(training_size: int, scans: int, batch_size: int, num_gpu: int) -> int:
    """Computes the batches of a process that lie before the rest of an epoch, which is what follows on `scans` scans.

    With the batch size and the processes that trained on these scans, it is the number of batches they had.
    """
    whole, rest = (steps_per_epoch(size, batch_size, num_gpu) for size in (training_size, training_size - scans))
    return whole - rest


def steps_per_epoch(training_size: int, batch_size: int, num_gpu: int, accumulated: int = 1) -> int:
    """Computes the optimiser steps per epoch.

    Args:
        training_size: number of scans in the training set.
        batch_size: scans in the batch of each process.
        num_gpu: number of processes; 0 counts as 1.
        accumulated: batches of each process in a step; the last step of an epoch may have fewer.
    """
    return math.ceil(math.ceil(training_size / (batch_size * max(num_gpu, 1))) / accumulated)
