"""The scheduler: texts enter and leave at any step and each is what it is alone."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from plain_runner import BYTES, PlainRunner

from gpt2.errors import ConfigError, InputError, WorkbenchError
from gpt2.inference.engine import Engine, Request, Stream
from gpt2.inference.sampling import Sampling, log_probabilities

GREEDY = Sampling(0.0)


def make(slots: int = 1, room: int = 60, drafts: bool = True) -> Engine:
    return Engine(PlainRunner(slots, room), BYTES, drafts)


def solo(request: Request, room: int = 60) -> Stream:
    """A request by itself, without drafts."""
    return make(1, room, drafts=False).run([request])[0]


def some_request(numbers: random.Random, number: int) -> Request:
    """A request of any kind; many begin alike."""
    common = [7] * numbers.choice([0, 0, 5, 16, 40])
    prompt = common + [numbers.randrange(6) for _ in range(numbers.randrange(40))]
    how = numbers.choice(
        [
            GREEDY,
            Sampling(logit_bias=dict.fromkeys(range(40, 43), 20.0)),  # of few tokens, so that drafts are made
            Sampling(),
            Sampling(0.3, None),
            Sampling(0.5, 5, presence_penalty=1.0, repetition_penalty=1.1),
        ]
    )
    return Request(
        prompt[:60],
        numbers.randint(1, 30),
        how,
        seed=3,
        number=number,
        stop=numbers.choice([(), ("a",), ("!?", "(")]),
        slide=numbers.random() < 0.5,
    )


def test_texts_are_the_same_when_a_smaller_model_drafts() -> None:
    numbers, runner = random.Random(4), PlainRunner(3)
    runner.config = replace(runner.config, n_layer=100)
    engine = Engine(runner, BYTES, smaller=PlainRunner(4, room=40))
    requests = [some_request(numbers, number) for number in range(60)]
    requests = [request for request in requests if request.slide or len(request.prompt) <= 60]
    for stream, request in zip(engine.run(requests), requests, strict=True):
        assert (stream.ids, stream.finish) == (solo(request).ids, solo(request).finish)
    assert 30 < engine.accepted < engine.drafted
    with pytest.raises(ConfigError, match="3 slots or more"):
        Engine(PlainRunner(3), BYTES, smaller=PlainRunner(2))


def test_streams_that_come_go_and_are_cancelled_at_random_are_what_they_are_alone() -> None:
    numbers, engine = random.Random(0), make(slots=3)
    going: list[Stream] = []
    finishes: dict[str, int] = {}
    for number in range(250):
        if numbers.random() < 0.5 or not engine.busy:
            going += [
                engine.submit(some_request(numbers, 10 * number + k)) for k in range(numbers.randint(1, 8))
            ]
        for stream in numbers.sample(going, min(len(going), numbers.randint(0, 2))):
            stream.cancel()
        for _ in range(numbers.randint(1, 12)):
            engine.step()
        for stream in [s for s in going if s.finish]:
            alone = solo(stream.request)
            finishes[stream.finish or ""] = finishes.get(stream.finish or "", 0) + 1
            if stream.finish == "cancelled":
                assert alone.ids[: len(stream.ids)] == stream.ids
            else:
                assert (stream.ids, stream.text, stream.finish) == (alone.ids, alone.text, alone.finish)
        going = [s for s in going if not s.finish]
    while engine.busy:
        engine.step()
    assert set(finishes) == {"stop", "length", "context", "cancelled"} and sum(finishes.values()) > 500
    wrong = engine.drafted - engine.accepted
    assert engine.accepted > 20 and wrong > 20, "drafts were made, right ones and wrong ones"
    assert sorted(engine._free) == list(range(3)) and not engine.reading
    assert all(len(held) <= 60 for held in engine._held), (
        "nothing is kept of what has gone but what slots hold"
    )


def test_drafts_save_steps_and_change_nothing() -> None:
    for how in (GREEDY, Sampling(0.3, 5)):
        request = Request([1, 2, 3], 200, how, seed=1, slide=True)
        with_drafts, without = make(room=250), make(room=250, drafts=False)
        (a,), (b,) = with_drafts.run([request]), without.run([request])
        assert (a.ids, a.text, a.finish) == (b.ids, b.text, b.finish)
        if how is GREEDY and len(a.ids) == 200:
            assert with_drafts.steps < without.steps / 2, "a greedy text of this runner soon repeats itself"


def test_a_text_enters_when_another_leaves() -> None:
    engine = make(slots=2, drafts=False)
    long, short, late = (
        engine.submit(Request([i], n, number=i, stop_tokens=())) for i, n in enumerate((12, 3, 4))
    )
    lengths = []
    while engine.busy:
        engine.step()
        lengths.append((len(long.ids), len(short.ids), len(late.ids)))
    assert lengths[0] == (2, 2, 0), "two have slots: a token after the prompt and one of a step"
    assert lengths[1] == (3, 3, 0) and lengths[2] == (4, 3, 2), "the third enters in the step after one left"
    assert lengths[-1] == (12, 3, 4)


def test_cancelled_streams_leave_at_the_next_step() -> None:
    engine = make(slots=2)
    streams = [engine.submit(Request([i], 50, number=i, stop_tokens=(), slide=True)) for i in range(4)]
    engine.step()
    for stream in (streams[0], streams[3]):
        stream.cancel()
    before = list(streams[0].ids)
    left = engine.step()
    assert [s.finish for s in streams] == ["cancelled", None, None, "cancelled"]
    assert streams[0].ids == before and streams[0] in left and streams[2].ids, "its slot is taken at once"


def test_what_prompts_begin_with_is_read_once() -> None:
    engine = make(slots=4, room=200)
    common = [numbers % 50 for numbers in range(100)]
    engine.run([Request([*common, i], 3, number=i) for i in range(10)])
    runner = engine.runner
    assert isinstance(runner, PlainRunner)
    prompts = [n for call in runner.calls for n in call if n > 8]
    assert prompts == [101], "the others share 96 tokens, and read five"
    engine.run([Request([*common, 99], 3), Request(common[:40], 3)])
    assert [n for call in runner.calls for n in call if n > 8] == prompts, "from what has ended, too"


def test_prompts_are_read_in_parts_between_the_steps_of_others() -> None:
    engine = make(slots=2, room=2000, drafts=False)
    running = engine.submit(Request([1], 100, stop_tokens=()))
    engine.step()
    late = engine.submit(Request([2] * 1500, 5, stop_tokens=()))
    seen = []
    while not late.ids:
        before = len(running.ids)
        engine.step()
        seen.append(len(running.ids) - before)
    assert seen == [1, 1, 1], "512 tokens of a prompt a step"


def test_past_the_room_a_text_slides_or_ends() -> None:
    kept = solo(Request([1] * 50, 40, stop_tokens=()))
    assert kept.finish == "context" and len(kept.ids) == 11, "60 are seen, and one more follows from them"
    moved = solo(Request([1] * 50, 40, stop_tokens=(), slide=True))
    assert moved.finish == "length" and moved.ids[:11] == kept.ids and len(moved.ids) == 40
    with pytest.raises(InputError, match="a prompt of 61 tokens does not fit: the model reads 60 at a time"):
        make().submit(Request([1] * 61))
    assert solo(Request([2, *[1] * 60], 5, slide=True)).ids == solo(Request([1] * 60, 5, slide=True)).ids


def test_log_probabilities_are_the_models_own() -> None:
    how = Sampling(0.2, 3, logit_bias={5: 4.0}, frequency_penalty=0.5)
    (stream,) = make().run([Request([1, 2], 20, how, logprobs=4, stop_tokens=())])
    runner, ids = PlainRunner(), [1, 2]
    assert len(stream.chosen) == len(stream.ids) == 20
    for chosen, token in zip(stream.chosen, stream.ids, strict=True):
        expected = log_probabilities(runner.logits(ids[-2:], []))
        assert chosen.token == token and chosen.logprob == expected[token]
        assert [i for i, _ in chosen.top] == np.argsort(-expected)[:4].tolist()
        assert [p for _, p in chosen.top] == sorted(expected, reverse=True)[:4]
        ids.append(token)


def test_a_hook_says_which_tokens_may_come() -> None:
    def digits(ids: Any) -> Any:
        return range(15, 25) if len(ids) % 2 else None

    streams = make(slots=3).run([Request([i], 30, Sampling(), number=i, allowed=digits) for i in range(3)])
    for stream in streams:
        assert all(15 <= token < 25 for token in stream.ids[1::2]) and len(stream.ids) > 1
        assert stream.ids == solo(stream.request).ids


def test_a_request_that_fails_fails_alone() -> None:
    def broken(ids: Any) -> Any:
        return [] if len(ids) == 3 else None

    engine = make(slots=2)
    bad = engine.submit(Request([1], 9, stop_tokens=(), allowed=broken))
    good = engine.submit(Request([2], 9, stop_tokens=()))
    while engine.busy:
        engine.step()
    assert bad.finish == "error" and isinstance(bad.error, InputError) and len(bad.ids) == 3
    assert good.finish == "length" and len(engine._free) == 2
    with pytest.raises(InputError, match="no token may come next"):
        engine.run([Request([1], 9, stop_tokens=(), allowed=broken)])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("place", ["draw", "run", "settle"])
def test_a_step_that_breaks_off_ends_the_texts_in_slots_and_no_others(
    error: type[BaseException], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(slots=2)
    streams = [engine.submit(Request([i], 9, number=i, stop_tokens=())) for i in range(4)]
    engine.step()

    def broken(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        owner = {"draw": streams[1], "run": engine.runner, "settle": engine}[place]
        patched.setattr(owner, "_settle" if place == "settle" else place, broken)
        with pytest.raises(error):
            engine.step()
    assert [s.finish for s in streams] == ["error", "error", None, None] and streams[0].error
    while engine.busy:
        engine.step()
    assert [s.ids for s in streams[2:]] == [solo(s.request).ids for s in streams[2:]]
    assert sorted(engine._free) == [0, 1]
    with pytest.raises((MemoryError, WorkbenchError)):
        list(engine.pieces(streams[0]))


def test_the_ended_are_counted_once() -> None:
    counts: list[int] = []
    make(slots=4).run([Request([i], 2, number=i, stop_tokens=()) for i in range(4)], counts.append)
    assert sum(counts) == 4


def test_a_run_that_fails_leaves_nothing_queued() -> None:
    engine = make(slots=1)
    good = Request([2], 9, stop_tokens=())
    for bad in (Request([1], 0), Request([1], 9, allowed=lambda ids: [])):
        with pytest.raises((ConfigError, InputError)):
            engine.run([good, bad, good] if bad.allowed is None else [bad, good, good])
        engine.step()
        assert not engine.busy and len(engine._free) == 1


def test_text_comes_in_whole_characters_and_never_part_of_a_stop_string() -> None:
    biased = Sampling(1.0, None, logit_bias=dict.fromkeys(BYTES.encode("é✓ ab"), 4.0) | {256: -np.inf})
    engine = make(slots=3, room=400)
    for number in range(6):
        stream = engine.submit(Request([number], 300, biased, number=number, stop=["ab a", "✓✓"]))
        pieces = list(engine.pieces(stream))
        assert "".join(pieces) == stream.text == stream.text.split("ab a")[0].split("✓✓")[0]
        assert stream.finish in ("stop", "length") and len(pieces) > 3


def test_leaving_off_a_stream_cancels_it() -> None:
    engine = make()
    pieces = engine.pieces(engine.submit(Request([1], 50, stop_tokens=(), slide=True)))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    engine.step()
    assert not engine.busy and len(engine._free) == 1


def test_requests_may_come_from_other_threads() -> None:
    engine, streams = make(slots=4), list[Stream]()

    def ask(first: int) -> None:
        for i in range(50):
            stream = engine.submit(Request([first, i], 5, number=first * 50 + i))
            if i % 3 == 0:
                stream.cancel()
            streams.append(stream)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or engine.busy:
        engine.step()
    assert len(streams) == 200 and all(s.finish for s in streams)
    assert all(s.ids == solo(s.request).ids for s in streams if not s.cancelled)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (Request([1], 0), ConfigError, "max_tokens must be at least 1, not 0"),
        (Request([257]), InputError, "token 257 is not in the model's vocabulary"),
        (Request([1], sampling=Sampling(logit_bias={999: 1.0})), InputError, "token 999 is not in"),
        (Request([1], logprobs=-1), ConfigError, "logprobs must be from 0 to 257, not -1"),
        (Request([1], stop=[""]), ConfigError, "a stop string is empty"),
    ],
)
def test_requests_that_mean_nothing_are_refused(
    request_: Request, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make().submit(request_)
