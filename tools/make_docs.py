"""Writes docs/reference/ from the code: config keys, commands, corruptions, models, data sets.

python tools/make_docs.py

`make docs` does this and builds the site. The pages are committed; a test compares them with the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from utils.command.flags import Parser
from utils.command.importing import importing
from utils.command.process import run_command
from utils.command.terminal import say
from utils.files import read_text, write_text
from utils.paths import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this tool's command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=REFERENCE, metavar="FOLDER", help="folder of the pages (docs/reference)"
    )
    return parser


def main(arguments: Sequence[str]) -> None:
    """Writes every page, and prints which ones have changed."""
    folder: Path = build_parser().parse_args(arguments).output
    with importing():
        from tools.documenting.pages import PAGES

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((name, write()) for name, write in PAGES.items()):
        path = folder / name
        changed = not path.is_file() or read_text(path) != text
        if changed:
            write_text(path, text)
        say(f"{path}: {'written' if changed else 'as it was'}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
