"""Functions that make text from files harmless: no control character reaches a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Returns the text on one line, with control and other unprintable characters as escapes: \x1b, \n or \udcff.

    Args:
        text: any text from a file, a path or a key.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shortened(text: str, longest: int) -> str:
    """Returns the text, or its beginning and three dots: at most `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
