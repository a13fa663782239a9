"""The former name of tools/view.py."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from tools.view import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
