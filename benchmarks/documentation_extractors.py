"""How much of the embedded documentation's text each extractor keeps, and in what time.

Both get the same HTML: pages that enough others link to, without the blocks that `documentation.cut` takes
out. A character counts when it is no white space. What the quick extractor keeps is not all good text, so the
share says how much the usual one loses against it and not which text is better.

    gpt2 corpus build --out corpus
    python benchmarks/documentation_extractors.py corpus
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from gpt2.corpus.documents import read_documents
from gpt2.corpus.extract.methods import by_resiliparse, by_trafilatura
from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.site.documentation import RULES


def main() -> None:
    """Extract every kept page twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of `gpt2 corpus build` without arguments")
    corpus = parser.parse_args().corpus
    wanted = {d.url for d in read_documents(corpus / "documents" / "documents.parquet")}
    kept, seconds = {"fast": 0, "default": 0}, {"fast": 0.0, "default": 0.0}
    pages = 0
    for page in (page for path in warc_files(corpus / "pages") for page in read_pages(path)):
        if page.url not in wanted:
            continue
        html, pages = page.text, pages + 1
        for pattern in RULES.values():
            html = pattern.sub("", html)
        for name, extractor in (("fast", by_resiliparse), ("default", by_trafilatura)):
            begun = time.perf_counter()
            text = extractor(html, page.url)
            seconds[name] += time.perf_counter() - begun
            kept[name] += sum(not c.isspace() for c in text)
    print(f"{pages} pages")
    for name in kept:
        print(f"{name:8} {kept[name]:12,} characters {seconds[name]:8.1f} s")
    print(f"default keeps {kept['default'] / kept['fast']:.0%} of what fast keeps")


if __name__ == "__main__":
    main()
