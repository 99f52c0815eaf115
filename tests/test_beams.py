"""Beams: as wide as all there is they find the likeliest text; narrow ones are transformers'."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from plain_runner import PlainRunner
from trained_model import Trained
from transformers import GPT2LMHeadModel

from gpt2.errors import ConfigError, InputError
from gpt2.inference.beams import beams
from gpt2.inference.runner import Logits
from gpt2.inference.sampling import log_probabilities
from gpt2.inference.torch_runner import TorchRunner

pytestmark = pytest.mark.usefixtures("one_thread")
END = 4


class FewTokens(PlainRunner):
    """A runner of five tokens."""

    def logits(self, last: list[int], cuts: list[int]) -> Logits:
        return super().logits(last, cuts)[:5] / 2


def likeliest_of_all(prompt: Sequence[int], length: int, penalty: float) -> list[tuple[list[int], float]]:
    """Every text of up to `length` tokens, ended or as long as may be, by its score."""
    runner, found = FewTokens(), {}
    for ids in itertools.product(range(5), repeat=length):
        own = list(ids[: ids.index(END) + 1] if END in ids else ids)
        seen, logprob = list(prompt), 0.0
        for token in own:
            logprob += log_probabilities(runner.logits(seen[-2:], []))[token]
            seen.append(token)
        found[tuple(i for i in own if i != END), len(own)] = logprob / len(own) ** penalty
    order = sorted(found.items(), key=lambda item: -item[1])
    return [(list(ids), score) for (ids, _), score in order]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_beams_as_wide_as_all_there_is_find_the_likeliest_texts(penalty: float) -> None:
    for prompt in ([1, 2], [0], [3, 3, 3]):
        found = beams(FewTokens(256, 20), prompt, 256, 4, [END], penalty)
        expected = likeliest_of_all(prompt, 4, penalty)[: len(found)]
        assert [beam.ids for beam in found][:20] == [ids for ids, _ in expected][:20]
        assert [beam.score for beam in found] == pytest.approx([score for _, score in expected])


class ManyEnds(PlainRunner):
    """A runner whose five ends, 1 to 5, are each likelier than token 0, and nothing else may come."""

    def logits(self, last: list[int], cuts: list[int]) -> Logits:
        row = np.full(self.config.vocab_size, -50, np.float32)
        row[:6] = [1, 2, 2.1, 2.2, 2.3, 2.4] if len(last) < 2 or last[-1] != 0 else [9, 1, 1, 1, 1, 1]
        return row


def test_many_likely_ends_do_not_crowd_out_what_goes_on() -> None:
    narrow, wide = (beams(ManyEnds(width), [7], width, 6, range(1, 6)) for width in (2, 8))
    assert narrow == wide[:2] and narrow[0].ids == [0] * 6


def test_a_single_beam_is_greedy() -> None:
    ids, runner = [1, 2], FewTokens()
    (beam,) = beams(FewTokens(), ids, 1, 12, [])
    for token in beam.ids:
        assert token == int(np.argmax(runner.logits(ids[-2:], [])))
        ids.append(token)
    assert len(beam.ids) == 12


def test_beams_are_those_of_transformers(trained: Trained) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = trained.model.tokenizer
    for i in range(4):
        prompt = tok.encode(trained.heldout[i * 5000 :][: 60 + 90 * i])
        given = torch.tensor([prompt])
        with torch.inference_mode():
            out = theirs.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=16,
                num_beams=4,
                num_return_sequences=4,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=tok.end_of_text,
                return_dict_in_generate=True,
                output_scores=True,
            )
        found = beams(TorchRunner(trained.model.net, 4), prompt, 4, 16, [])
        assert [beam.ids for beam in found] == [ids[len(prompt) :].tolist() for ids in out.sequences]
        assert [beam.score for beam in found] == pytest.approx(out.sequences_scores.tolist(), abs=1e-4)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ConfigError, match="a width from 1 to 2, the runner's slots"):
        beams(FewTokens(2), [1], 3, 5, [END])
    with pytest.raises(InputError, match="58 tokens and 4 more do not fit: the model reads 60 at a time"):
        beams(FewTokens(2), [1] * 58, 2, 4, [END])
    for token in (-1, 257):
        with pytest.raises(InputError, match=f"token {token} is not in the model's vocabulary"):
            beams(FewTokens(2), [1, token], 2, 4, [END])
    assert len(beams(FewTokens(2), [1] * 58, 2, 3, [])[0].ids) == 3
