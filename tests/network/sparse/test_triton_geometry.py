"""The tiles and the lists of pairs of the Triton backend, in Triton's interpreter."""

from __future__ import annotations

import functools

import pytest
import torch

from tests.network.sparse.test_convolution import SEARCHED, pairs_by_dictionary, random_keys
from tests.support.sparse import KINDS, make_map
from tests.support.triton import interpreted_library, interpreted_modules
from tests.support.triton_counts import computed_products, live_offsets, rough_surface

MODULES = interpreted_modules()
triton, geometry = MODULES["triton_backend"], MODULES["triton_geometry"]


@pytest.fixture(autouse=True)
def interpreter():
    with interpreted_library():
        yield


def pairs_of_tiles(neighbours, by_level: bool) -> list[set[tuple[int, int]]]:
    """Lists for each offset the (input row, output row) pairs in the tiles, as a convolution goes through them."""
    tiles, (volume, num_rows) = neighbours.tiles(by_level), neighbours.table.shape
    part = volume // tiles.num_groups
    found: list[list[tuple[int, int]]] = [[] for _ in range(volume)]
    for group, order in enumerate(tiles.order.tolist()):
        for place, row in enumerate(order):
            mask = int(tiles.masks[group, place // geometry.TILE])
            for offset in range(group * part, (group + 1) * part):
                neighbour = int(tiles.neighbours[offset, place])
                if neighbour >= 0 and mask >> (offset - group * part) & 1:
                    found[offset].append((neighbour, row - group * num_rows))
    assert all(len(pairs) == len(set(pairs)) for pairs in found)
    return [set(pairs) for pairs in found]


def listed(pairs) -> list[set[tuple[int, int]]]:
    """Lists for each offset the pairs of the lists; of a mirrored map those before the centre."""
    ends = pairs.ends.tolist()
    found = [
        list(zip(*pairs.rows[:, begin:end].tolist(), strict=True))
        for begin, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    assert ends[-1] <= pairs.rows.shape[1] and all(len(part) == len(set(part)) for part in found)
    return [set(part) for part in found]


@pytest.mark.parametrize("voxels", SEARCHED)
@pytest.mark.parametrize("kind", ["submanifold", "strided"])
def test_neighbour_search_against_a_dictionary(voxels, kind) -> None:
    kernel_map, keys, coarse = make_map(triton, kind, SEARCHED[voxels])
    expected = pairs_by_dictionary(keys, coarse, KINDS[kind], 1 if kind == "submanifold" else 2)
    swapped = [{(i, o) for o, i in pairs} for pairs in expected]
    if kind == "submanifold":
        assert kernel_map.backward is kernel_map.forward and kernel_map.mirrored
        assert pairs_of_tiles(kernel_map.forward, True) == pairs_of_tiles(kernel_map.forward, False) == expected
        assert listed(kernel_map.forward.pairs) == expected[:13]
        assert swapped[::-1] == expected and expected[13] == {(row, row) for row in range(len(keys))}
    else:
        assert pairs_of_tiles(kernel_map.forward, True) == expected == listed(kernel_map.forward.pairs)
        assert pairs_of_tiles(kernel_map.backward, False) == swapped == listed(kernel_map.backward.pairs)


@pytest.mark.parametrize("groups", [1, 3])
def test_tiles_are_the_rows_sorted_and_their_live_offsets_the_union(groups) -> None:
    table = geometry.find_neighbours(random_keys(10, count=300))
    num_rows = table.shape[1]
    tiles = geometry.make_tiles(table, groups)
    rows = tiles.order - num_rows * torch.arange(groups)[:, None]
    assert torch.equal(rows.sort(dim=1).values, torch.arange(num_rows).expand(groups, -1))
    num_tiles = -(-num_rows // geometry.TILE)
    assert tiles.masks.shape[1] % 4 == 0 and not tiles.masks[:, num_tiles:].any()
    for group, part in enumerate(table.split(27 // groups)):
        for tile, of_tile in enumerate(rows[group].split(geometry.TILE)):
            live = (part[:, of_tile] >= 0).any(1)
            assert int(tiles.masks[group, tile]) == sum(1 << k for k, alive in enumerate(live.tolist()) if alive)
        assert tiles.groups_of.bitwise_right_shift(group).bitwise_and(1).tolist() == (part >= 0).any(0).tolist()
        of_group = tiles.neighbours.split(27 // groups)[group]
        assert torch.equal(of_group[:, :num_rows], part[:, rows[group]]) and (of_group[:, num_rows:] == -1).all()


@pytest.mark.parametrize("groups", [1, 3])
def test_rows_follow_a_gray_code(groups) -> None:
    """Along the code one bit changes at a time: 0, 1, 11, 10, 110 and so on."""
    table = geometry.find_neighbours(random_keys(10, count=80))
    bits = geometry.significance(27, groups)
    for group, part in enumerate(table.split(27 // groups)):
        masks = [sum(1 << bit for bit, n in zip(bits, row, strict=True) if n >= 0) for row in part.T.tolist()]
        place = [sum(((mask >> bit).bit_count() & 1) << bit for bit in range(27)) for mask in masks]
        assert all(code ^ (code >> 1) == mask for code, mask in zip(place, masks, strict=True))
        expected = sorted(range(len(place)), key=lambda row, place=place: -place[row])
        assert (geometry.make_tiles(table, groups).order[group] - group * len(place)).tolist() == expected


@pytest.mark.parametrize("groups", [1, 3])
def test_products_are_those_counted(groups) -> None:
    """The masks of the tiles, put together for larger ones, tell the products that `triton_counts` prints."""
    keys = rough_surface(40)
    tiles = geometry.make_tiles(geometry.find_neighbours(keys), groups)
    live = live_offsets(keys)
    for rows in (64, 128, 256):
        masks = tiles.masks.view(groups, -1, rows // 64)
        together = [[0 if not tile else functools.reduce(int.__or__, tile) for tile in g] for g in masks.tolist()]
        assert rows * sum(mask.bit_count() for group in together for mask in group) == computed_products(
            live, rows, groups
        )


def test_levels_save_products_and_sorting_does() -> None:
    """On a rough surface as on a scan, few of the products by level are wasted, in tiles of any size."""
    keys = rough_surface(200)
    live = live_offsets(keys)
    needed = int(live.sum())
    unsorted = 64 * sum(int(rows.any(1).sum()) for rows in live.split(64, dim=1))
    for rows, most in ((64, 1.2), (128, 1.3), (256, 1.4)):
        by_level, together = (computed_products(live, rows, groups) / needed for groups in (3, 1))
        assert by_level < min(most, 0.8 * together), (rows, by_level, together)
        assert together < 0.75 * unsorted / needed


def test_bits_of_offsets_are_distinct_and_rare_ones_high() -> None:
    bits = geometry.significance(27)
    assert sorted(bits) == list(range(27))
    assert bits[13] == 0, "every row has the centre"
    assert min(bits[:9] + bits[18:]) > max(bits[9:18]), "level surfaces have few voxels above each other"
    assert all(bits[corner] > bits[4] for corner in (0, 2, 6, 8))
    assert geometry.significance(8) == tuple(range(8))
