"""Compiles `decode.cpp` when it is first needed, keeps the library, and loads it.

The file is compiled once for each instruction set of `PATHS` (about three seconds each, side by side) into one
library that runs on every processor of the machine's family; `load` takes the best set that this processor
has. The library lies in the user's cache folder under a name made of the source's digest and the compiler's
options, so a new version builds its own and an old one is never loaded by mistake. It is written beside its
name and renamed, so that two processes that build at once do no harm. Nothing is loaded from a folder that
others may write to, and a library that cannot be loaded is built once more. Whatever fails is `MissingExtra`, on
which torch computes instead. Rejected: `-march=native`, whose library stops with an illegal instruction on the
next machine that shares the home folder.

    python -c "from gpt2.inference.kernels.build import load, paths; load(); print(paths())"
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from gpt2.console import Console
from gpt2.errors import MissingExtra

SOURCE = Path(__file__).with_name("decode.cpp")
COMMON = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi")
PATHS = {
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vnni -mf16c",
    "avx2": "-mavx2 -mf16c",
    "portable": "",
}
"""Instruction sets, the best first, with what the compiler is told of them."""
BUILDING, ABANDONED = "build-", 3600.0
"""How the folders of builds begin, and after how many seconds a build that has left one was killed."""


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


def cache_folders() -> list[Path]:
    """Where libraries are kept: the user's cache, or what the system has for passing files."""
    passing = Path(tempfile.gettempdir()) / f"gpt2-workbench-{os.getuid()}"
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        return [passing]
    return [cache / "gpt2-workbench", passing]


def ours(folder: Path) -> bool:
    """Whether this is a real folder of this user, to which nobody else may write."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


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
    """Build the library at `target`, which appears whole or not at all.

    A set that the compiler does not know is left out, as long as one of this processor's is there.
    """
    command, names = compiler(), list(PATHS) if platform.machine() in ("x86_64", "AMD64") else ["portable"]
    Console().say(f"compiling the fast engine, once, for some seconds; it is kept in {target.parent}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=BUILDING) as folder:
        objects = {name: str(Path(folder) / f"{name}.o") for name in names}
        jobs = {}
        for name in names:
            flags = [*COMMON, *options, *PATHS[name].split(), f"-DPATH={name}"]
            jobs[name] = subprocess.Popen(
                [command, *flags, "-c", str(SOURCE), "-o", objects[name]], stderr=subprocess.PIPE, text=True
            )
        complaints = {name: job.communicate()[1] for name, job in jobs.items()}
        made = [name for name, job in jobs.items() if job.returncode == 0]
        if not set(made) & set(paths()):
            raise MissingExtra(
                f"{command} could not compile the fast engine ({' '.join(complaints.values()).strip()[:300]}); "
                "install a g++ of version 12 or later, or generate with --dtype float32"
            )
        library = Path(folder) / target.name
        link = [
            command,
            "-shared",
            *options,
            *(objects[name] for name in made),
            "-pthread",
            "-o",
            str(library),
        ]
        linked = subprocess.run(link, stderr=subprocess.PIPE, text=True, check=False)
        if linked.returncode:
            raise MissingExtra(
                f"{command} could not link the fast engine ({linked.stderr.strip()[:300]}); "
                "see that it links C++ programs, or generate with --dtype float32"
            )
        with library.open("rb") as stream:
            os.fsync(stream.fileno())  # or a power cut could leave an empty file under the name
        library.replace(target)


def clear(folder: Path) -> None:
    """Remove what builds left behind that were killed long ago."""
    for left in folder.glob(f"{BUILDING}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > ABANDONED:
                shutil.rmtree(left)


def built() -> Path:
    """The library's place, after building it if need be."""
    text = SOURCE.read_bytes() + repr((COMMON, PATHS, platform.machine())).encode()
    name = f"decode-{hashlib.sha256(text).hexdigest()[:16]}.so"
    folders = cache_folders()
    for folder in folders:
        if ours(folder) and (folder / name).is_file() and not (folder / name).is_symlink():
            return folder / name
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if ours(folder):
                clear(folder)
                compile_library(folder / name)
                return folder / name
        except OSError:
            continue
    raise MissingExtra(
        f"the fast engine's library can be written to no folder of {', '.join(map(str, folders))} that is yours "
        "alone; set XDG_CACHE_HOME to one that is, or generate with --dtype float32"
    )


def opened() -> ctypes.CDLL:
    """The library; one that cannot be loaded, as after a full disk, is built once more."""
    place = built()
    try:
        return ctypes.CDLL(str(place))
    except OSError:
        try:
            place.unlink(missing_ok=True)
            return ctypes.CDLL(str(built()))
        except OSError as error:
            raise MissingExtra(
                f"the fast engine's library cannot be loaded ({error}); set XDG_CACHE_HOME to a folder of yours "
                "whose files may be executed, or generate with --dtype float32"
            ) from error


@functools.cache
def load(path: str | None = None, library: str | None = None) -> dict[str, ctypes._NamedFuncPointer]:
    """The library's functions for an instruction set, by name: open, step, copy, close; the best set if none is given.

    `library` is another build's file. Raises `MissingExtra` where it cannot be built.
    """
    so = ctypes.CDLL(library) if library else opened()
    wanted = [path] if path else paths()
    path = next((name for name in wanted if hasattr(so, f"gpt2_open_{name}")), None)
    if path is None:
        raise MissingExtra(
            f"the fast engine was compiled without the instruction set {wanted[0]}: "
            "install a g++ of version 12 or later, or generate with --dtype float32"
        )
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
