"""Flags of several values, and files that stand behind them."""

from __future__ import annotations

import itertools

import pytest

from utils.command.flags import Parser, add_network_flags


def parser() -> Parser:
    made = Parser()
    made.add_argument("files", nargs="+")
    made.add_argument("--format", nargs="+", choices=("label", "ply"), default=["label"])
    made.add_argument("--view", action="store_true")
    made.add_argument("--output")
    add_network_flags(made)
    return made


PARTS = (
    ["--gpu", "0", "1"],
    ["--set", "a.b=1", "c=x.bin"],
    ["--format", "label", "ply"],
    ["--view"],
    ["--output", "out.bin"],
    ["one.bin"],
    ["two 2.pcd", "3"],
)


def test_files_are_found_wherever_they_stand():
    for order in itertools.islice(itertools.permutations(PARTS), 0, None, 37):
        found = parser().parse_args([text for part in order for text in part])
        files = [part for part in order if part in (PARTS[5], PARTS[6])]
        assert found.files == [name for part in files for name in part], order
        assert (found.gpu, found.set, found.format) == ([0, 1], ["a.b=1", "c=x.bin"], ["label", "ply"])
        assert found.view and found.output == "out.bin"


@pytest.mark.parametrize(
    "arguments, files, cpu",
    [
        (["--cpu", "a.bin"], ["a.bin"], 1),
        (["--cpu", "2", "a.bin"], ["a.bin"], 2),
        (["--cpu=2", "7"], ["7"], 2),
        (["a.bin", "--cpu", "--", "--b.bin"], ["a.bin", "--b.bin"], 1),
        (["--cpu", "2", "3"], ["3"], 2),
        (["--cp", "2", "a.bin"], ["a.bin"], 2),
        (["--cp", "a.bin", "--vie", "b.bin", "--out", "o", "--form", "ply", "c.bin"], ["a.bin", "b.bin", "c.bin"], 1),
    ],
)
def test_a_number_behind_a_flag_is_its_own_and_a_name_is_a_file(arguments, files, cpu):
    found = parser().parse_args(arguments)
    assert (found.files, found.cpu) == (files, cpu)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpu", "x", "a.bin"],
        ["--view"],
        ["a.bin", "--nosuch"],
        ["a.bin", "--set"],
        ["--cpu", "1,2", "a.bin"],
        ["--cpu", "nan,0,0", "a"],
    ],
)
def test_what_is_wrong_is_said(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_parser_without_files_is_as_before():
    made = Parser()
    add_network_flags(made)
    assert made.parse_args(["--gpu", "0", "1", "--cpu", "2"]).gpu == [0, 1]
    with pytest.raises(SystemExit):
        made.parse_args(["--cpu", "a.bin"])
