"""Many texts going on at once: the scheduler over a runner.

    engine = Engine(TorchRunner(model.net, slots=8), model.tokenizer)
    stream = engine.submit(Request(model.tokenizer.encode("The meaning of"), max_tokens=20))
    for piece in engine.pieces(stream): print(piece, end="")

A step reads prompts, up to `PROMPT_TOKENS` of them, then gives each running text its next token, or several
where drafts come true (`gpt2.inference.drafts`). A request enters as soon as a slot is free and leaves in the
step in which it ends or after which it was cancelled. What a prompt has in common with a text in any slot,
finished ones too, is copied instead of read, so examples before many questions and many continuations of one
prompt are read once.

A text does not depend on its neighbours: it draws from its own generator, of its seed; the runner's arithmetic
is the same in any company (`gpt2.inference.runner`); prompts are cut, and beginnings shared, only where that
changes no bit. Where a runner cannot promise that, as on CUDA, texts may differ once two tokens are nearly
equally likely.

When a text has filled its room (the model's context), a request that slides has the newer half of it read
anew and goes on; any other ends there, with finish "context".

Threads: `submit` and `Stream.cancel` may be called from any thread, `step` from one at a time, which alone
changes streams. A reader in another thread is given what `step` returns by whoever steps. A step that raises,
interrupted or short of memory, ends every text that has a slot with finish "error"; those waiting stay.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gpt2.errors import ConfigError, InputError, WorkbenchError
from gpt2.inference.drafts import Drafts, ModelDrafts
from gpt2.inference.runner import Logits, Runner
from gpt2.inference.sampling import Sampling, choose, generator, likeliest, log_probabilities
from gpt2.inference.stops import StoppedText
from gpt2.tokens.bpe import Tokenizer

PROMPT_TOKENS = 512
"""Tokens of prompts that a step reads before the running texts go on."""

Finish = Literal["stop", "length", "context", "cancelled", "error"]
Allowed = Callable[[Sequence[int]], Sequence[int] | None]


@dataclass(frozen=True)
class Request:
    """A text to go on from, and how."""

    prompt: Sequence[int]
    """Token ids; none starts a document, after <|endoftext|>."""
    max_tokens: int = 64
    """Tokens at most."""
    sampling: Sampling = field(default_factory=Sampling)
    """How they are drawn."""
    seed: int = 0
    """Decides the draws, with `number`."""
    number: int = 0
    """Which of several texts under one seed."""
    stop: Sequence[str] = ()
    """Strings before which the text ends; `Stream.ids` has the token that completes one."""
    stop_tokens: Sequence[int] | None = None
    """Tokens that end the text and are not part of it; not given, it is <|endoftext|>."""
    logprobs: int | None = None
    """Keep the log-probability of each token, and of so many likeliest ones."""
    slide: bool = False
    """Past the context, read the newer half of it anew and go on."""
    allowed: Allowed | None = None
    """Given the new ids so far, the ids that may come next; None for all."""


@dataclass(frozen=True)
class Chosen:
    """How likely a token was to the model itself, before any control."""

    token: int
    logprob: float
    """Natural logarithm."""
    top: list[tuple[int, float]]
    """The likeliest tokens and their log-probabilities, the likeliest first."""


class Stream:
    """A continuation that grows; made by `Engine.submit`."""

    def __init__(self, request: Request, prompt: list[int], room: int, tokenizer: Tokenizer) -> None:
        self.request, self.prompt = request, prompt
        self.ids: list[int] = []
        """The new tokens."""
        self.chosen: list[Chosen] = []
        """With `logprobs`, one for each of them."""
        self.text = ""
        """What is certain of the continuation: whole characters, nothing of a stop string."""
        self.finish: Finish | None = None
        self.error: Exception | None = None
        """What went wrong, where `finish` is "error"."""
        self.view = prompt[-room:]
        """The tokens that the next one is seen from."""
        self.slot: int | None = None
        self.cancelled = False
        self.numbers = generator(request.seed, request.number)
        self.drafts: Drafts | ModelDrafts | None = None
        self._stops, self._taken = StoppedText(tokenizer, request.stop), 0
        ends = request.stop_tokens
        self._ends = frozenset([tokenizer.end_of_text] if ends is None else ends)

    def cancel(self) -> None:
        """Leave at the next step; from any thread."""
        self.cancelled = True

    def take(self) -> str:
        """What has become certain since the last call."""
        text, self._taken = self.text[self._taken :], len(self.text)
        return text

    def draw(self, logits: Logits) -> bool:
        """Go on by one token; whether the text goes on after it."""
        request = self.request
        try:
            allowed = request.allowed(self.ids) if request.allowed else None
            token = choose(logits, request.sampling, self.numbers, self.prompt, self.ids, allowed)
        except Exception as error:  # of a hook, or of controls that leave no token: the others go on
            self.error = error
            self.end("error")
            return False
        if token in self._ends:
            self.end("stop")
            return False
        self.ids.append(token)
        self.view.append(token)
        if request.logprobs is not None:
            logprobs = log_probabilities(logits)
            self.chosen.append(Chosen(token, float(logprobs[token]), likeliest(logprobs, request.logprobs)))
        if self.drafts:
            self.drafts.push(token)
        self.text += self._stops.push(token)
        if self._stops.stopped or len(self.ids) >= request.max_tokens:
            self.end("length")
        return self.finish is None

    def end(self, finish: Finish) -> None:
        """The text is over; a stop string in it is the reason, whatever else is."""
        self.text += self._stops.finish()
        self.finish = "stop" if self._stops.stopped else finish


class Engine:
    """Texts that go on side by side on one runner. The tokenizer must be the model's."""

    def __init__(
        self, runner: Runner, tokenizer: Tokenizer, drafts: bool = True, smaller: Runner | None = None
    ) -> None:
        """`smaller`: a model of the same vocabulary, with as many slots, that drafts in place of the text itself."""
        if smaller and (
            smaller.slots < runner.slots or smaller.config.vocab_size != runner.config.vocab_size
        ):
            raise ConfigError(
                f"the model that drafts has {smaller.config.vocab_size:,} tokens and {smaller.slots} slots; it needs "
                f"the same {runner.config.vocab_size:,} tokens and {runner.slots} slots or more"
            )
        self._smaller = smaller
        self.runner, self.tokenizer, self.drafting = runner, tokenizer, drafts and runner.drafts > 0
        self.waiting: deque[Stream] = deque()
        self.reading: deque[Stream] = deque()
        """Streams in slots of which more than the last token is still to be read."""
        self.running: list[Stream] = []
        self._held: list[list[int]] = [[] for _ in range(runner.slots)]
        self._read = [0] * runner.slots
        """How many of the held tokens were read as a prompt."""
        self._seats: list[Stream | None] = [None] * runner.slots
        """The stream of each slot, in whatever list it is."""
        self._free = deque(range(runner.slots))
        """Slots of no stream, the longest unused first."""
        self._lock = threading.Lock()
        self.drafted = self.accepted = self.steps = 0
        """Drafted tokens, those that came true, and steps of running texts so far."""

    def submit(self, request: Request) -> Stream:
        """Take a request in; it starts when a slot is free. From any thread.

        Raises `ConfigError` or `InputError` for what cannot be done.
        """
        n, room = self.runner.config.vocab_size, self.runner.room
        prompt = list(request.prompt) or [self.tokenizer.end_of_text]
        if request.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, not {request.max_tokens}")
        if request.logprobs is not None and not 0 <= request.logprobs <= n:
            raise ConfigError(f"logprobs must be from 0 to {n}, not {request.logprobs}")
        named = [*prompt, *request.sampling.logit_bias]
        if wrong := [i for i in named if not 0 <= i < n]:
            raise InputError(f"token {wrong[0]} is not in the model's vocabulary, whose ids are 0 to {n - 1}")
        if len(prompt) > room and not request.slide:
            raise InputError(
                f"a prompt of {len(prompt)} tokens does not fit: the model reads {room} at a time; "
                "cut it, or let the window slide"
            )
        stream = Stream(request, prompt, room, self.tokenizer)
        with self._lock:
            self.waiting.append(stream)
        return stream

    @property
    def busy(self) -> bool:
        """Whether any stream has not ended."""
        return bool(self.waiting or self.reading or self.running)

    def run(self, requests: Sequence[Request], ended: Callable[[int], object] = bool) -> list[Stream]:
        """Every request's finished stream, with tokens, text and, where asked for, log-probabilities.

        `ended` is told how many have ended, step by step. The first error of a stream is raised, and the
        others are cancelled.
        """
        streams = list[Stream]()
        try:
            for request in requests:
                streams.append(self.submit(request))
            while any(stream.finish is None for stream in streams):
                grown = self.step()
                for error in (stream.error for stream in grown):
                    if error:
                        raise error
                ended(sum(stream.finish is not None for stream in grown))
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise
        return streams

    def pieces(self, stream: Stream) -> Iterator[str]:
        """The text of a stream as it becomes certain, step by step; leaving off cancels it."""
        try:
            while stream.finish is None:
                self.step()
                if piece := stream.take():
                    yield piece
        finally:
            stream.cancel()
        if stream.error:
            raise stream.error

    def step(self) -> list[Stream]:
        """Read prompts, then go on with the running texts; the streams that grew or ended, each once."""
        try:
            return list(dict.fromkeys([*self._leave(), *self._read_prompts(), *self._go_on()]))
        except BaseException as error:
            self._abandon(error)
            raise

    def _abandon(self, error: BaseException) -> None:
        """End the streams in slots and trust nothing that the slots hold: a step broke off somewhere in between."""
        for stream in self._seats:
            if stream is None:
                continue
            if stream.finish is None:
                interrupted = WorkbenchError("generating was interrupted; ask for this text again")
                stream.error = error if isinstance(error, Exception) else interrupted
                stream.finish = "error"
            stream.slot, stream.drafts = None, None
        slots = self.runner.slots
        self.reading, self.running, self._seats = deque(), [], [None] * slots
        self._held, self._read, self._free = [[] for _ in range(slots)], [0] * slots, deque(range(slots))

    def _leave(self) -> list[Stream]:
        """Streams that were cancelled."""
        with self._lock:
            gone = [s for s in (*self.waiting, *self.reading, *self.running) if s.cancelled]
            for stream in gone:
                if stream in self.waiting:
                    self.waiting.remove(stream)
        for stream in gone:
            if stream in self.reading:
                self.reading.remove(stream)
            if stream in self.running:
                self.running.remove(stream)
            stream.end("cancelled")
            self._release(stream)
        return gone

    def _release(self, stream: Stream) -> None:
        if stream.slot is not None:
            self._seats[stream.slot] = None
            self._free.append(stream.slot)
            stream.slot, stream.drafts = None, None

    def _read_prompts(self) -> list[Stream]:
        """Read what is waiting to be read, and draw the first token after it."""
        grown, left, chunk = [], max(PROMPT_TOKENS, self.runner.chunk), self.runner.chunk
        while left >= chunk and (self.reading or self._admit()):
            stream = self.reading[0]
            slot, view = self._slot(stream), stream.view
            begin = len(self._held[slot])
            end = len(view) if len(view) - begin <= left else (begin + left) // chunk * chunk
            logits = self._run([slot], [view[begin:end]])
            self._read[slot], left = end, left - (end - begin)
            if end == len(view):
                self.reading.popleft()
                stream.draw(logits[0])
                self._settle(stream)
                grown.append(stream)
        return grown

    def _admit(self) -> bool:
        """Give the next waiting stream a slot, and there what it has in common with any text held."""
        if not self.waiting or not self._free:
            return False
        stream = self.waiting[0]  # only steps take from the left
        shared = [self._in_common(stream.view, slot) for slot in range(self.runner.slots)]
        most = max(shared)
        slot = next((slot for slot in self._free if shared[slot] == most), self._free[0])
        self._free.remove(slot)
        with self._lock:
            self._seats[slot] = self.waiting.popleft()
        if shared[slot] < most:
            source = shared.index(most)
            self.runner.copy(source, slot)
            self._held[slot], self._read[slot] = list(self._held[source]), self._read[source]
        self._cut(slot, most)
        stream.slot = slot
        if self.drafting:
            stream.drafts = self._drafts(stream.view, slot)
        self.reading.append(stream)
        return True

    def _drafts(self, view: list[int], slot: int) -> Drafts | ModelDrafts:
        if self._smaller is None:
            return Drafts(view, self.runner.draft_cost)
        share = self._smaller.config.num_parameters() / self.runner.config.num_parameters()
        return ModelDrafts(view, self.runner.draft_cost + share, self._smaller, slot)

    def _in_common(self, view: list[int], slot: int) -> int:
        """Tokens that a slot holds of a text, cut so that sharing them changes no bit; not its last one."""
        held, chunk = self._held[slot], self.runner.chunk
        most = min(len(view) - 1, len(held) if chunk == 1 else self._read[slot])
        same = most
        if held[:most] != view[:most]:
            same = next(i for i in range(most) if held[i] != view[i])
        return same // chunk * chunk

    def _go_on(self) -> list[Stream]:
        """One step of all running texts."""
        streams = self.running
        if not streams:
            return []
        self.steps += 1
        rows = (1 + self.runner.drafts) // len(streams)  # more rows than that are no longer nearly free
        drafts = [self._draft(stream, rows - 1) for stream in streams]
        every = any(drafts)
        slots = [self._slot(stream) for stream in streams]
        logits = self._run(
            slots, [[s.view[-1], *draft] for s, draft in zip(streams, drafts, strict=True)], every
        )
        self.running, at = [], 0
        for stream, slot, draft in zip(streams, slots, drafts, strict=True):
            good = 0
            while stream.draw(logits[at + good]) and good < len(draft) and stream.ids[-1] == draft[good]:
                good += 1
            at += 1 + len(draft) if every else 1
            if draft:
                self.drafted, self.accepted = self.drafted + len(draft), self.accepted + good
                self._cut(slot, len(self._held[slot]) - len(draft) + good)
                if stream.drafts:
                    stream.drafts.judge(draft, good)
            self._settle(stream)
        return streams

    def _draft(self, stream: Stream, most: int) -> list[int]:
        """Tokens that may come next, within the text's room and length."""
        left = min(self.runner.room - len(stream.view), stream.request.max_tokens - len(stream.ids) - 1)
        return stream.drafts.propose(min(most, left)) if stream.drafts else []

    def _settle(self, stream: Stream) -> None:
        """A stream that has drawn goes on, slides or leaves."""
        if stream.finish is None and len(stream.view) > self.runner.room:
            if stream.request.slide:
                stream.view = stream.view[-max(1, self.runner.room // 2) :]
                self._cut(self._slot(stream), 0)
                self.reading.append(stream)
                return
            stream.end("context")
        if stream.finish is None:
            self.running.append(stream)
        else:
            self._release(stream)

    def _run(self, slots: list[int], ids: list[list[int]], every: bool = False) -> Logits:
        logits = self.runner.run(slots, ids, every)
        for slot, new in zip(slots, ids, strict=True):
            self._held[slot] += new
        return logits

    def _cut(self, slot: int, length: int) -> None:
        self.runner.cut(slot, length)
        del self._held[slot][length:]
        self._read[slot] = min(self._read[slot], length)

    def _slot(self, stream: Stream) -> int:
        assert stream.slot is not None, "a stream that is read or runs has a slot"
        return stream.slot
