from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dataloader.formats.json_records import Fields, read_records
from utils.errors import UserError


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_records(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 400
    return message


RECORDS = [{"token": str(n), "text": 'é\u2028 {}[]," ' * (n % 90), "list": [[n, -1.5e-7], None]} for n in range(4500)]


@pytest.mark.parametrize(
    "layout", [{}, {"indent": 0}, {"indent": 3}, {"separators": (",", ":")}, {"ensure_ascii": False}]
)
def test_the_records_are_those_of_json(tmp_path, layout):
    """The file is longer than the pieces in which it is read."""
    path = tmp_path / "table.json"
    path.write_text("\n " + json.dumps(RECORDS, **layout) + "\r\n\t ")
    assert path.stat().st_size > 5 << 19
    assert list(read_records(path)) == RECORDS


@pytest.mark.parametrize("text", ["[]", " [ ] \n"])
def test_no_records(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    assert list(read_records(tmp_path / "table.json")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[{}",
        "[{},",
        "[{},]",
        "[{}] x",
        "[{}][",
        "[,{}]",
        "[{} {}]",
        "[{},,{}]",
        "\ufeff[]",
        "{",
        "nul",
        "[] []",
    ],
)
def test_what_is_not_json(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    assert "not valid JSON" in refusal(tmp_path / "table.json")


@pytest.mark.parametrize(
    "content",
    [
        b'[{"token": "\xff"}]',
        b"[" * 100_000,
        b'[{"a": ' + b"[" * 100_000,
        b'[{"a": ' + b"9" * 5000 + b"e}]",
        b'[{"a": "' + b"x" * 3_000_000 + b'"}]',
        b"[{}" + b" " * 3_000_000 + b"]",
    ],
    ids=["no text", "deep", "deep inside", "long number", "record without end", "space without end"],
)
def test_what_is_not_json_on_purpose(tmp_path, content):
    (tmp_path / "table.json").write_bytes(content)
    assert "table.json: not" in refusal(tmp_path / "table.json")


@pytest.mark.parametrize("text", ["{}", "3", "null", '"text"', "[1]", "[{}, []]", "[null]", "[NaN]", "  {} "])
def test_what_is_no_list_of_records(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    assert "not a list of records" in refusal(tmp_path / "table.json")


def test_what_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name, word in (("pipe", "not an ordinary file"), ("folder", "Is a directory"), ("nothing", "No such file")):
        assert word in refusal(tmp_path / f"{name}.json")


@pytest.mark.parametrize(
    ("record", "word"),
    [
        ({"token": "abc", "count": True}, "count of the record abc must be a whole number, not True"),
        ({"token": "abc", "count": 1.0}, "count of the record abc must be a whole number, not 1.0"),
        ({"token": "abc"}, "the record abc has no count"),
        ({"token": "a\n\x1b[0m", "count": "3"}, r"count of the record 'a\n\x1b[0m' must be a whole number, not 3"),
        ({"count": 3}, "the record {'count': 3} has no token"),
        ({"token": ["x" * 10**6], "count": 3}, "token of the record ['xxx"),
    ],
)
def test_fields_of_the_wrong_type(record, word):
    with pytest.raises(UserError) as caught:
        Fields(Path("table.json"), token=str, count=int)(record)
    message = str(caught.value)
    assert message.startswith("table.json: ") and word in message and message.isprintable() and len(message) < 300
