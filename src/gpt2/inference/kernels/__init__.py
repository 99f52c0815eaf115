"""The fast engine's arithmetic: one C++ file, `decode.cpp`, and what stands around it.

    build.py      compiles, keeps and loads the library
    decoder.py    `Decoder`: a packed model with room for several texts; the only caller of the library
    twin.py       the same arithmetic in plain numpy, to read and to test against

`Decoder` is a runner (`gpt2.inference.runner.Runner`): `run(slots, ids)` appends ids to the texts in these
slots and returns logits; reading a prompt, decoding a token and checking drafts are one call with more or
fewer rows. `cut` forgets a text's end, `copy` makes a second text of one. Sizes are checked in Python, before
the library sees them. A text's logits do not depend, to the last bit, on what else is in the call, on the
number of threads, or on the instruction set.

The library has four functions for each instruction set P of avx512, avx2, portable:

    void *gpt2_open_P(const Shape *, const Layer *, const Matrix heads[2], const float *wpe, const float *ln_f)
    int32 gpt2_step_P(void *, texts, const int32 *slots, *lengths, *starts, *ids, int32 every, float *logits)
    void gpt2_copy_P(void *, int32 source, int32 target, int32 length)
    void gpt2_close_P(void *)

`open` returns null, and `step` 0, where there is no memory; neither has then done anything. `copy` takes the
length of the source's text. Of the heads the second, a first pass, has no data where there is none. Weights are
pointers into memory that must outlive the model, in the layout of `gpt2.model.packed`.
"""

from gpt2.inference.kernels.build import load
from gpt2.inference.kernels.decoder import Decoder

__all__ = ["Decoder", "load"]
