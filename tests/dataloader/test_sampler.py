from __future__ import annotations

from collections import Counter

import pytest

from dataloader.sampler import EpochSampler, ShardSampler


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 9, 10])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_item_is_trained_on_and_ranks_have_equal_counts(length, world_size, shuffle):
    keys = []
    for rank in range(world_size):
        sampler = EpochSampler(length, shuffle, seed=3, rank=rank, world_size=world_size)
        sampler.set_epoch(4)
        mine = list(sampler)
        assert len(mine) == len(sampler) == -(-length // world_size)
        keys += mine
    assert {epoch for epoch, _ in keys} == {4}
    counts = Counter(index for _, index in keys)
    assert set(counts) == set(range(length))
    assert len(keys) - length < world_size  # no more padding than needed


def test_order_changes_with_epoch_and_seed_and_with_nothing_else():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed=seed)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2) and order(1, 1) != order(2, 1)
    assert order(1, 1) != list(range(50))
    assert list(EpochSampler(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 9, 10])
def test_evaluation_sees_every_item_once(length, world_size):
    shards = [ShardSampler(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(length))
    assert all(len(list(shard)) == len(shard) for shard in shards)
