"""The engines that `generate.py` and `first_token.py` time: each loads once and generates when it is told.

`prepare` makes an engine's files from one network of random weights, `ENGINES[name]` opens them and returns
a function (prompts, new tokens) -> ids: greedy, and always exactly so many tokens, whatever is drawn.

    ours            `gpt2.inference`, as `gpt2 generate` runs it
    transformers    `GPT2LMHeadModel.generate` with its usual cache
    ctranslate2     `Generator.generate_batch`
    onnxruntime     `network` below exported to ONNX, quantised by its own tools, IO binding for the cache
    openvino        the same with the cache as the model's state, quantised by nncf

onnxruntime and openvino have no GPT-2 of their own, so they run the network below. They and what converts for
them (onnx, nncf) are found in the environment of `--peers PYTHON`, where torch must be too.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Prompts = list[list[int]]
Generate = Callable[[Prompts, int], list[list[int]]]


def ours(folder: Path, dtype: str, threads: int) -> Generate:
    """This package: the native runner under the scheduler, nothing drafted, nothing kept between runs."""
    from gpt2.inference.engine import Engine, Request
    from gpt2.inference.native import open_native
    from gpt2.inference.sampling import Sampling

    model, greedy = open_native(folder / f"ours-{dtype}", threads=threads), Sampling(temperature=0)
    runner = model.runner(slots=16)

    def run(prompts: Prompts, new: int) -> list[list[int]]:
        for slot in range(runner.slots):
            runner.cut(slot, 0)
        engine = Engine(runner, model.tokenizer, drafts=False)
        requests = [Request(ids, new, greedy, stop_tokens=()) for ids in prompts]
        return [stream.ids for stream in engine.run(requests)]

    return run


def transformers(folder: Path, dtype: str, threads: int) -> Generate:
    """transformers as its users run it."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(threads)
    model = GPT2LMHeadModel.from_pretrained(folder / "huggingface", dtype=getattr(torch, dtype)).eval()

    def run(prompts: Prompts, new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )
        return out[:, ids.shape[1] :].tolist()

    return run


