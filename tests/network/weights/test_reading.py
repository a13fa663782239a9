"""Files that are not checkpoints, or that contain more, are refused in one line, and nothing in them is run."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from network.weights.loading import canonical_state
from network.weights.pickled import FOREIGN_CLASSES, FOREIGN_RECORDS, NUMPY_NAMES, StandIn
from network.weights.reading import read_checkpoint
from tests.support.networks import refusal
from utils.errors import UserError


class Attack:
    """An object that pickles as a call of `function`."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["top", "state_dict", "key", "hyper_parameters"])
@pytest.mark.parametrize("command", ["system", "open", "exec", "getattr"])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, command, place) -> None:
    trap, path = tmp_path / "trap", tmp_path / "x.ckpt"
    attack, culprit = {
        "system": (Attack(os.system, f"touch {trap}"), f"{os.name}.system"),
        "open": (Attack(open, str(trap), "w"), "io.open"),
        "exec": (Attack(exec, f"open({str(trap)!r}, 'w')"), "exec"),
        "getattr": (Attack(getattr, trap, "touch"), "getattr"),
    }[command]
    content = {"state_dict": {"w": torch.zeros(1)}}
    content |= {"top": {"x": attack}, "key": {(1, attack): 2}}.get(place, {place: {"x": attack}})  # type: ignore[dict-item]
    for legacy in (False, True):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        message = refusal(read_checkpoint, path)
        assert message.startswith(f"{path}: refused") and f"{culprit})" in message
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickle_is_not_run(tmp_path, protocol, recwarn) -> None:
    trap, path = tmp_path / "trap", tmp_path / "x.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Attack(os.system, f"touch {trap}")}, protocol=protocol))
    assert str(path) in refusal(read_checkpoint, path)
    assert not trap.exists()
    assert not recwarn, "the error is one line, without warnings before it"


