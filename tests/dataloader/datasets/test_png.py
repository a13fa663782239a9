"""PNG files give the pixels, and the errors, that Pillow alone gives."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from dataloader.datasets import png
from dataloader.datasets.camera import read_image
from dataloader.datasets.png import Png
from tests.support.png import CHANNELS, DEPTHS, SIGNATURE, chunk, chunks_of, header, write_png
from utils.errors import UserError

PALETTE = chunk(b"PLTE", bytes(range(48)) * 16)
HARMLESS = b"".join(
    chunk(name, body)
    for name, body in {
        b"gAMA": bytes(4),
        b"cHRM": bytes(range(32)),
        b"sRGB": b"\0",
        b"pHYs": struct.pack(">IIB", 3000, 3000, 1),
        b"tIME": struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5),
    }.items()
)
TEXT = chunk(b"tEXt", b"Comment\0made up")


def noise(height: int, width: int, bits: int, kind: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (height, width, CHANNELS[kind]))


def by_pillow(path: Path, size=None):
    """What is read if every file is left to Pillow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Png, "read", lambda *_: None)
        return outcome(path, size)


def outcome(path: Path, size=None):
    try:
        return read_image(path, size)
    except UserError as error:
        return str(error)


def same(one, other) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and one == other
    return one.dtype == other.dtype and np.array_equal(one, other)


@pytest.fixture(params=["as installed", "without isal"])
def inflater(request, monkeypatch) -> None:
    if request.param == "without isal":
        monkeypatch.setattr(png, "zlib", zlib)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "image.png"


KINDS = [(kind, bits) for kind, depths in DEPTHS.items() for bits in depths]
ROWS = {
    "none": [0],
    "sub": [1],
    "up": [2],
    "average": [3],
    "paeth": [4],
    "quick": [1, 2, 2, 0, 2, 1, 1],
    "all": range(5),
}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filters", ROWS)
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_every_kind_of_picture_is_that_of_pillow(inflater, file, kind, bits, filters, interlaced) -> None:
    before = chunk(b"PLTE", (bytes(range(48)) * 16)[: 3 << bits]) if kind == 3 else b""
    samples = noise(13, 17, bits, kind)
    file.write_bytes(write_png(samples, bits, kind, ROWS[filters], interlaced, before, parts=3))
    found = read_image(file)
    assert same(found, by_pillow(file))
    assert same(read_image(file, (7, 5)), by_pillow(file, (7, 5)))
    if (kind, bits) == (2, 8):
        assert np.array_equal(found, samples)
    parsed = Png.read(file, 1 << 20)
    assert (parsed is None) == interlaced
    assert parsed is None or parsed.is_quick == (max(ROWS[filters]) < 3 and (kind, bits) == (2, 8))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (200, 300)])
def test_pictures_of_any_size_and_the_parts_of_them(inflater, file, height, width) -> None:
    """The largest is more than one block when it is stored."""
    samples = noise(height, width, 8, 2)
    rng = np.random.default_rng(1)
    for filters in ([0, 1, 2], [2], rng.integers(0, 3, height), rng.integers(0, 5, height)):
        file.write_bytes(write_png(samples, 8, 2, filters, parts=int(rng.integers(1, 6)), level=1))
        assert np.array_equal(read_image(file), samples)
        parsed = Png.read(file, 1 << 20)
        assert parsed is not None
        for _ in range(10 * parsed.is_quick):
            top, left = rng.integers(height), rng.integers(width)
            right = rng.integers(left, width + 3)
            assert np.array_equal(parsed.pixels(top, left, right), samples[top:, left:right])


RGB = write_png(noise(9, 11, 8, 2), 8, 2, [1])
PIXELS = noise(9, 11, 8, 2)
STREAM = next(body for name, body in chunks_of(RGB) if name == b"IDAT")
ROW_BYTES = zlib.decompress(STREAM)


def of_stream(stream: bytes, width: int = 11, height: int = 9, bits: int = 8, kind: int = 2) -> bytes:
    return SIGNATURE + header(width, height, bits, kind) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def split(*pieces: bytes) -> bytes:
    return SIGNATURE + header(11, 9, 8, 2) + b"".join(pieces) + chunk(b"IEND", b"")


