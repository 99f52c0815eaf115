"""The native kernels under address and undefined-behaviour sanitizers.

Builds `decode.cpp` with both sanitizers and runs the kernels' tests on that library: every kind of weights, every
instruction set of this processor, shapes that fill no tile, several threads, cuts and copies. A read one byte
beyond a buffer ends the run, be it in the tail of the last tile. The interpreter itself is not instrumented, so
the sanitizers' runtime is loaded before it, and leaks, which are the interpreter's, are not looked for.

    python -m acceptance.sanitizers
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gpt2.inference.kernels.build import compile_library, compiler, paths

OPTIONS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O1",
    "-g",
)


def main() -> None:
    """Build, test, and exit with the tests' status."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "decode-sanitized.so"
        compile_library(library, OPTIONS)
        runtimes = [
            subprocess.run(
                [compiler(), f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
            )
            for name in ("asan", "ubsan")
        ]
        environment = {
            **os.environ,
            "GPT2_KERNELS": str(library),
            "LD_PRELOAD": " ".join(run.stdout.strip() for run in runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        print(f"instruction sets: {', '.join(paths())}; options: {' '.join(OPTIONS)}", flush=True)
        chosen = "equal or same_bits or cut_text or refused or no_number or whole_head"
        tests = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--timeout=3000",
            "tests/test_kernels.py",
            "-k",
            chosen,
        ]
        status = subprocess.run(tests, env=environment, check=False).returncode
    print("no error of memory or undefined behaviour" if status == 0 else "FAILED: see above", flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