def ctranslate2(folder: Path, dtype: str, threads: int) -> Generate:
    """CTranslate2's Generator; its tokens are words of the vocabulary."""
    from ctranslate2 import Generator

    engine = Generator(str(folder / "ctranslate2"), compute_type=dtype, intra_threads=threads)
    names = [""] * 50257
    for name, i in json.loads((folder / "huggingface/vocab.json").read_text(encoding="utf-8")).items():
        names[i] = name

    def run(prompts: Prompts, new: int) -> list[list[int]]:
        found = engine.generate_batch(
            [[names[i] for i in ids] for ids in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in found]

    return run


def onnxruntime(folder: Path, dtype: str, threads: int) -> Generate:
    """ONNX Runtime, the cache kept in its own memory from step to step."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    path = folder / "onnx" / f"{dtype}.onnx"
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    past = [i for i in session.get_inputs() if i.name.startswith("past")]
    present = [o.name for o in session.get_outputs()][1:]

    def run(prompts: Prompts, new: int) -> list[list[int]]:
        ids, length, out = np.array(prompts), 0, []
        B, (_, H, _, D) = len(prompts), past[0].shape
        held = [ort.OrtValue.ortvalue_from_numpy(np.zeros((B, H, 0, D), np.float32)) for _ in past]
        for _ in range(new):
            binding = session.io_binding()
            for name, value in inputs(ids, length).items():
                binding.bind_cpu_input(name, value)
            for part, value in zip(past, held, strict=True):
                binding.bind_ortvalue_input(part.name, value)
            for name in ["logits", *present]:
                binding.bind_output(name)
            session.run_with_iobinding(binding)
            logits, *held = binding.get_outputs()
            length += ids.shape[1]
            ids = logits.numpy()[:, -1].argmax(-1)[:, None]
            out.append(ids[:, 0])
        return np.stack(out, 1).tolist()

    return run


def openvino(folder: Path, dtype: str, threads: int) -> Generate:
    """OpenVINO; it computes in bfloat16 where the processor has it, as it does by itself."""
    import numpy as np
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = ov.Core().compile_model(str(folder / "openvino" / f"{dtype}.xml"), "CPU", settings)
    request = model.create_infer_request()

    def run(prompts: Prompts, new: int) -> list[list[int]]:
        request.reset_state()
        ids, length, out = np.array(prompts), 0, []
        rows = np.arange(len(prompts), dtype=np.int32)
        for _ in range(new):
            request.infer({**inputs(ids, length), "beam_idx": rows}, share_inputs=True)
            length += ids.shape[1]
            ids = request.get_output_tensor(0).data[:, -1].argmax(-1)[:, None]
            out.append(ids[:, 0].copy())
        return np.stack(out, 1).tolist()

    return run


ENGINES: dict[str, Callable[[Path, str, int], Generate]] = {
    "ours": ours,
    "transformers": transformers,
    "ctranslate2": ctranslate2,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}


def inputs(ids: Any, length: int) -> dict[str, Any]:
    """What `network` takes beside the cache, for ids [B, T] after `length` tokens."""
    import numpy as np

    B, T = ids.shape
    at = np.arange(length, length + T)
    mask = np.where(np.arange(length + T) <= at[:, None], 0, -1e9).astype(np.float32)  # [T, S]
    return {
        "ids": ids.astype(np.int64),
        "pos": np.broadcast_to(at, (B, T)).astype(np.int64),
        "mask": np.broadcast_to(mask, (B, 1, T, length + T)),
    }


def network(folder: Path, beams: bool) -> Any:
    """A plain GPT-2 in torch with its cache as arguments and results, to be exported.

    (ids [B, T], pos [B, T], mask [B, 1, T, S], with `beams` also beam_idx [B], keys and values of each layer
    [B, H, S - T, D]) -> logits [B, 1, V] of the last position, keys and values [B, H, S, D].
    """
    import torch
    import torch.nn.functional as F

    import gpt2

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt2 = gpt2.load(folder / "workbench").net.eval()
            self.head = torch.nn.Linear(*self.gpt2.wte.weight.shape[::-1], bias=False)
            self.head.weight.data = self.gpt2.wte.weight.data.clone()  # so that it is quantised, unlike wte

        def forward(self, ids: Any, pos: Any, mask: Any, *rest: Any) -> Any:
            past, net, (B, T) = list(rest[beams:]), self.gpt2, ids.shape
            H, C = net.config.n_head, net.config.n_embd
            x, present = net.wte(ids) + net.wpe(pos), []
            for i, block in enumerate(net.h):
                qkv = block.attn.c_attn(block.ln_1(x))
                q, k, v = qkv.view(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4).unbind(0)
                k0, v0 = past[2 * i : 2 * i + 2]
                if beams:
                    k0, v0 = k0.index_select(0, rest[0]), v0.index_select(0, rest[0])
                k, v = torch.cat([k0, k], 2), torch.cat([v0, v], 2)
                present += [k, v]
                if beams:
                    a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                else:
                    a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(C // H) + mask, -1) @ v
                x = x + block.attn.c_proj(a.transpose(1, 2).reshape(B, T, C))
                x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x)), approximate="tanh"))
            return self.head(net.ln_f(x[:, -1:])), *present

    return Network().eval()


def example(config: Any, beams: bool) -> tuple[tuple[Any, ...], list[str]]:
    """Arguments to trace `network` with, and their names."""
    import torch

    B, T, P = 2, 3, 4
    rest = [torch.arange(B, dtype=torch.int32)] if beams else []
    past = [torch.zeros(B, config.n_head, P, config.n_embd // config.n_head)] * (2 * config.n_layer)
    ids = torch.zeros(B, T, dtype=torch.long)
    names = ["ids", "pos", "mask", *["beam_idx"] * beams, *(f"past.{i}" for i in range(len(past)))]
    return (ids, ids, torch.zeros(B, 1, T, P + T), *rest, *past), names


def prepare_onnx(folder: Path, dtypes: Sequence[str]) -> None:
    """ONNX in float32, quantised to int8 (per channel, dynamic) and int4 (blocks of 64)."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    target = folder / "onnx"
    target.mkdir()
    plain = target / "float32.onnx"
    net = network(folder, beams=False)
    arguments, names = example(net.gpt2.config, beams=False)
    layers = range(2 * net.gpt2.config.n_layer)
    axes = {"ids": {0: "B", 1: "T"}, "pos": {0: "B", 1: "T"}, "mask": {0: "B", 2: "T", 3: "S"}}
    axes |= {f"past.{i}": {0: "B", 2: "P"} for i in layers} | {
        f"present.{i}": {0: "B", 2: "S"} for i in layers
    }
    with torch.inference_mode():
        torch.onnx.export(
            net,
            arguments,
            str(plain),
            input_names=names,
            output_names=["logits", *(f"present.{i}" for i in layers)],
            opset_version=17,
            dynamic_axes={**axes, "logits": {0: "B"}},
            dynamo=False,
        )
    large = sum(path.stat().st_size for path in target.iterdir()) > 2**31 - 2**20
    if "int8" in dtypes:
        quantize_dynamic(
            plain,
            target / "int8.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=large,
        )
    if "int4" in dtypes:
        how = DefaultWeightOnlyQuantConfig(block_size=64, is_symmetric=True, accuracy_level=4)
        quantizer = MatMulNBitsQuantizer(onnx.load(plain), algo_config=how)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target / "int4.onnx"), use_external_data_format=large)


