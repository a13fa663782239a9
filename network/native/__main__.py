"""Compiles the library beforehand: `python -m network.native`. A line says so, or why it cannot be done."""

from __future__ import annotations

from network.native.compiling import CompilationError, compiled
from utils.command.terminal import prepare_streams, say_error
from utils.native_switch import native_switch


def main() -> None:
    """Compiles the library, if it is not kept from an earlier time. It never fails: nothing needs the library."""
    try:
        with compiled(begins=lambda: print("native code: compiling it (once; some seconds)", flush=True)):
            pass
    except (OSError, CompilationError) as error:
        say_error(f"native code: plain PyTorch will be used instead, which is slower: {error}")


if __name__ == "__main__":
    prepare_streams()
    if native_switch() != "off":
        main()
