"""Labels LiDAR scans with the model.onnx beside this file; needs nothing but NumPy and ONNX Runtime.

    python run_onnx.py scan.bin --output scan.label

    from run_onnx import Model
    labels, confidence = Model("folder")(points)    # (N, 4) float32 x, y, z (metres), intensity -> (N,) and (N,)

Points are in the frame and the units of the training (model.json has its statistics). The network's arithmetic is in
model.onnx; here are the voxels: which points fall into which, and which are neighbours, as lists of rows. A voxel is a
whole number, its key: y, x and z with 16 bits each, so that sorted keys are voxels in order and key + 1 is the next in z.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

STEPS = np.array([1 << 16, 1 << 32, 1])  # what one step in x, y and z adds to a key
LEVELS = 5  # of the voxel networks, each of half the resolution of the one before
WIDTHS = 31  # groups of rows are padded to 1, 2, 4, ... 2^30


class Refusal(Exception):
    """An error in a file or in the points, which the user can correct."""


class Model:
    """The model in a folder; names, colors and raw_ids of its classes are in `about`."""

    def __init__(self, folder=Path(__file__).parent, threads=0):
        try:
            self.about = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
            content, expected = (Path(folder) / "model.onnx").read_bytes(), self.about["files"]["model.onnx"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{folder}: holds no exported model ({error}); export it again") from None
        if self.about["format_version"] != 1 or hashlib.sha256(content).hexdigest() != expected:
            raise Refusal(f"{folder}: model.onnx, model.json and run_onnx.py are of different exports; export it again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 weights become float32 now, once
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names, self.raw_ids = self.about["names"], np.array(self.about["raw_ids"], np.uint32)

    def __call__(self, points):
        """Returns the class of each point, (N,) uint8, and its confidence, (N,) float32.

        A row (0, 0, 0) or with a NaN is no return: class 0. A point outside the volume has the class of the nearest
        point inside, with confidence 0.
        """
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 4:
            raise Refusal(f"points must have the shape (N, 4), not {points.shape}")
        labels, confidence = np.zeros(len(points), np.uint8), np.zeros(len(points), np.float32)
        if not len(points):
            return labels, confidence
        there = np.flatnonzero(np.isfinite(points[:, :3]).all(1) & points[:, :3].any(1))
        if not len(there):
            raise Refusal(f"none of the {len(points)} points is a return (all are NaN or 0)")
        inside, outside = there, there[:0]
        if volume := self.about["volume"]:
            low, high = (np.array(volume[end], np.float32) for end in ("low", "high"))
            within = ((points[there, :3] > low) & (points[there, :3] < high)).all(1)
            inside, outside = there[within], there[~within]
            if not len(inside):
                raise Refusal(f"no point lies inside the volume of the network, {low} to {high} m around the sensor")
        labels[inside], confidence[inside], _ = self.predict(np.nan_to_num(points[inside], posinf=0, neginf=0))
        if len(outside):
            labels[outside] = labels[inside[nearest(points[inside, :3], points[outside, :3])]]
        return labels, confidence

    def predict(self, points):
        """Returns label, confidence and logits (N, K) of points that are inside the volume, at least one."""
        if "scales" in self.about:
            feeds, inverse = scale_voxels(points, self.about)
        else:
            feeds, inverse = nested_voxels(points, self.about["voxel_size"], self.about["architecture"] == "spvcnn")
        found = self.session.run(["label", "confidence", "logits"], feeds)
        if not np.isfinite(found[2]).all():
            raise Refusal("the network's outputs are NaN or infinite; take another checkpoint")
        return [each[inverse] for each in found]


class Distinct:
    """The V distinct values of keys (N,): `values` (V,) sorted, `inverse` (N,) the row of each key among them, `order`
    (N,) the rows of the keys in the order of their values, `counts` (V,) and `begins` (V,) of each value in that order.
    """

    def __init__(self, keys):
        self.order = np.argsort(keys, kind="stable")
        ordered = keys[self.order]
        self.begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self.counts = np.diff(self.begins, append=len(keys))
        self.values, self.inverse = ordered[self.begins], np.empty(len(keys), np.int64)
        self.inverse[self.order] = np.repeat(np.arange(len(self.begins)), self.counts)


def scale_voxels(points, about):
    """2DPASS: the inputs of the model, and the row of its outputs for each point. The scales do not nest."""
    low, high = (np.array(about["volume"][end], np.float32) for end in ("low", "high"))
    cells = {s: cells_of(points, low, high, about["grid"], s) for s in dict.fromkeys([1, *about["scales"]])}
    sets = {scale: Distinct(of_points.astype(np.int64) @ STEPS) for scale, of_points in cells.items()}
    base, xyz, scales = sets[1], points[:, :3], list(sets)
    mean = np.stack([np.bincount(base.inverse, of_axis) for of_axis in xyz.T], 1) / base.counts[:, None]
    size = [(h - lo) / n for lo, h, n in zip(about["volume"]["low"], about["volume"]["high"], about["grid"])]
    corner = cells[1] * np.array(size, np.float32) + low
    offsets = [xyz - mean.astype(np.float32)[base.inverse], xyz - corner]
    feeds = {"points": np.concatenate([points, *offsets], 1), **sums("points.1", base.order, base.counts)}
    worked_on = dict.fromkeys([1, *about["scales"][:-1]])
    for scale in worked_on:
        groups = Distinct(halved(sets[scale].values))
        feeds.update(neighbours(f"neighbours.{scale}", sets[scale].values))
        feeds.update(sums(f"pool.{scale}", groups.order, groups.counts), **{f"pool.{scale}.back": groups.inverse})
    for fine, coarse in zip(scales, scales[1:]):  # the mean over the points of a coarse voxel, by way of fine voxels
        width = len(sets[fine].values)
        pairs = Distinct(sets[coarse].inverse * width + sets[fine].inverse)
        target = pairs.values // width
        shares = pairs.counts / sets[coarse].counts[target]
        feeds.update(sums(f"mean.{coarse}", pairs.values % width, np.bincount(target), shares))
    tuples = np.zeros(len(points), np.int64)  # the distinct rows at all scales together: one row of the outputs each
    for scale in dict.fromkeys(about["scales"]):
        tuples = Distinct(tuples * len(sets[scale].values) + sets[scale].inverse).inverse
    tuples = Distinct(tuples)
    example = tuples.order[tuples.begins]
    feeds.update({f"tuples.{scale}": sets[scale].inverse[example] for scale in dict.fromkeys(about["scales"])})
    return feeds, tuples.inverse


def cells_of(points, low, high, grid, scale):
    """The voxels of points inside the volume at a scale, (N, 3) float32, in float32 as in the training."""
    return np.floor(np.ceil(np.array(grid) / scale).astype(np.float32) * (points[:, :3] - low) / (high - low))


def nested_voxels(points, size, with_points):
    """MinkowskiNet and SPVCNN: the same for voxels of one size, at five levels that nest."""
    cell = np.rint(points[:, :3] / np.float32(size)).clip(-(2.0**40), 2.0**40).astype(np.int64)
    cell -= np.sort(cell[:: -(-len(cell) // 4096)], 0)[len(cell[:: -(-len(cell) // 4096)]) // 2]  # the middle
    cell = cell.clip(-16382 + 2, 16382 - 2)
    finest = Distinct((cell - cell.min(0)) @ STEPS)
    feeds = {"voxels": points[finest.order[finest.begins]], **neighbours("neighbours.0", finest.values)}
    keys, row = finest.values, np.arange(len(finest.values))  # row: of the voxel that holds each finest one
    for level in range(1, LEVELS):
        coarse, octant = Distinct(halved(keys)), (keys & 1) * 4 + (keys >> 32 & 1) * 2 + (keys >> 16 & 1)
        children = np.full((len(coarse.values), 8), len(keys))
        children[coarse.inverse, octant] = np.arange(len(keys))
        by_octant = np.argsort(octant, kind="stable")
        feeds[f"halves.{level}.children"], feeds[f"halves.{level}.parents"] = children, coarse.inverse[by_octant]
        feeds[f"halves.{level}.octants"] = np.bincount(octant, minlength=8)
        feeds[f"halves.{level}.back"] = inverted(by_octant)
        keys, row = coarse.values, coarse.inverse[row]
        feeds.update(neighbours(f"neighbours.{level}", keys))
        if with_points and level in (2, 4):
            feeds.update(sums(f"points.{level}", np.argsort(row, kind="stable"), np.bincount(row)))
            feeds.update(trilinear(f"trilinear.{level}", finest.values, keys, row, level))
    return feeds, finest.inverse


def halved(keys):
    """The keys of the voxels of twice the size."""
    return keys >> 1 & 0x7FFF_7FFF_7FFF


def inverted(order):
    """The permutation that undoes another."""
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return back


def neighbours(name, keys):
    """The pairs of neighbouring voxels: those with a neighbour at each of 13 offsets, and its row."""
    padded = np.concatenate([keys, np.full(3, np.iinfo(np.int64).max)])
    here = [np.flatnonzero(padded[1 : len(keys) + 1] == keys + 1)]
    there = [here[0] + 1]
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        target = keys + (dy * STEPS[1] + dx * STEPS[0])
        row = np.searchsorted(keys, target - 1)
        for dz in (-1, 0, 1):  # the next in z has the next row, if it is there
            hit = padded[row] == target + dz
            here.append(np.flatnonzero(hit))
            there.append(row[here[-1]])
            row = row + hit
    lists = {"here": np.concatenate(here), "there": np.concatenate(there), "counts": np.array([*map(len, here)])}
    return {f"{name}.{key}": rows for key, rows in lists.items()}


def sums(name, rows, counts, shares=None):
    """Weighted sums of rows: `counts` of them, one after another, for each sum; without shares the mean."""
    shares = np.repeat(1 / counts, counts) if shares is None else shares
    bits, begins = np.ceil(np.log2(counts)).astype(int), np.cumsum(counts) - counts
    padded, weights, order, sizes = [], [], [], np.zeros(WIDTHS, np.int64)
    for bit in np.unique(bits):
        of, place = np.flatnonzero(bits == bit), np.arange(1 << bit)
        there = place < counts[of, None]
        at = np.where(there, begins[of, None] + place, begins[of, None]).ravel()
        padded.append(rows[at])
        weights.append((shares[at] * there.ravel()).astype(np.float32))
        order.append(of)
        sizes[bit] = len(at)
    lists = {"rows": np.concatenate(padded), "shares": np.concatenate(weights), "sizes": sizes}
    return {f"{name}.{key}": e for key, e in {**lists, "order": inverted(np.concatenate(order))}.items()}


def trilinear(name, finest, keys, row, level):
    """The 8 voxels of a level around each finest voxel, and their weights, which add up to 1."""
    rows, shares = [], []
    high = [(finest >> shift & (1 << level) - 1) / (1 << level) for shift in (32, 16, 0)]  # part of the way to the next
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        wanted = keys[row] + (dy * STEPS[1] + dx * STEPS[0])
        at = np.searchsorted(keys, wanted)
        for dz in (0, 1):
            rows.append(np.minimum(at, len(keys) - 1))
            there = keys[rows[-1]] == wanted + dz
            parts = [share if step else 1 - share for share, step in zip(high, (dy, dx, dz))]
            shares.append(np.prod(parts, 0) * there)
            at = at + there
    shares = np.array(shares) / (np.sum(shares, 0) + 1e-8)
    return {f"{name}.rows": np.array(rows), f"{name}.shares": shares.astype(np.float32)}


def nearest(points, queries):
    """The row of the nearest of points (M, 3) for each query (Q, 3), exactly, through a tree of boxes of 8 boxes."""
    order = np.argsort(curve(points))
    boxes = [(points[order].astype(np.float64),) * 2]
    while len(boxes[-1][0]) > 1:
        ends = np.arange(0, len(boxes[-1][0]), 8)
        boxes.append((np.minimum.reduceat(boxes[-1][0], ends), np.maximum.reduceat(boxes[-1][1], ends)))
    found = np.empty(len(queries), np.int64)
    for begin in range(0, len(queries), 1 << 14):  # so many queries at once
        part = queries[begin : begin + (1 << 14)].astype(np.float64)
        best, bound = np.zeros(len(part), np.int64), np.full(len(part), np.inf)
        who, node = np.arange(len(part)), np.zeros(len(part), np.int64)  # boxes that may hold the nearest of a query
        for depth in range(len(boxes) - 1, -1, -1):
            low, high = boxes[depth]
            first = node << 3 * depth  # a point of the box
            distance = ((boxes[0][0][first] - part[who]) ** 2).sum(1)
            closer = np.flatnonzero(distance < bound[who])
            closer = closer[np.argsort(-distance[closer])]  # the nearest is written last
            best[who[closer]], bound[who[closer]] = first[closer], distance[closer]
            gap = np.maximum(np.maximum(low[node] - part[who], part[who] - high[node]), 0)
            open_ = np.flatnonzero((gap**2).sum(1) < bound[who])
            if depth:
                node, who = (node[open_, None] * 8 + np.arange(8)).ravel(), np.repeat(who[open_], 8)
                real = node < len(boxes[depth - 1][0])
                node, who = node[real], who[real]
        found[begin : begin + (1 << 14)] = order[best]
    return found


def curve(points):
    """The places of points on a curve that fills space (Morton's): those near each other on it are near in space."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    cells, places = ((points - low) / np.maximum(high - low, 1e-9) * 1023).astype(np.int64), 0
    for bit in range(10):
        places = places | ((cells >> bit & 1) << np.arange(3) + 3 * bit).sum(1)
    return places


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", help="a .bin of float32 x, y, z, intensity")
    parser.add_argument("--output", help="where the raw ids go, uint32 for each point; default: beside the scan")
    flags = parser.parse_args()
    try:
        content = np.fromfile(flags.scan, np.uint8)
        if len(content) % 16:
            raise Refusal(f"{flags.scan}: {len(content)} bytes are no whole number of points of 16 bytes")
        model = Model()
        labels, confidence = model(content.view("<f4").reshape(-1, 4))
        target = flags.output or str(Path(flags.scan).with_suffix(".label"))
        model.raw_ids[labels].astype("<u4").tofile(target)
    except (Refusal, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shares = np.bincount(labels, minlength=len(model.names)) / max(len(labels), 1)
    print(*(f"{share:7.2%} {name}" for name, share in zip(model.names, shares) if share), f"wrote {target}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
