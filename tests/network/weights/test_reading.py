"""Files that are no checkpoints, or more than that: refused in one line, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from network.weights.loading import canonical_state
from network.weights.pickled import FOREIGN_CLASSES, FOREIGN_RECORDS, NUMPY_NAMES
from network.weights.reading import read_checkpoint
from tests.network_support import refusal
from utils.errors import UserError


class Attack:
    """Pickles as a call of `function`."""

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
    """A checkpoint file in torch's format around a hand-written pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02" + opcodes + b".")
        file.writestr("x/version", "3\n")
        file.writestr("x/byteorder", "little")


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


@pytest.mark.parametrize("name", (*FOREIGN_CLASSES, *FOREIGN_RECORDS, *NUMPY_NAMES))
def test_allowed_names_can_do_nothing(tmp_path, name) -> None:
    """Called, made new, and given a state: the result is inert data or a refusal."""
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
    """Whatever a damaged or hostile pickle makes the reader do, only `UserError` comes out."""
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
