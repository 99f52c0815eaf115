"""Compiles `decode.cpp` when it is first needed, keeps the library, and loads it.

The file is compiled once for each instruction set of `PATHS` (about three seconds each, side by side) into one
library that runs on every processor of the machine's family; `load` takes the best set that this processor
has. The library lies in the user's cache folder under a name made of the source's digest and the compiler's
options, so a new version builds its own and an old one is never loaded by mistake. It is written beside its
name and renamed, so that two processes that build at once do no harm. Rejected: `-march=native`, whose library
stops with an illegal instruction on the next machine that shares the home folder.

    python -c "from gpt2.inference.kernels.build import load, best_path; load(); print(best_path())"
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from gpt2.errors import MissingExtra

SOURCE = Path(__file__).with_name("decode.cpp")
COMMON = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi")
PATHS = {
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vnni -mf16c",
    "avx2": "-mavx2 -mf16c",
    "portable": "",
}
"""Instruction sets, the best first, with what the compiler is told of them."""


def paths() -> list[str]:
    """The instruction sets that this processor has, the best first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["portable"]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ["portable"]
    flags = next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())
    have = {flag.replace("avx512_", "avx512") for flag in flags}
    return [name for name, wanted in PATHS.items() if {w.removeprefix("-m") for w in wanted.split()} <= have]


def best_path() -> str:
    """The instruction set that `load` takes unless told otherwise."""
    return paths()[0]


def cache_folders() -> list[Path]:
    """Where libraries are kept: the user's cache, or what the system has for passing files."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [Path(home) / "gpt2-workbench", Path(tempfile.gettempdir()) / f"gpt2-workbench-{os.getuid()}"]


def compiler() -> str:
    """The C++ compiler's command."""
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and shutil.which(name):
            return name
    raise MissingExtra(
        "the fast engine is compiled when it is first used, and there is no C++ compiler here: "
        "install g++ (or name yours in CXX), or generate with --dtype float32"
    )


def compile_library(target: Path, options: tuple[str, ...] = ()) -> None:
    """Build the library at `target`, which appears whole or not at all."""
    command, names = compiler(), list(PATHS) if platform.machine() in ("x86_64", "AMD64") else ["portable"]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
        jobs = []
        for name in names:
            object_file = Path(folder) / f"{name}.o"
            flags = [*COMMON, *options, *PATHS[name].split(), f"-DPATH={name}"]
            jobs.append(
                subprocess.Popen(
                    [command, *flags, "-c", str(SOURCE), "-o", str(object_file)],
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        complaints = [job.communicate()[1] for job in jobs]
        if any(job.returncode for job in jobs):
            raise MissingExtra(
                f"{command} could not compile the fast engine ({' '.join(complaints).strip()[:300]}); "
                "install a g++ of version 12 or later, or generate with --dtype float32"
            )
        library = Path(folder) / target.name
        objects = [str(Path(folder) / f"{name}.o") for name in names]
        subprocess.run([command, "-shared", *options, *objects, "-pthread", "-o", str(library)], check=True)
        library.replace(target)


def built() -> Path:
    """The library's place, after building it if need be."""
    text = SOURCE.read_bytes() + repr((COMMON, PATHS, platform.machine())).encode()
    name = f"decode-{hashlib.sha256(text).hexdigest()[:16]}.so"
    places = [folder / name for folder in cache_folders()]
    for place in places:
        if place.exists() and place.stat().st_uid == os.getuid():
            return place
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place.parent.stat().st_uid == os.getuid():
                compile_library(place)
                return place
        except OSError:
            continue
    raise MissingExtra(
        f"the fast engine's library can be written neither to {places[0].parent} nor to {places[1].parent}; "
        "set XDG_CACHE_HOME to a folder of yours, or generate with --dtype float32"
    )


@functools.cache
def load(path: str | None = None, library: str | None = None) -> dict[str, ctypes._NamedFuncPointer]:
    """The library's functions for an instruction set, by name: open, step, copy, close.

    `library` is another build's file. Raises `MissingExtra` where it cannot be built.
    """
    path = path or best_path()
    so = ctypes.CDLL(library or str(built()))
    functions = {name: getattr(so, f"gpt2_{name}_{path}") for name in ("open", "step", "copy", "close")}
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    functions["open"].restype = pointer
    functions["open"].argtypes = [pointer] * 5
    functions["step"].restype = number
    functions["step"].argtypes = [pointer, number, pointer, pointer, pointer, pointer, number, pointer]
    functions["copy"].restype = None
    functions["copy"].argtypes = [pointer, number, number, number]
    functions["close"].restype = None
    functions["close"].argtypes = [pointer]
    return functions
