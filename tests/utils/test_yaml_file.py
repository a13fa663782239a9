"""YAML that is not meant well ends in half a sentence, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from utils.yaml_file import MAX_BYTES, YamlError, parse_yaml, read_yaml


def aliases(item: str) -> str:
    """Nine levels, each of nine aliases of the one before: 9^9 values."""
    lines = [f"a0: &a0 {item}"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} " + item.replace("x: 1", ", ".join([f"*a{level - 1}"] * 9)))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (aliases("[x: 1]"), "more than 20000 values"),
        ("a0: &a0 {x: 1}\n" + "\n".join(
            f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)), "more than 20000 values"),
        ("&a [*a]", "a value that contains itself"),
        ("a: &a {b: {c: *a}}", "a value that contains itself"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ("[" * 2000, "nested too deeply"),
        ("a: 1\nb: 2\na: 3", "line 3: the key a stands twice"),
        ("a:\n  b: [{c: 1, c: 1}]", "line 2: the key c stands twice"),
        ('a: 1\n"a": 2', "line 2: the key a stands twice"),
        ("10: 1\n0xA: 2", "line 2: the key 0xA stands twice"),
        ("yes: 1\ntrue: 2", "line 2: the key true stands twice"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "line 2: the key << stands twice, give it a list"),
        ("a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}", "line 2: the key y stands twice"),
        ("a: !!bool foo", "line 1: no valid bool"),
        ("!!timestamp foo", "no valid timestamp"),
        ("2001-99-99", "no valid timestamp"),
        ("!!int foo", "no valid int"),
        ("9" * 5000, "no valid int"),
        ("!!float 1.2.3", "no valid float"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ('"\\e[31m": 1', "a control character"),
        ('"a\\0b"', "a control character"),
        ('"\\ud800"', "a control character"),
        ("a: \x1b", "special characters are not allowed"),
        ("? [a]\n: 1", "unhashable key"),
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_plain_values() -> None:
    text = "a: &a [1, 2.5, 1e-3, true, null, x]\nb: *a\nc: {<<: &d {e: 1, f: 2}, f: 3}\n? <<\n: *d"
    found = parse_yaml(text)
    assert found == {"a": [1, 2.5, 0.001, True, None, "x"], "b": found["a"], "c": {"e": 1, "f": 3}, "e": 1, "f": 2}
    assert parse_yaml("a: &a {x: 1}\nb: {<<: [*a, {x: 2, y: 3}], y: 4}")["b"] == {"x": 1, "y": 4}  # the first, the own
    assert parse_yaml("") is None
    without = text.replace("1e-3", "x")  # of YAML 1.1, which PyYAML reads
    assert parse_yaml(without) == yaml.safe_load(without)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "mark") == {"a": 1}
    (tmp_path / "other").write_bytes(b"a: \xff")
    with pytest.raises(YamlError, match="not a text file in UTF-8"):
        read_yaml(tmp_path / "other")
    (tmp_path / "large").write_text("# " + "x" * MAX_BYTES)
    with pytest.raises(YamlError, match="larger than 256 KiB"):
        read_yaml(tmp_path / "large")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not an ordinary file"):
        read_yaml(tmp_path / "pipe")
