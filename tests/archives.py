"""Archives for tests: some of ours, and where the records of any end."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.fetch.warc_writer import Response, WarcWriter

ARCHIVES = [
    *["IAH-urls-wget.warc.gz", "aut-example.warc.gz", "cc.warc.gz", "example-iana.org-chunked.warc"],
    *["example.arc", "example.warc.gz", "iana.warc.gz", "whirlwind.warc.gz", "whirlwind.warc.wet.gz"],
]


def written(path: Path, *bodies: str) -> bytes:
    """A WARC file of ours with these pages."""
    path.parent.mkdir(exist_ok=True, parents=True)
    writer = WarcWriter(path.parent, 10**9)
    for i, body in enumerate(bodies):
        headers = (("Content-Type", "text/html"),)
        writer.write(Response(f"http://example.org/{i}", body.encode(), headers=headers))
    writer.close()
    [made] = warc_files(path.parent)
    return made.replace(path).read_bytes()


def members(data: bytes) -> list[int]:
    """Where each member of a gzip file ends."""
    ends, at = [], 0
    while at < len(data):
        inflate = zlib.decompressobj(31)
        inflate.decompress(data[at:])
        at = len(data) - len(inflate.unused_data)
        ends.append(at)
    return ends


def record_ends(data: bytes) -> list[int]:
    """Where each record of a WARC or ARC file ends."""
    if data.startswith(b"\x1f\x8b"):
        return members(data)
    if data.startswith(b"WARC/"):
        return [*[m.start() for m in re.finditer(rb"WARC/1\.\d\r\nWARC-", data)][1:], len(data)]
    heads = re.finditer(rb"^(filedesc|https?)://\S+ .* (\d+)\n", data, re.M)
    return [m.end() + int(m[2]) for m in heads]
