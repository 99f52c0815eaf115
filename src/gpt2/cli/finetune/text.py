"""gpt2 finetune text and gpt2 finetune merge: a model tuned on own text, whole or by an adapter.

gpt2 finetune text reproduce my_texts/ --out tuned
gpt2 finetune text reproduce my_texts/ --out tuned --lora --rank 8
gpt2 finetune merge reproduce tuned/adapter --out merged
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Flag, Seed, Size, Talk, Whole
from gpt2.console import count, table

LENGTH = Group("How long (one of these)", sort_key=10)
ADAPTER = Group("An adapter in place of the weights", sort_key=20)
LAYERS = Group("How layers learn (Howard and Ruder)", sort_key=25)
BESIDE = Group("What is not to be forgotten", sort_key=30)
SAMPLES = Group("Held-out text and samples", sort_key=40)
MEMORY = Group("Memory (the step stays the same)", sort_key=50)


def text(
    model: Path,
    path: Path,
    *,
    out: Path,
    epochs: Annotated[Amount | None, Parameter(group=LENGTH)] = None,
    steps: Annotated[Count | None, Parameter(group=LENGTH)] = None,
    minutes: Annotated[Amount | None, Parameter(group=LENGTH)] = None,
    learning_rate: Amount | None = None,
    batch: Size = 8,
    context: Size | None = None,
    seed: Seed = 0,
    lora: Annotated[Flag, Parameter(group=ADAPTER)] = False,
    rank: Annotated[Size, Parameter(group=ADAPTER)] = 8,
    alpha: Annotated[Amount | None, Parameter(group=ADAPTER)] = None,
    layer_factor: Annotated[Amount | None, Parameter(group=LAYERS)] = None,
    slanted: Annotated[Flag, Parameter(group=LAYERS)] = False,
    unfreeze: Annotated[Flag, Parameter(group=LAYERS)] = False,
    beside: Annotated[Path | None, Parameter(group=BESIDE)] = None,
    beside_weight: Annotated[Amount, Parameter(group=BESIDE)] = 0.5,
    heldout: Annotated[float, Parameter(group=SAMPLES)] = 0.1,
    patience: Annotated[Count, Parameter(group=SAMPLES)] = 4,
    samples: Annotated[Whole, Parameter(group=SAMPLES)] = 3,
    sample_tokens: Annotated[Count, Parameter(group=SAMPLES)] = 120,
    prompt: Annotated[str | None, Parameter(group=SAMPLES)] = None,
    accumulate: Annotated[Size, Parameter(group=MEMORY)] = 1,
    recompute: Annotated[Flag, Parameter(group=MEMORY)] = False,
    save_every: Annotated[Amount, Parameter(group=MEMORY)] = 60.0,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Tune a model on your own text; killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    model:
        The model to begin with: a folder or file of any known format.
    path:
        A file or folder of text (.txt, .md, .jsonl and .parquet with a field `text`), or a corpus.
    out:
        Folder for everything that is made; the tuned model is in its folder model, and opens by this name too.
    epochs:
        How often each text is seen; 3 when no length is given.
    steps:
        Train for so many steps.
    minutes:
        Train for so long, made into steps by a timed trial.
    learning_rate:
        The highest learning rate; when not given, a tenth of what a model of this size is trained with from the
        start, and with --lora ten times that.
    batch:
        Sequences in a step.
    context:
        Tokens of a sequence; the model's context when not given, or fewer where the text is short.
    seed:
        Decides what is held out, the order of the text, the adapter's first weights and the samples.
    lora:
        Leave the weights as they are and learn an adapter beside them (LoRA); the model in OUT has it merged, and
        OUT/adapter is a small folder that `peft` reads.
    rank:
        Rank of the adapter.
    alpha:
        What the adapter counts, times its rank; twice the rank when not given.
    layer_factor:
        Let each layer learn at 1/FACTOR of the rate of the layer above it, such as 2.6.
    slanted:
        Let the rate rise for the first tenth of the steps and fall for the rest (slanted triangles).
    unfreeze:
        Let the top layer learn alone at first, and the others one by one below it.
    beside:
        Folder of token shards in the model's vocabulary that is learned from too, so that it is not forgotten.
    beside_weight:
        What the loss on those counts.
    heldout:
        Share of the text that is held out.
    patience:
        Looks at the held-out loss, four an epoch, without a lower one after which it stops.
    samples:
        Samples of the model before and after.
    sample_tokens:
        Tokens of a sample.
    prompt:
        What samples go on from; beginnings of held-out texts when not given.
    accumulate:
        Parts in which the sequences of a step are taken, one after another.
    recompute:
        Compute activations again in the backward pass rather than keep them.
    save_every:
        Seconds between two checkpoints.
    """
    import gpt2
    from gpt2.finetuning.methods import Methods
    from gpt2.finetuning.outcome import Sampling
    from gpt2.training.plan import Beside

    config = gpt2.TextConfig(
        model,
        path,
        out,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        lora=gpt2.LoraConfig(rank, alpha or 2.0 * rank) if lora else None,
        methods=Methods(layer_factor, slanted, unfreeze),
        beside=Beside(beside, beside_weight) if beside else None,
        learning_rate=learning_rate,
        batch=batch,
        context=context,
        heldout=heldout,
        patience=patience,
        sampling=Sampling(samples, sample_tokens, prompt, seed),
        seed=seed,
        accumulate=accumulate,
        recompute=recompute,
        save_every_seconds=save_every,
        device=computing.device,
        dtype=computing.dtype,
        threads=computing.threads,
    )
    told = gpt2.finetune_text(config, talk.console)
    for sample in told["samples"]:
        talk.write(f"\n{sample['prompt']!r}")
        for name, copied in (("before", sample["copied_before"]), ("after", sample["copied"])):
            talk.write(f"  {name}: {sample[name].strip()!r}")
            if copied["words"]:
                talk.write(
                    f"    copies {copied['words']} words of {copied['document']}: {copied['text'][:200]!r}"
                )
    was, now = told["before"], told["after"]
    rows: list[list[object]] = []
    if was:
        rows += [[f"held-out {name}", was[name], now[name], ""] for name in ("loss", "perplexity")]
    copied = told["longest_copy"]
    shown = ["–" if copied[name] is None else copied[name] for name in ("before", "after", "held_out_text")]
    talk.write("\n" + table(["", "before", "after", "real text"], [*rows, ["longest copied run", *shown]]))
    early = f" of {told['planned_steps']:,}" if told["steps"] < told["planned_steps"] else ""
    said = (
        f"{told['model']}: {count(told['learned_weights'])} weights learned in {told['steps']:,} steps{early}"
    )
    if was:
        low, high = told["difference"]["interval"]
        said += f"; held-out loss changed by {told['difference']['loss_difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    talk.result(told, said)


def merge(model: Path, adapter: Path, *, out: Path, talk: Talk = TALK) -> None:
    """Put an adapter (ours or of `peft`) into the weights of its model, as a model of its own.

    Parameters
    ----------
    model:
        The model that the adapter was made for.
    adapter:
        Folder of the adapter.
    out:
        Folder for the merged model.
    """
    import gpt2

    found = gpt2.load(model)
    gpt2.load_adapter(found.net, adapter, merge=True)
    found.card = {**found.card, "adapter": str(adapter)}
    found.save(out)
    talk.result({"model": out}, f"{out}: {model} with the adapter {adapter} in its weights")
