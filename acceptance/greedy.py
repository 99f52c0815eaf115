"""200 ragged prompts in one batch are what transformers makes of each; a seed gives the same alone and among 32.

Prompts are stretches of 1 to 400 tokens of a novel, of a model that was trained on prose: GPT2_MODEL names it,
GPT2_DATA the folder with prose/novels. Greedy texts of 60 tokens must equal transformers' of one prompt at a time,
token for token, but where the two likeliest tokens are nearer than 1e-4: those places are listed. Then 32 prompts
under one seed, drawn by several controls, must be the same in company and alone, by each engine that is there,
and with drafts and without.

    GPT2_MODEL=run GPT2_DATA=data python -m acceptance greedy
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

import gpt2
from gpt2.inference.continuations import open_engine
from gpt2.inference.engine import Engine, Request
from gpt2.inference.sampling import Sampling
from gpt2.inference.torch_runner import TorchRunner

NOVEL = "Doyle_Hound_1902.txt"
PROMPTS, TOKENS, NEAR = 200, 60, 1e-4
CONTROLS = (
    Sampling(),
    Sampling(0.0),
    Sampling(0.8, None, 0.95),
    Sampling(1.0, 40, repetition_penalty=1.2, presence_penalty=0.2),
)


def main() -> None:
    """Raises `AssertionError` where texts differ."""
    if not {"GPT2_MODEL", "GPT2_DATA"} <= set(os.environ):
        sys.exit("greedy: GPT2_MODEL must name a trained model and GPT2_DATA the folder with prose/novels")
    path = Path(os.environ["GPT2_MODEL"])
    text = (Path(os.environ["GPT2_DATA"]) / "prose" / "novels" / NOVEL).read_text(encoding="utf-8")
    torch.set_num_threads(1)
    model = gpt2.load(path)
    c = model.net.config
    print(f"{c.num_parameters():,} parameters, vocabulary {c.vocab_size:,}, context {c.n_ctx}")
    ids, longest = model.tokenizer.encode(text), min(400, c.n_ctx - TOKENS)
    prompts = [ids[300 * i % 60_000 :][: 1 + 37 * i % longest] for i in range(PROMPTS)]
    equals_transformers(model, prompts)
    for dtype in ("float32", "bfloat16", "int8", "int4"):
        same_in_company(path, dtype, prompts[:32])


def equals_transformers(model: gpt2.Model, prompts: list[list[int]]) -> None:
    """All prompts in one batch against transformers on each."""
    with tempfile.TemporaryDirectory() as name:
        model.save(Path(name) / "model")
        gpt2.convert(Path(name) / "model", Path(name) / "huggingface", to="huggingface")
        theirs = GPT2LMHeadModel.from_pretrained(Path(name) / "huggingface").eval()
    end, ties, equal = model.tokenizer.end_of_text, 0, 0
    engine = Engine(TorchRunner(model.net, len(prompts)), model.tokenizer)
    begun = time.process_time()
    streams = engine.run([Request(prompt, TOKENS, Sampling(0.0)) for prompt in prompts])
    ours_took, begun = time.process_time() - begun, time.process_time()
    for number, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
        given = torch.tensor([prompt])
        with torch.inference_mode():
            whole = theirs.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=TOKENS,
                do_sample=False,
                pad_token_id=end,
            )[0].tolist()
        other = whole[len(prompt) :]
        mine = stream.ids if len(stream.ids) == TOKENS else [*stream.ids, end]
        if mine == other:
            equal += 1
            continue
        i = next(k for k, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
        with torch.inference_mode():
            first, second = model.net(torch.tensor([prompt + mine[:i]]))[0, -1].topk(2).values.tolist()
        print(f"prompt {number}, token {i}: the likeliest two have logits {first} and {second}")
        assert first - second < NEAR
        ties += 1
    theirs_took = time.process_time() - begun
    lengths = sorted(map(len, prompts))
    print(
        f"{equal} of {len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens go on as in transformers, "
        f"{ties} differ at a near tie; {len({t for s in streams for t in s.ids})} different tokens; "
        f"{ours_took:.1f} s of processor time together, transformers {theirs_took:.1f} s one by one",
        flush=True,
    )


def same_in_company(path: Path, dtype: str, prompts: list[list[int]]) -> None:
    """A seed's texts among 32, and each alone without drafts."""
    company = open_engine(path, len(prompts), "cpu", dtype, 1)
    alone = open_engine(path, 1, "cpu", dtype, 1)
    drafted = alone.drafting
    requests = [
        Request(prompt, TOKENS, CONTROLS[i % 4], seed=5, number=i, slide=True)
        for i, prompt in enumerate(prompts)
    ]
    together = company.run(requests)
    for request, stream in zip(requests, together, strict=True):
        for alone.drafting in {False, drafted}:
            (found,) = alone.run([request])
            assert found.ids == stream.ids, f"{dtype}: text {request.number} differs alone"
    print(
        f"{dtype}: {len(prompts)} texts of {sum(len(s.ids) for s in together):,} tokens are the same in company "
        f"and alone, drafted ({alone.accepted:,} of {alone.drafted:,} tokens came true) and not",
        flush=True,
    )


if __name__ == "__main__":
    main()
