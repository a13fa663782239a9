"""The library is compiled from `source/` once per machine and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-pthread")
FLOOR = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt")
"""Every x86-64 CPU since 2015 has these; files without a suffix are compiled for them."""
SUFFIXES = {
    "_avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "_avx512bf16": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"),
    "_amx": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
}
"""Ending of a file's name -> further flags. Such a file is called only on CPUs that have these instructions, so it
must not instantiate templates or inline functions of the standard library: the linker keeps one copy for all files."""


def compiled() -> Path:
    """Compiles the library if the cache does not hold it, and returns its path."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise OSError("there is no g++ and no clang++ on the PATH")
    files = sorted(SOURCE.iterdir())
    digest = hashlib.sha256(repr((FLAGS, FLOOR, SUFFIXES, compiler, platform.machine())).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "2dpass" / "native"
    target = folder / f"{digest.hexdigest()[:24]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as workspace:
            objects = []
            for file in files:
                if file.suffix == ".cpp":
                    extra = next((flags for suffix, flags in SUFFIXES.items() if file.stem.endswith(suffix)), ())
                    objects.append(f"{workspace}/{file.stem}.o")
                    command = [compiler, *FLAGS, *FLOOR, *extra, "-c", str(file), "-o", objects[-1]]
                    subprocess.run(command, check=True)
            subprocess.run([compiler, "-shared", "-pthread", *objects, "-o", f"{workspace}/library.so"], check=True)
            os.replace(f"{workspace}/library.so", target)
    return target