def prepare_openvino(folder: Path, dtypes: Sequence[str]) -> None:
    """OpenVINO's form with the cache as state, quantised by nncf to int8 and int4 (groups of 64)."""
    import nncf
    import openvino as ov
    import torch
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_make_stateful_transformation

    net = network(folder, beams=True)
    arguments, names = example(net.gpt2.config, beams=True)
    H, D = net.gpt2.config.n_head, net.gpt2.config.n_embd // net.gpt2.config.n_head
    with torch.inference_mode():
        model = ov.convert_model(net, example_input=arguments)
    del net
    for part, name in zip(model.inputs, names, strict=True):
        part.tensor.set_names({name})
    for i, part in enumerate(model.outputs):
        part.tensor.set_names({f"present.{i - 1}" if i else "logits"})
    past = [name for name in names if name.startswith("past")]
    shapes = {"ids": [-1, -1], "pos": [-1, -1], "mask": [-1, 1, -1, -1], "beam_idx": [-1]}
    model.reshape(shapes | {name: [-1, H, -1, D] for name in past})
    apply_make_stateful_transformation(model, {name: f"present.{i}" for i, name in enumerate(past)})
    batch = ops.gather(
        ops.shape_of(model.input("ids"), output_type="i64"), ops.constant([0]), ops.constant(0)
    )
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":  # at the start, no tokens for as many rows as ids has
            shape = ops.concat([batch, ops.constant([H, 0, D], dtype="int64")], 0)
            node.set_arguments([ops.broadcast(ops.constant(0.0, dtype="float32"), shape)])
    model.validate_nodes_and_infer_types()
    target = folder / "openvino"
    target.mkdir()
    modes = {
        "int8": {"mode": nncf.CompressWeightsMode.INT8_SYM},
        "int4": {
            "mode": nncf.CompressWeightsMode.INT4_SYM,
            "group_size": 64,
            "ratio": 1.0,
            "all_layers": True,
        },
    }
    ov.save_model(model, target / "float32.xml", compress_to_fp16=False)
    for dtype in dtypes:
        if dtype in modes:
            fresh = ov.Core().read_model(target / "float32.xml")
            ov.save_model(nncf.compress_weights(fresh, **modes[dtype]), target / f"{dtype}.xml")


def prepare_ctranslate2(folder: Path, dtypes: Sequence[str]) -> None:  # noqa: ARG001
    """CTranslate2's form, already in int8, and its usual one."""
    from ctranslate2.converters import TransformersConverter

    for name, kind in (("ctranslate2", "int8"), ("ctranslate2-float32", None)):
        converter = TransformersConverter(str(folder / "huggingface"))
        converter.convert(str(folder / name), quantization=kind)


PREPARE = {
    "ctranslate2": prepare_ctranslate2,
    "onnxruntime": prepare_onnx,
    "openvino": prepare_openvino,
}
"""What must be made in the engine's own environment."""


def prompts(streams: int, length: int) -> Prompts:
    """The same random ids for every engine."""
    import random

    rng = random.Random(0)
    return [[rng.randrange(50_000) for _ in range(length)] for _ in range(streams)]


def work(engine: str, folder: Path, threads: int) -> None:
    """A process for one engine: for each line [streams, prompt, new], generate and say how long it took."""
    name, dtype = engine.split()
    run = ENGINES[name](folder, dtype, threads)
    print("\0ready", flush=True)
    for line in sys.stdin:
        streams, length, new = json.loads(line)
        asked = prompts(streams, length)
        begun = time.perf_counter()
        out = run(asked, new)
        seconds = time.perf_counter() - begun
        assert [len(ids) for ids in out] == [new] * streams, engine
        print("\0" + json.dumps(seconds), flush=True)


if __name__ == "__main__":
    action, engine, folder, value = sys.argv[1:]
    if action == "prepare":
        PREPARE[engine](Path(folder), value.split(","))
    else:
        work(engine, Path(folder), int(value))
