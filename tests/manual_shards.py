"""A fixture that tests of training share: shards of a part of Python's own manual."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import pytest

from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import write_shards


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first forty topics, of which one is held out, in a vocabulary of 400."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    documents = [(name, name, text[:3000]) for name, text in sorted(topics.items())[:40]]
    write_shards(documents, Tokenizer(Tokenizer.gpt2().pairs[:143]), folder, {documents[3][0]})
    return folder
