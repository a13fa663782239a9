"""Text from files made harmless: no control character reaches a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text on one line, with everything that a terminal would obey or cannot show written as \x1b, \n or \udcff.

    Args:
        text: may hold anything that a file, a path or a key held.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and three dots: at most `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