def write_pickle(path: Path, opcodes: bytes) -> None:
    """Writes a checkpoint file in torch's format with a hand-written pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02" + opcodes + b".")
        file.writestr("x/version", "3\n")
        file.writestr("x/byteorder", "little")


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


@pytest.mark.parametrize("name", (*FOREIGN_CLASSES, *FOREIGN_RECORDS, *NUMPY_NAMES))
def test_allowed_names_can_do_nothing(tmp_path, name) -> None:
    """Calling them, making objects of them and giving these a state results in inert data or a refusal."""
    trap, path = tmp_path / "trap", tmp_path / "x.ckpt"
    module, _, last = name.rpartition(".")
    what = f"c{module}\n{last}\n".encode()
    command = text(f"touch {trap}")
    attacks = {
        "call": what + command + b"\x85R",
        "call with two": what + command + command + b"\x86R",
        "call with keywords": what + b"}" + text("shell") + b"\x88s\x85R",
        "new": what + command + b"\x85\x81",
        "state": what + b")\x81}" + text("__class__") + command + text("__reduce__") + command + b"\x86" + b"b",
        "state over methods": what + b")\x81}" + text("__setstate__") + command + b"sb",
        "entries": what + b")\x81" + text("x") + command + b"s",
        "itself": what,
        "method": f"c{module}\n{last}.__init__\n".encode(),
        "attack as argument": what + b"cposix\nsystem\n" + command + b"\x85R\x85R",
        "attack as state": what + b")\x81cposix\nsystem\n" + command + b"\x85Rb",
    }
    for way, attack in attacks.items():
        write_pickle(path, b"}" + text("x") + attack + b"s")
        try:
            content = read_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert "attack" not in way and way != "method"
            assert not callable(content["x"]) or way == "itself"
        assert not trap.exists(), way


def test_damaged_bytes_end_in_one_line_or_in_data(tmp_path) -> None:
    """Whatever a damaged or hostile pickle contains, the only error is `UserError`."""
    path, rng = tmp_path / "x.ckpt", random.Random(0)
    torch.save({"state_dict": {"a.b": torch.ones(2, 3)}, "n": np.float64(1), "list": [1, {"k": (1.5, None)}]}, path)
    with zipfile.ZipFile(path) as file:
        whole = next(file.read(name) for name in file.namelist() if name.endswith("data.pkl"))
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(whole[2:-1])
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        write_pickle(path, bytes(damaged))
        try:
            outcomes.add(type(canonical_state(read_checkpoint(path), path)))
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            outcomes.add(UserError)
    assert UserError in outcomes


BROKEN = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    "html": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "zeros": bytes(1000),
    "pickle": pickle.dumps([1, 2], protocol=2),
    "zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_checkpoint(tmp_path, kind) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(BROKEN[kind])
    assert refusal(read_checkpoint, path).startswith(f"{path}: ")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_file(tmp_path, share, legacy) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"w": torch.randn(500)}}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    message = refusal(read_checkpoint, path)
    # A name that is cut short looks like a foreign one; torch's present format has its end checked first.
    assert message.startswith(f"{path}: not a checkpoint file" if not legacy else f"{path}: ")


def test_missing_file_and_directory(tmp_path) -> None:
    for path in (tmp_path / "nothing.ckpt", tmp_path):
        message = refusal(read_checkpoint, path)
        assert message.startswith(f"{path}: no such checkpoint file") and "--checkpoint" in message


@pytest.mark.parametrize("content", [[torch.ones(1)], torch.ones(1), "text", 3])
def test_checkpoint_must_be_a_mapping(tmp_path, content) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert type(content).__name__ in refusal(read_checkpoint, tmp_path / "x.ckpt")


# ---- formats


def sample() -> dict:
    """Makes weights of several types and layouts, and settings of several kinds."""
    shared = torch.arange(12.0)
    return {
        "state_dict": OrderedDict(
            a=torch.randn(3, 4),
            b=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            c=torch.nn.Parameter(torch.ones(2)),
            d=torch.tensor(7),
            e=torch.zeros(0, 3),
            f=torch.randn(5, dtype=torch.float64),
            g=torch.randn(5).half(),
            h=torch.randn(5).bfloat16(),
            i=shared[2:8:2],
            j=shared.view(3, 4).t(),
        ),
        "numbers": [1, -1, 255, 70_000, 5 * 10**9, -(10**12), 0.5, float("inf"), True, None, (1,), (1, 2, 3, 4)],
        "texts": {"ü": "é" * 300, "": b"\xff\x00", "none": b""},
        3: torch.Size([2, 3]),
    }


def assert_equal(found, expected) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected) and (found.dtype, found.stride()) == (expected.dtype, expected.stride())
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    else:
        assert found == expected


@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path, options) -> None:
    torch.save(sample(), tmp_path / "x.ckpt", **options)
    assert_equal(read_checkpoint(tmp_path / "x.ckpt"), torch.load(tmp_path / "x.ckpt", weights_only=False))


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_paths_of_every_python_are_read(tmp_path, module) -> None:
    """Python 3.13 has another name for the module than the versions before and after it."""
    write_pickle(
        tmp_path / "x.ckpt",
        b"}(" + text("folder") + f"c{module}\nPosixPath\n".encode() + text("a") + text("b") + b"\x86R"
        + text("n") + b"K\x03u",
    )  # fmt: skip
    content = read_checkpoint(tmp_path / "x.ckpt")
    assert content["n"] == 3 and content["folder"] == StandIn(f"{module}.PosixPath")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_numbers_of_every_numpy_are_read(tmp_path, module, order) -> None:
    torch.save({"x": np.array(0.1, order + "f8")[()]}, tmp_path / "y.ckpt")
    dtype = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffK\x00tb"
    data = b"c_codecs\nencode\n" + text(np.array(0.1, order + "f8").tobytes().decode("latin-1")) + text("latin1")
    write_pickle(
        tmp_path / "x.ckpt", b"}" + text("x") + f"c{module}\nscalar\n".encode() + dtype + data + b"\x86R\x86Rs"
    )
    assert read_checkpoint(tmp_path / "x.ckpt") == read_checkpoint(tmp_path / "y.ckpt") == {"x": 0.1}


# ---- damage


def test_one_wrong_byte_in_any_record_is_found(tmp_path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.randn(300), "b": torch.randn(7, 9)}}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        records = [info for info in file.infolist() if "/data" in info.filename]
    assert len(records) == 3
    for info in records:
        begin = whole.index(info.filename.encode(), info.header_offset) + len(info.filename)
        extra = int.from_bytes(whole[info.header_offset + 28 : info.header_offset + 30], "little")
        for place in (0, info.file_size // 2, info.file_size - 1):
            damaged = bytearray(whole)
            damaged[begin + extra + place] ^= 1
            path.write_bytes(damaged)
            assert "damaged" in refusal(read_checkpoint, path), info.filename


def test_files_that_cannot_be_read_say_so(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.ckpt"
    os.mkfifo(path)
    assert "not an ordinary file" in refusal(read_checkpoint, path)
    path.unlink()
    torch.save({}, path)

    def refuse(*_) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(read_checkpoint, path).startswith(f"{path}: cannot be read (Permission denied)")


# ---- small files that would be large in memory


def peak_memory() -> int:
    """Measures the largest memory of this process since the last call, in MiB."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(peak.split()[1]) >> 10


