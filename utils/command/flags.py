"""Flags of the commands: what argparse lacks."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.command.terminal import printable, shortened

LARGEST = 10**9
MAX_SEED = 2**32 - 1
"""What numpy, torch and Lightning take."""


class Parser(argparse.ArgumentParser):
    """argparse's, but an empty text is no value, and an error quotes what was typed without control characters."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Refuse empty arguments: a variable of a script that is not set would be a flag that was not given."""
        arguments = list(sys.argv[1:] if args is None else args)
        for number, text in enumerate(arguments):
            if not text or re.fullmatch(r"--\w+=", text):
                before = arguments[number - 1] if not text and number else text.rstrip("=")
                self.error(f"an empty text behind {before or 'the command'}; give a value, or leave out the flag")
        return super().parse_known_args(arguments, namespace)

    def error(self, message: str) -> NoReturn:
        """Print usage and message to stderr, and exit with code 2."""
        super().error(printable(message))


def count(lowest: int, highest: int = LARGEST) -> Callable[[str], int]:
    """An argparse type: a whole number from `lowest` to `highest`."""

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
