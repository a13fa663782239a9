"""Labels LiDAR scans with the model.onnx beside this file, with NumPy and ONNX Runtime alone.

    python run_onnx.py scan.bin --output scan.label
    labels, confidence = run_onnx.Model("folder")(points)  # (N, 4) float32: x, y, z in metres, intensity

model.onnx has the arithmetic; here is the geometry, as lists of rows: which points share a voxel, which voxels are
neighbours. A voxel is an int64 key with 16 bits for each of y, x and z: key + 1 is the next in z.
"""

import argparse
import json
from collections import namedtuple
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

STEPS = np.array([1 << 16, 1 << 32, 1])  # what a step in x, y or z adds to a key
HALVED = 0x7FFF_7FFF_7FFF  # the bits of key >> 1 without those that one coordinate shifts into the next
FORWARD = [1, *(STEPS @ (x, y, z) for y, x in ((0, 1), (1, -1), (1, 0), (1, 1)) for z in (-1, 0, 1))]  # half of 26
Distinct = namedtuple("Distinct", "values first inverse counts")


class Model:
    """The model in a folder; `about` is its model.json, with the names, colors and raw_ids of the classes."""

    def __init__(self, folder: str | Path = Path(__file__).parent, threads: int = 0) -> None:
        try:
            about = self.about = json.loads(Path(folder, "model.json").read_text(encoding="utf-8"))
            content = Path(folder, "model.onnx").read_bytes()
            if about["format_version"] != 1 or about["files"]["model.onnx"]["sha256"] != sha256(content).hexdigest():
                raise ValueError("model.onnx, model.json and run_onnx.py do not belong together")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{folder}: holds no exported model ({error}); export it again") from None
        self.low, self.high = np.array(self.about["volume"] or [[-np.inf] * 3, [np.inf] * 3], np.float32)
        (options := onnxruntime.SessionOptions()).intra_op_num_threads = threads  # 0: one for each core
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N,) uint8 classes, 0 for no return, and (N,) float32 confidences, 0 for those outside the volume."""
        points = np.array(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 4:
            raise ValueError(f"points must have the shape (N, 4), not {points.shape}")
        labels, confidence, xyz = np.zeros(len(points), np.uint8), np.zeros(len(points), np.float32), points[:, :3]
        points[:, 3] = np.nan_to_num(points[:, 3], posinf=0, neginf=0)
        there = np.isfinite(xyz).all(1) & xyz.any(1)
        inside = there & ((xyz > self.low) & (xyz < self.high)).all(1)
        if inside.any():
            rows, (label, certain, _) = self.predict(points[inside])
            labels[inside], confidence[inside] = label[rows], certain[rows]
        elif len(points):
            raise ValueError(f"none of {len(points)} points is a return inside the volume {self.low} to {self.high} m")
        if (outside := there & ~inside).any():
            labels[outside] = labels[inside][nearest(xyz[inside], xyz[outside])]
        return labels, confidence

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns, for points inside the volume, rows (N,) into label, confidence and logits, and these three."""
        feeds = Feeds()
        rows = (feeds.scales if "scales" in self.about else feeds.levels)(points, self.about)
        found = [np.asarray(each) for each in self.session.run(["label", "confidence", "logits"], feeds)]
        if not np.isfinite(found[2]).all():
            raise ValueError("the network's outputs are NaN or infinite; export another checkpoint")
        return rows, found


def distinct(keys: np.ndarray) -> Distinct:
    """Returns the distinct keys in order, the first row and the number of each, and the row there of each key."""
    return Distinct(*np.unique(keys, return_index=True, return_inverse=True, return_counts=True))


