"""CRC-32C, the checksum in TensorFlow's files.

Python has none, and a loop over bytes would take minutes for a model. But checksums are linear, so here the
data is halved with numpy until one word is left: some 3 ns a byte, 2 seconds for the 124M. Rejected: a
library for it, for the sake of one format; and leaving weights unverified.

    python -c "from gpt2.model.formats.crc32c import crc32c; print(hex(crc32c(b'123456789')))"    # 0xe3069283
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

POLYNOMIAL = 0x82F63B78  # Castagnoli's, lowest bit first
BEFORE = (0x641F6454).to_bytes(4, "little")  # reading it, a register of zeros becomes one of ones
CHUNK = 2**20

Words = npt.NDArray[np.uint32]


def crc32c(data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """CRC-32C of bytes.

    Reading a word w, the register r becomes T(r ^ w), where T, 32 steps of the polynomial, is linear. So of
    two words T(T(a) ^ b) is left, and with T(a) ^ b for each two neighbours there are half as many words, to
    be read with T twice; and so on. The register begins with ones, which is as if `BEFORE` stood before the
    data; zeros before that change nothing and make the words whole.
    """
    octets = np.frombuffer(data, np.uint8)
    rest = len(octets) % CHUNK
    first = np.concatenate([np.zeros(-rest % 4, np.uint8), np.frombuffer(BEFORE, np.uint8), octets[:rest]])
    register = read_words(first.view("<u4"))
    for start in range(rest, len(octets), CHUNK):
        words = octets[start : start + CHUNK].copy().view("<u4")
        words[0] ^= register
        register = read_words(words)
    return register ^ 0xFFFFFFFF


def read_words(words: Words) -> int:
    """The register, zero before, after these words."""
    level = 0
    while len(words) > 1:
        if len(words) % 2:
            words = np.concatenate([np.zeros(1, np.uint32), words])
        words = steps(level, words[0::2]) ^ words[1::2]
        level += 1
    return int(steps(0, words)[0])


def steps(level: int, words: Words) -> Words:
    """T, done 2 ** level times, of each word."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    low, *others = (t.take(octets[:, i], mode="clip") for i, t in enumerate(step_tables(level)))
    return functools.reduce(np.bitwise_xor, others, low)


@functools.cache
def step_tables(level: int) -> list[Words]:
    """What `steps` makes of each value of a word's first, second, third and fourth byte."""
    images = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level:
        images = steps(level - 1, steps(level - 1, images))
    else:
        for _ in range(32):
            images = (images >> np.uint32(1)) ^ (images & np.uint32(1)) * np.uint32(POLYNOMIAL)
    tables = []
    for eight in images.reshape(4, 8):
        values = np.zeros(1, np.uint32)
        for image in eight:
            values = np.concatenate([values, values ^ image])
        tables.append(values)
    return tables


def masked(crc: int) -> int:
    """A checksum as files keep it: turned by 15 bits, plus a constant (LevelDB's util/crc32c.h)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
