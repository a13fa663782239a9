"""Flags of the commands, and what argparse lacks for them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.fetching.references import FORMS
from utils.text import printable, shortened

DEFAULT_CONFIG = "config/2DPASS-semantickitti.yaml"
"""The config of a training without --config."""

LARGEST = 10**9
MAX_SEED = 2**32 - 1
"""The largest seed that numpy, torch and Lightning all accept."""


EXIT_CODES = """\
exit codes: 0 done; 2 something that can be corrected, said in one line; 130, 143, 138 stopped by Ctrl-C, SIGTERM,
SIGUSR1 (128 + the signal's number); 141 nobody reads the output any more; 1 a fault of the program, with its
traceback"""


class Parser(argparse.ArgumentParser):
    """A parser of argparse that refuses empty values and explains the exit codes in its help.

    What begins with a minus and a digit is a value, such as `--center -3,4,5`; argparse knows only plain numbers.
    Its messages quote what was typed without control characters. Description and epilog are shown as they are written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shown_as_written = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, **{"epilog": EXIT_CODES, "formatter_class": shown_as_written, **kwargs})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parses the arguments, and refuses empty ones, which come from unset variables in scripts."""
        arguments = list(sys.argv[1:] if args is None else args)
        for number, text in enumerate(arguments):
            if not text or re.fullmatch(r"--\w+=", text):
                before = arguments[number - 1] if not text and number else text.rstrip("=")
                self.error(f"an empty text behind {before or 'the command'}; give a value, or leave out the flag")
        arguments = _with_their_flags(arguments)
        has_files = any(not action.option_strings and action.nargs == "+" for action in self._actions)
        return super().parse_known_args(self._files_last(arguments) if has_files else arguments, namespace)

    def _files_last(self, arguments: Sequence[str]) -> list[str]:
        """Moves the arguments that belong to no flag to the end, in their order.

        By itself argparse takes all texts behind `--gpu 0` for further devices, also the name of a file, and takes
        files in one place only.
        """
        flags, files, rest = [], [], list(arguments)
        while rest:
            text = rest.pop(0)
            if text == "--":
                files += rest
                break
            action = self._action_of(text)
            if action is None:
                (flags if text.startswith("-") and text != "-" else files).append(text)
                continue
            flags.append(text)
            taken, most = 0, {None: 1, "?": 1, "+": len(rest), "*": len(rest), 0: 0}.get(action.nargs, 0)
            while "=" not in text and rest and taken < most and not self._is_flag(rest[0]):
                needed = action.nargs is None or (action.nargs == "+" and not taken)
                if not needed and not self._accepts(action, rest[0]) and not _is_list_of_numbers(rest[0]):
                    break
                flags.append(rest.pop(0))
                taken += 1
        return [*flags, "--", *files] if files else flags

    def _is_flag(self, text: str) -> bool:
        return text.startswith("--") or text in self._option_string_actions

    def _action_of(self, text: str) -> argparse.Action | None:
        """Returns what a text asks for, if it is a flag, or the beginning of one flag only: --out for --output."""
        name = text.partition("=")[0]
        if name in self._option_string_actions or not text.startswith("--"):
            return self._option_string_actions.get(name)
        meant = {action for flag, action in self._option_string_actions.items() if flag.startswith(name)}
        return meant.pop() if len(meant) == 1 else None

    def _accepts(self, action: argparse.Action, text: str) -> bool:
        """Returns whether a text can be a value of a flag."""
        try:
            value = self._get_value(action, text)
        except argparse.ArgumentError:
            return False
        return action.choices is None or value in action.choices

    def error(self, message: str) -> NoReturn:
        """Prints usage and message to stderr, and exits with code 2."""
        super().error(printable(message))


def _is_list_of_numbers(text: str) -> bool:
    """Returns whether a text is meant as numbers, right or wrong, and is no file: 1,2 or nan,0,0."""
    return re.fullmatch(r"(?:[-+\d./eE]*|[-+]?nan|[-+]?inf)(?:,(?:[-+\d./eE]*|[-+]?nan|[-+]?inf))+", text) is not None


def _with_their_flags(arguments: list[str]) -> list[str]:
    """Joins values that begin with a minus, and are not plain numbers, to the flag before them: --flag=-1,2."""
    joined: list[str] = []
    for text in arguments:
        if joined and re.fullmatch(r"--\w+", joined[-1]) and re.fullmatch(r"-[\d.].*[,/eE].*", text):
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


def count(lowest: int, highest: int = LARGEST) -> Callable[[str], int]:
    """Returns an argparse type for whole numbers from `lowest` to `highest`."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        wrong = not (digits.isascii() and digits.isdigit())
        # Python refuses to read thousands of digits.
        if wrong or len(digits) > 18 or not lowest <= int(text) <= highest:
            bounds = f"of {lowest} or more" if highest == LARGEST else f"from {lowest} to {highest}"
            if not wrong and len(digits) <= 18 and int(text) > highest == LARGEST:
                bounds = f"of {highest} or less"
            raise argparse.ArgumentTypeError(f"{shortened(text, 40)!r} is not a whole number {bounds}")
        return int(text)

    return parse


def override(text: str) -> str:
    """Checks that a value of --set is KEY=VALUE, as far as can be seen without a config; it is an argparse type."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{shortened(text, 40)!r} is not KEY=VALUE; write the key, = and the value")
    return text


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the commands that run a network on a data set."""
    add_network_flags(parser)
    parser.add_argument(
        "--debug",
        action="store_true",
        help="the first hundred items of each split, without loader processes; nuScenes: v1.0-mini",
    )
    lost = "seconds after which a process of the run that does not answer counts as lost, and all end (default 1800)"
    parser.add_argument("--peer_timeout", type=count(1), metavar="S", help=lost)
    parser.add_argument("--baseline_only", action="store_true", help="use the 3D network alone")


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of every command that runs a network."""
    parser.add_argument(
        "--config",
        "--config_path",
        metavar="YAML",
        help=f"the experiment; default: for a test the config in the checkpoint, else {DEFAULT_CONFIG}",
    )
    parser.add_argument(
        "--set",
        type=override,
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override keys of the config",
    )
    parser.add_argument(
        "--gpu", type=count(0), nargs="+", default=[0], metavar="ID", help="CUDA devices, one process each"
    )
    parser.add_argument(
        "--cpu", type=count(1), nargs="?", const=1, metavar="N", help="run on the CPU, in N processes (default 1)"
    )
    parser.add_argument(
        "--num_nodes",
        type=count(1),
        default=1,
        metavar="N",
        help="machines; torchrun or SLURM starts the processes",
    )
    precisions, cuda_only = ("32", "tf32", "bf16", "16"), "precision of the arithmetic; tf32 and 16 need CUDA"
    parser.add_argument("--precision", choices=precisions, default="32", help=cuda_only)
    seeded = "seed of the weights, the order of the scans and the augmentation"
    parser.add_argument("--seed", type=count(0, MAX_SEED), default=0, help=seeded)
    parser.add_argument("--log_dir", default="default", metavar="NAME", help="name of the run: logs/<dataset>/<NAME>")
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        help=f"checkpoint to resume from or to test: {FORMS}",
    )
