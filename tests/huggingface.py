"""Our network's weights in transformers' GPT-2, so that the two can be compared."""

from __future__ import annotations

import torch
from transformers import GPT2Config as HuggingFaceConfig
from transformers import GPT2LMHeadModel

from gpt2.model.transformer import GPT2

CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def to_huggingface(net: GPT2) -> GPT2LMHeadModel:
    """The same network as a GPT2LMHeadModel without dropout; its Conv1D layers store [in, out]."""
    c = net.config
    config = HuggingFaceConfig(
        vocab_size=c.vocab_size,
        n_positions=c.n_ctx,
        n_embd=c.n_embd,
        n_layer=c.n_layer,
        n_head=c.n_head,
        layer_norm_epsilon=c.layer_norm_epsilon,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=c.vocab_size - 1,
        eos_token_id=c.vocab_size - 1,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        theirs = dict(model.transformer.named_parameters())
        for name, p in net.named_parameters():
            theirs[name].copy_(p.t() if name.endswith(CONV1D) else p)
    return model