def write_zip(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in records.items():
            file.writestr(f"x/{name}", data)


def storage_pickle(count: int, size: bytes, stride: bytes) -> bytes:
    """Makes the pickle of one tensor `w` over a storage of `count` float32."""
    persistent = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(count) + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + b"K\x00" + size + stride + b"\x89"
    return b"\x80\x02}" + text("w") + rebuild + b"ccollections\nOrderedDict\n)RtRs."


def number(value: int) -> bytes:
    """Encodes an int of four bytes."""
    return b"J" + value.to_bytes(4, "little")


BIG = 1_500_000_000


def write_bomb(path: Path, kind: str) -> None:
    header, end = b"\x80\x02}" + text("x"), b"s."
    encoded = b"c_codecs\nencode\nh\x00" + text("latin1") + b"\x86R"
    pickles = {
        "bytearray": header + b"cbuiltins\nbytearray\n" + number(BIG) + b"\x85R" + end,
        "numpy number": header + b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text(f"V{BIG}")
        + b"\x89\x88\x87R\x85R" + end,
        "one text many times": header + b"](" + text("x" * 1_000_000) + b"q\x00" + encoded * 1000 + b"e" + end,
        "a large index": header + b"Nr\xff\xff\xff\x7f" + end,
        "stride 0": storage_pickle(1, b"(" + number(BIG) + b"t", b"(K\x00t"),
    }  # fmt: skip
    if kind in pickles:
        write_zip(path, {"data.pkl": pickles[kind], "data/0": bytes(16)})
    elif kind in ("deflated values", "bzip2 values"):
        method = zipfile.ZIP_DEFLATED if kind.startswith("deflated") else zipfile.ZIP_BZIP2
        pickled = storage_pickle(1 << 26, b"(" + number(1 << 26) + b"t", b"(K\x01t")
        write_zip(path, {"data.pkl": pickled, "data/0": bytes(1 << 28)}, method)
    elif kind == "released stride 0":
        name = "model_3d.spv_enc.0.v_enc.0.layers.0.weight"
        torch.save({name: torch.zeros(1).expand(1000, 10, 10, 10, 1000)}, path)
    elif kind == "one storage under many names":
        values = torch.zeros(500_000)
        views = [values.view(50, 1, 1, 1, -1) for _ in range(2000)]
        torch.save({f"model_3d.spv_enc.0.v_enc.{i}.layers.0.weight": view for i, view in enumerate(views)}, path)
    elif kind == "one tensor under many names":
        values = torch.zeros(10, 20, 20, 20, 6).transpose(1, 3)
        torch.save({f"model_3d.spv_enc.0.v_enc.{i}.layers.0.weight": values for i in range(1000)}, path)
    elif kind == "legacy":
        torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
        old, new = (b"M\xe8\x03", number(BIG))
        path.write_bytes(path.read_bytes().replace(old, new))
    else:
        raise ValueError(kind)


BOMBS = (
    "bytearray", "numpy number", "one text many times", "a large index", "stride 0", "deflated values", "bzip2 values",
    "released stride 0", "one storage under many names", "one tensor under many names", "legacy",
)  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells the memory of a process on Linux only")
@pytest.mark.parametrize("kind", BOMBS)
def test_small_files_stay_small(tmp_path, kind) -> None:
    path = tmp_path / "x.ckpt"
    write_bomb(path, kind)
    assert path.stat().st_size < 4_000_000
    gc.collect()
    peak_memory()
    before = peak_memory()
    try:
        canonical_state(read_checkpoint(path), path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert kind == "a large index"
    assert peak_memory() - before < 150
