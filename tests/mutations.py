"""Damaged models by the hundred, each opened in a process that may take little memory and little time.

    python -W error tests/mutations.py FORMAT MODEL FILE ROUNDS

MODEL is a file or folder of the format, FILE the file of it that is damaged, again and again from the whole.
Each must be refused with a `WorkbenchError` or open as a model whose every weight is finite and of its shape.
"""

from __future__ import annotations

import importlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ABSURD = [b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\xff\xff\xff\x7f", b"\x00" * 8, b"\x00\x00\xc0\x7f" * 16]
"""Lengths and numbers that cannot be: largest of 64 and 32 bits, nothing, a row of NaN."""
NUMBERS = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b'"x"',
    b"[]",
    b"4294967295",
    b"99999999999999999999",
    b"7",
]
MEMORY = 2**30
"""Bytes a damaged file may cost."""
SECONDS = 20


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """The content with one to three damages, most of them near its beginning or its end, where headers are."""
    content = bytearray(whole)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        near = draw.choice([64, 512, 8192, len(content) + 1])
        at = min(draw.randrange(near), len(content))
        at = draw.choice([at, at, len(content) - at])
        length = draw.choice([1, 2, 8, 64, 1024])
        match draw.randrange(8):
            case 0:
                del content[at:]
            case 1:
                for _ in range(draw.choice([1, 1, 4, 16])):
                    if content:
                        content[min(draw.randrange(near), len(content) - 1)] ^= 1 << draw.randrange(8)
            case 2:
                absurd = draw.choice(ABSURD)
                at -= at % 4
                content[at : at + len(absurd)] = absurd
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case 5:
                other = draw.randrange(len(content) + 1)
                content[at : at + length] = content[other : other + length]
            case 6:
                content[at : at + length] = draw.randbytes(length)
            case 7:
                found = list(re.finditer(rb"[0-9.]+(?:e-?\d+)?|true|false|null", bytes(content[:16384])))
                if found:
                    place = draw.choice(found)
                    content[place.start() : place.end()] = draw.choice(NUMBERS)
    return bytes(content)


def open_all(module: Any, path: Path) -> bool:
    """Whether a path opens; every weight of it is read and held against its shape."""
    from gpt2.errors import WorkbenchError
    from gpt2.model.formats import parameter_shapes

    if not module.recognise(path):
        return False
    try:
        source = module.open_source(path)
        for name, shape in parameter_shapes(source.config).items():
            values = source.tensor(name)
            assert tuple(values.shape) == shape, name
            assert bool(values.isfinite().all()), name
    except WorkbenchError as error:
        assert str(error).strip() and len(str(error)) < 1000, f"an error without a sentence: {error}"
        return False
    assert source.tokenizer.n_vocab == source.config.vocab_size
    return True


def survived(format: str, model: Path, file: Path, rounds: int) -> tuple[int, int]:
    """How many damaged files were refused and how many opened, in a process of its own."""
    command = [sys.executable, "-W", "error", __file__, format, str(model), str(file), str(rounds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout[-500:]}\n{run.stderr[-3000:]}"
    refused, opened = map(int, run.stdout.split()[-2:])
    assert refused + opened == rounds
    return refused, opened


def main() -> None:
    """Damage, open, count; the first that is neither refused nor sound is kept and raises."""
    name, model, file, rounds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    module = importlib.import_module(f"gpt2.model.formats.{name}")
    whole, draw, opened = file.read_bytes(), random.Random(0), 0
    assert open_all(module, model), "the whole model does not open"
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for i in range(rounds):
        damaged = mutated(whole, draw)
        file.write_bytes(damaged)
        signal.alarm(SECONDS)
        try:
            opened += open_all(module, model)
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"damaged.{name}"
            kept.write_bytes(damaged)
            print(f"round {i}, kept as {kept}", file=sys.stderr)
            raise
        signal.alarm(0)
    file.write_bytes(whole)
    print(rounds - opened, opened)


if __name__ == "__main__":
    main()