def spoiled(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DATA, END = RGB.index(b"IDAT"), RGB.index(b"IEND")
HALVES = chunk(b"IDAT", STREAM[:50]), chunk(b"IDAT", STREAM[50:])
HOSTILE = {
    "simple chunks": write_png(PIXELS, 8, 2, [1], before=HARMLESS, after=HARMLESS[16:60]),
    "text": write_png(PIXELS, 8, 2, [1], before=TEXT, after=TEXT),
    "transparent colour": write_png(PIXELS, 8, 2, [1], before=chunk(b"tRNS", bytes(6))),
    "transparent colour, too short": write_png(PIXELS, 8, 2, [1], before=chunk(b"tRNS", bytes(1))),
    "transparent colour after all": write_png(PIXELS, 8, 2, [1], after=chunk(b"tRNS", bytes(6))),
    "palette beside RGB": write_png(PIXELS, 8, 2, [1], before=chunk(b"PLTE", bytes(9))),
    "no palette": write_png(noise(9, 11, 8, 3), 8, 3),
    "short palette": write_png(noise(9, 11, 8, 3), 8, 3, before=chunk(b"PLTE", bytes(9))),
    "palette after all": write_png(noise(9, 11, 8, 3), 8, 3, after=chunk(b"PLTE", bytes(range(9)))),
    "short gamma": write_png(PIXELS, 8, 2, [1], before=chunk(b"gAMA", b"\0")),
    "short size of pixels": write_png(PIXELS, 8, 2, [1], before=chunk(b"pHYs", b"")),
    "unknown chunk": write_png(PIXELS, 8, 2, [1], before=chunk(b"abCd", b"x"), after=chunk(b"ABCD", b"x")),
    "no name": write_png(PIXELS, 8, 2, [1], before=chunk(b"\0\1\2\3", b"x")),
    "empty IDAT": split(chunk(b"IDAT", b""), *HALVES, chunk(b"IDAT", b"")),
    "IDAT apart": split(HALVES[0], HARMLESS[:16], HALVES[1]),
    "no IDAT": split(),
    "two headers": split(header(3, 3, 8, 2), *HALVES),
    "wrong checksum of the header": spoiled(RGB, 30),
    "wrong checksum of the data": spoiled(RGB, END - 8),
    "wrong checksum of the end": spoiled(RGB, len(RGB) - 1),
    "wrong sum of the rows": of_stream(spoiled(STREAM, len(STREAM) - 1)),
    "no sum of the rows": of_stream(STREAM[:-4]),
    "cut within the rows": of_stream(STREAM[: len(STREAM) // 2]),
    "cut within the file": RGB[: DATA + 40],
    "without its end": RGB[: END - 4],
    "more after its end": RGB + b"more",
    "more after the stream": of_stream(STREAM + b"more"),
    "two streams": of_stream(STREAM + STREAM),
    "a row too few": of_stream(zlib.compress(ROW_BYTES[:-34])),
    "a row too many": of_stream(zlib.compress(ROW_BYTES + bytes(34))),
    "a byte too many": of_stream(zlib.compress(ROW_BYTES + b"\0")),
    "a bomb": of_stream(zlib.compress(bytes(50_000_000), 9)),
    "no compression": of_stream(zlib.compress(ROW_BYTES, 0)),
    "a small window": of_stream(zlib.compressobj(9, zlib.DEFLATED, 9).compress(ROW_BYTES)),
    "deflate alone": of_stream(zlib.compress(ROW_BYTES)[2:-4]),
    "a dictionary": of_stream(b"\x78\xbb\0\0\0\1" + STREAM[2:]),
    "an odd window": of_stream(b"\x88\x1c" + STREAM[2:]),
    "an odd method": of_stream(b"\x77\x85" + STREAM[2:]),
    "filter 5": of_stream(zlib.compress(b"\5" + ROW_BYTES[1:])),
    "filter 255": of_stream(zlib.compress(ROW_BYTES[:34] + b"\xff" + ROW_BYTES[35:])),
    "3 bits": of_stream(STREAM, bits=3),
    "24 bits of grey": of_stream(STREAM, bits=24, kind=0),
    "kind 5": of_stream(STREAM, kind=5),
    "palette of 16 bits": of_stream(STREAM, bits=16, kind=3),
    "no columns": of_stream(STREAM, width=0),
    "no rows": of_stream(STREAM, height=0),
    "negative": of_stream(STREAM, width=1 << 31),
    "too wide": of_stream(STREAM, width=12),
    "too high": of_stream(STREAM, height=10),
    "too many pixels": of_stream(STREAM, width=10_000, height=10_000),
    "nothing": b"",
    "the first bytes": RGB[:20],
    "a JPEG": b"\xff\xd8\xff\xe0" + RGB,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_judged_by_pillow(inflater, file, name) -> None:
    file.write_bytes(HOSTILE[name])
    assert same(outcome(file), by_pillow(file))
    assert same(outcome(file, (5, 4)), by_pillow(file, (5, 4)))
    if name == "simple chunks":
        parsed = Png.read(file, 1 << 20)
        assert parsed is not None and np.array_equal(parsed.pixels(), PIXELS)


@pytest.mark.parametrize("kind", [2, 3, 6])
def test_chance_damage_is_judged_by_pillow(inflater, file, kind) -> None:
    """Half of the files have right checksums all the same: then it is the stream that is damaged."""
    content = write_png(noise(12, 15, 8, kind), 8, kind, ROWS["quick"], before=PALETTE if kind == 3 else b"")
    stream = next(body for name, body in chunks_of(content) if name == b"IDAT")
    rng = np.random.default_rng(kind)
    read = 0
    for number in range(120):
        damaged = bytearray(content if number % 2 else stream)
        for place in rng.integers(0, len(damaged), rng.choice([1, 2, 8])):
            damaged[place] = rng.integers(256)
        before = header(15, 12, 8, kind) + (PALETTE if kind == 3 else b"")
        end = chunk(b"IEND", b"")
        file.write_bytes(damaged if number % 2 else SIGNATURE + before + chunk(b"IDAT", bytes(damaged)) + end)
        found = outcome(file)
        assert same(found, by_pillow(file))
        read += not isinstance(found, str)
    assert 0 < read < 100
