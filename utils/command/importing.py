"""The import of the libraries that compute, once all that can be refused without them has been."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Lets the garbage collector rest while torch and other large libraries are imported inside.

    It would look through their growing number of objects again and again, and once more at the end of the program: half
    a second for torch. They stay until then in any case, so it does not look at them any more. Where torch is there
    already, nothing is done: what is garbage by now would never be collected.
    """
    if "torch" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
