"""Adds the repository to the path of imports, for tools that are run as files from any folder.

A tool begins with

    if __name__ == "__main__":  # before what takes seconds to import
        if not __package__:  # run as a file, and not with -m
            import _root  # noqa: F401
        from utils.command.start import begin

        begin()
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