class Feeds(dict):
    """The inputs of the model."""

    def scales(self, points: np.ndarray, about: dict) -> np.ndarray:
        """Adds those of 2DPASS; returns the row of the outputs for each point. Its scales do not nest."""
        (low, high), grid, xyz = np.array(about["volume"], np.float32), np.array(about["grid"]), points[:, :3]
        scales, size = dict.fromkeys(about["scales"]), np.array(about["voxel_size"], np.float32)
        cells = {s: np.floor(np.ceil(grid / s).astype(np.float32) * (xyz - low) / (high - low)) for s in (1, *scales)}
        sets = {scale: distinct(cell.astype(np.int64) @ STEPS) for scale, cell in cells.items()}
        mean = np.stack([np.bincount(sets[1].inverse, axis) for axis in xyz.T], 1) / sets[1].counts[:, None]
        offsets = xyz - mean.astype(np.float32)[sets[1].inverse], xyz - (cells[1] * size + low)
        self["points"] = np.concatenate([points, *offsets], 1)
        self.sums("points.1", np.argsort(sets[1].inverse, kind="stable"), sets[1].counts)
        for scale in (1, *about["scales"][:-1]):
            groups = distinct(sets[scale].values >> 1 & HALVED)
            self.neighbours(f"neighbours.{scale}", sets[scale].values)
            self.sums(f"pool.{scale}", np.argsort(groups.inverse, kind="stable"), groups.counts)
            self[f"pool.{scale}.back"] = groups.inverse
        tuples = distinct(np.zeros(len(points), np.int64))  # of the voxels of a point at all scales
        for fine, coarse in zip((1, *scales), scales, strict=False):
            width = len(sets[fine].values)
            pairs = distinct(sets[coarse].inverse * width + sets[fine].inverse)
            target = pairs.values // width  # each fine voxel counts once for each point that it shares with the coarse
            shares = pairs.counts / sets[coarse].counts[target]
            self.sums(f"mean.{coarse}", pairs.values % width, np.bincount(target), shares)
            tuples = distinct(tuples.inverse * len(sets[coarse].values) + sets[coarse].inverse)
        self.update({f"tuples.{scale}": sets[scale].inverse[tuples.first] for scale in scales})
        return tuples.inverse

    def levels(self, points: np.ndarray, about: dict) -> np.ndarray:
        """Adds those of MinkowskiNet and SPVCNN; returns the row of the outputs for each point. Five levels nest."""
        cell = np.rint(points[:, :3] / np.float32(about["voxel_size"])).clip(-(2.0**40), 2.0**40).astype(np.int64)
        some = np.sort(cell[:: -(-len(cell) // 4096)], 0)
        cell = (cell - some[len(some) // 2]).clip(-16382, 16382)  # from the middle: one far away moves no other
        finest = distinct((cell - cell.min(0)) @ STEPS)
        self["voxels"] = points[finest.first]
        self.neighbours("neighbours.0", finest.values)
        keys, row = finest.values, np.arange(len(finest.values))  # row: of the voxel that holds each of the finest
        for level in range(1, 5):
            coarse, octants = distinct(keys >> 1 & HALVED), (keys & 1) * 4 + (keys >> 32 & 1) * 2 + (keys >> 16 & 1)
            fine, counts = np.argsort(octants, kind="stable"), np.bincount(octants, minlength=8)
            parents, start = coarse.inverse[fine], np.zeros_like(coarse.values)
            self._add(f"halves.{level}", fine=fine, parents=parents, octants=counts, start=start)
            keys, row = coarse.values, coarse.inverse[row]
            self.neighbours(f"neighbours.{level}", keys)
            if about["architecture"] == "spvcnn" and level in (2, 4):
                self.sums(f"points.{level}", np.argsort(row, kind="stable"), np.bincount(row))
                # part: how far each of the finest voxels is on the way to the next voxel of this level
                part = [(finest.values >> shift & (1 << level) - 1) / (1 << level) for shift in (0, 32, 16)]
                self._add(f"trilinear.{level}", row=row, part=np.stack(part, 1).astype(np.float32))
        return finest.inverse

    def _add(self, name: str, **lists: np.ndarray) -> None:
        self.update({f"{name}.{key}": values for key, values in lists.items()})

    def neighbours(self, name: str, keys: np.ndarray) -> None:
        """Adds the voxels with a neighbour at each of the 13 offsets after them, and its row; the others mirror it."""
        rows, padded = [np.searchsorted(keys, keys + step) for step in FORWARD], np.append(keys, -1)
        here = [np.flatnonzero(padded[row] == keys + step) for row, step in zip(rows, FORWARD, strict=True)]
        there = [row[of] for row, of in zip(rows, here, strict=True)]
        self._add(name, here=np.concatenate(here), there=np.concatenate(there), counts=np.array([*map(len, here)]))

    def sums(self, name: str, rows: np.ndarray, counts: np.ndarray, shares: np.ndarray | None = None) -> None:
        """Adds weighted sums, by default means, of `counts` rows each, which are padded to 1, 2, 4, ... rows."""
        shares = np.repeat(1 / counts, counts) if shares is None else shares
        bits = np.ceil(np.log2(counts)).astype(np.int64)
        order, width = np.argsort(bits, kind="stable"), 1 << np.sort(bits)
        target, place = np.repeat(order, width), np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
        real = place < counts[target]
        at = (np.cumsum(counts) - counts)[target] + place * real
        sizes = np.bincount(bits, 1 << bits, 31).astype(np.int64)
        self._add(name, rows=rows[at], shares=(shares[at] * real).astype(np.float32), sizes=sizes, order=order)


def nearest(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns the row of the nearest of points (M, 3) to each query (Q, 3), exactly, by a tree of boxes of 8 boxes."""
    cells = ((points - points.min(0)) * (255 / max(np.ptp(points, 0).max(), 1e-6))).astype(np.int64)
    order = np.argsort(sum((cells >> k & 3) @ [1, 4, 16] << 3 * k for k in (0, 2, 4, 6)), kind="stable")
    boxes = [(points[order].astype(np.float64),) * 2]
    while len(boxes[-1][0]) > 1:
        ends = np.arange(0, len(boxes[-1][0]), 8)
        boxes.append((np.minimum.reduceat(boxes[-1][0], ends), np.maximum.reduceat(boxes[-1][1], ends)))
    queries, found = queries * np.minimum(1e5 / np.abs(queries).max(1, keepdims=True), 1), []  # then rounding rules
    for part in np.split(queries.astype(np.float64), range(1 << 14, len(queries), 1 << 14)):
        best, bound = np.zeros(len(part), np.int64), np.full(len(part), np.inf)
        who, box = np.arange(len(part)), np.zeros(len(part), np.int64)  # the boxes that may hold the nearest of whom
        for depth, (low, high) in reversed([*enumerate(boxes)]):
            who, box = who[box < len(low)], box[box < len(low)]
            first, query = box << 3 * depth, part[who]
            distance = ((boxes[0][0][first] - query) ** 2).sum(1)  # to one point of the box: the nearest is no farther
            closer = np.flatnonzero(distance < bound[who])
            closer = closer[np.argsort(-distance[closer])]  # the nearest is written last
            best[who[closer]], bound[who[closer]] = first[closer], distance[closer]
            gap = np.maximum(np.maximum(low[box] - query, query - high[box]), 0)
            left = np.flatnonzero((gap**2).sum(1) < bound[who])
            who, box = np.repeat(who[left], 8), (box[left, None] * 8 + np.arange(8)).ravel()
        found.append(order[best])
    return np.concatenate(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Labels a LiDAR scan with the model.onnx beside this file.")
    parser.add_argument("scan", help=".bin: float32 x, y, z, intensity; .pcd.bin of nuScenes: and a fifth column")
    parser.add_argument("--output", required=True, help="file for the labels: the raw id of each point as uint32")
    flags = parser.parse_args()
    try:
        content, columns = np.fromfile(flags.scan, np.uint8), 5 if flags.scan.endswith(".pcd.bin") else 4
        if len(content) % (4 * columns):
            raise ValueError(f"{flags.scan}: its {len(content)} bytes are no points of {columns} float32 each")
        if (target := Path(flags.output)).exists() and (target.samefile(flags.scan) or not target.is_file()):
            raise ValueError(f"{target}: is the scan, or no file; choose another --output")
        model, points = Model(), content.view("<f4").reshape(-1, columns)[:, :4]
        labels, _ = model(points)
        with TemporaryDirectory(dir=target.parent) as beside:  # the file appears whole or not at all
            (part := Path(beside, "part")).write_bytes(np.array(model.about["raw_ids"], "<u4")[labels].tobytes())
            part.replace(target)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    for label in np.argsort(-(counts := np.bincount(labels)))[: np.count_nonzero(counts)]:
        print(f"  {model.about['names'][label]:24} {counts[label]:14,} {100 * counts[label] / len(labels):6.2f} %")
    seen = points[labels > 0].astype(float)
    found = {"intensity": seen[:, 3], "height": seen[:, 2], "range": np.sqrt((seen[:, :3] ** 2).sum(1))}
    for name, (low, high) in model.about["usual"].items() if len(seen) > 500 else ():
        if not low < (here := np.median(found[name])) < high:
            print(f"note: the median {name} is {here:.3g}, {low:.3g} to {high:.3g} fit: another unit or frame?")
