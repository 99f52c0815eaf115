"""Documents to token shards (paper 2.2).

bpe.py         byte-level BPE: `Tokenizer`, its readable twin and its fast ones
vocabulary.py  vocabulary files: encoder.json, vocab.bpe, tokenizer.json
learn.py       learning merges from texts under the paper's rule
token_files.py files of 16-bit tokens: ours, llm.c's, nanoGPT's
shards.py      a folder of token files with documents, held-out split and checksums
trace.py       from a token back to its document and address
data/          GPT-2's merges, under OpenAI's notice

tokenizer = Tokenizer.learn(texts, 8192)
heldout = choose_heldout([group for _, group, _ in documents], fraction=0.05, seed=0)
write_shards(documents, tokenizer, Path("shards"), heldout)
Shards.open(Path("shards")).heldout.document(0)
"""

from gpt2.tokens.bpe import StreamDecoder, Tokenizer
from gpt2.tokens.shards import Shards, Split, choose_heldout, write_shards
from gpt2.tokens.token_files import Tokens, read_llmc, read_nanogpt

__all__ = [
    "Shards",
    "Split",
    "StreamDecoder",
    "Tokenizer",
    "Tokens",
    "choose_heldout",
    "read_llmc",
    "read_nanogpt",
    "write_shards",
]
