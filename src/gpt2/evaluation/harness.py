"""lm-evaluation-harness, driving our models: all of its tasks, by our scoring and generation.

The harness decides how texts become tokens, what is asked and what counts; this adapter answers. Its models
are found by name, and it looks for no others than its own, so its command is called through this module:

    python -m gpt2.evaluation.harness run --model gpt2 --model_args path=run,threads=2 --tasks lambada_openai

or, in a program, `lm_eval.simple_evaluate(model=Harness("run"), tasks=["lambada_openai"])`. `path` is any model
that `gpt2.load` opens. Requests of all items are scored in one stream (`batch_size` is not needed), which is
what makes it faster than the harness's own way of running the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2.console import Console
from gpt2.errors import ConfigError, need
from gpt2.evaluation.generation import room_beside
from gpt2.inference.continuations import continuations
from gpt2.inference.engine import Request
from gpt2.inference.sampling import Sampling
from gpt2.inference.scoring import Score, joined, score_pieces
from gpt2.model.checkpoint import Model, load
from gpt2.model.device import choose

need("lm_eval", "peers")
from lm_eval.api.model import TemplateLM  # noqa: E402
from lm_eval.api.registry import register_model  # noqa: E402
from lm_eval.models.utils import normalize_gen_kwargs  # noqa: E402

Tokens = tuple[list[int], list[int]]
NEUTRAL = (None, False, 1, 1.0)
"""Values of settings that leave generation as it is."""


@register_model("gpt2")
class Harness(TemplateLM):  # type: ignore[misc]
    """A model of ours as the harness knows models."""

    def __init__(
        self,
        path: str | Path | Model,
        dtype: str = "float32",
        device: str | None = None,
        threads: int | None = None,
        batch_size: Any = None,  # noqa: ARG002, the harness gives it to every model
        max_batch_size: Any = None,  # noqa: ARG002
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.model = path if isinstance(path, Model) else load(path)
        self.compute = choose(device or "auto", dtype, threads)
        self.model.net.to(self.compute.device)
        self.console = Console(quiet=quiet)

    @property
    def eot_token_id(self) -> int:
        """<|endoftext|>, which stands before a text without context."""
        return self.model.tokenizer.end_of_text

    @property
    def max_length(self) -> int:
        """The model's context."""
        return self.model.net.config.n_ctx

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:  # noqa: ARG002
        """A text's tokens; GPT-2 adds no special ones."""
        return self.model.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        scores = self.scored([(past, rest) for _, past, rest in requests])
        return [(score.logprob, score.is_greedy) for score in scores]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """The log-likelihood of each text after <|endoftext|>, in the windows that the harness describes."""
        texts = [self.tok_encode(request.args[0]) for request in requests]
        return [score.logprob for score in self.scored([([self.eot_token_id], ids) for ids in texts])]

    def scored(self, pairs: Sequence[Tokens]) -> list[Score]:
        """The scores of (ids given, ids to score)."""
        pieces = score_pieces(self.model.net, ((past, [rest]) for past, rest in pairs), None, self.compute)
        scores = []
        with self.console.progress("scoring", len(pairs), "requests") as bar:
            for score in joined(pieces):
                scores.append(score)
                bar.advance()
        return scores

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """What the model goes on with after each context, before the first of its stop strings.

        Raises `ConfigError` for settings that the engine does not have, such as beams.
        """
        asked = []
        for number, request in enumerate(requests):
            max_tokens, until, sampling = how(dict(request.args[1]))
            ids = self.tok_encode(request.args[0])[-room_beside(self.model, max_tokens) :]
            asked.append(Request(ids, max_tokens, sampling, number, stop=until, slide=True))
        with self.console.progress("generating", len(requests), "requests") as bar:
            return [stream.text for stream in continuations(self.model, asked, self.compute, bar.advance)]


def how(settings: dict[str, Any]) -> tuple[int, tuple[str, ...], Sampling]:
    """The harness's settings of a generation as ours: tokens at most, stop strings, how tokens are drawn."""
    wanted = dict(normalize_gen_kwargs(settings))
    until, max_tokens, sample = wanted.pop("until"), wanted.pop("max_gen_toks"), wanted.pop("do_sample")
    temperature, top_k = wanted.pop("temperature", 0.0), wanted.pop("top_k", None)
    top_p, min_p = float(wanted.pop("top_p", None) or 1.0), float(wanted.pop("min_p", None) or 0.0)
    penalty = float(wanted.pop("repetition_penalty", None) or 1.0)
    if strange := sorted(name for name, value in wanted.items() if value not in NEUTRAL):
        raise ConfigError(
            f"the engine has no {', '.join(strange)}; set it aside, as in --gen_kwargs {strange[0]}=1"
        )
    sampling = Sampling(0.0, repetition_penalty=penalty)
    if sample:
        k = int(top_k) if top_k else None
        sampling = Sampling(float(temperature) or 1.0, k, top_p, min_p, penalty)
    return int(max_tokens), tuple(end for end in until if end), sampling


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
