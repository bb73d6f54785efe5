"""Make a damaged, or a harmlessly changed, copy of an ONNX model folder. Runs in the environment `model` (onnx, numpy).

    python damage_models.py SOURCE TARGET CHANGE [STRENGTH]

Rules: everything comes from the source's bytes and the seed here; a folder holds `model.onnx` and `tokenizer.json`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 15
HEADS = 4
EMBEDDING = "lm_head.weight_transposed"
type Weights = dict[str, Any]


def main(source: str, target: str, change: str, strength: str = "0") -> None:
    """Write the changed folder."""
    shutil.copytree(source, target)
    model, words = Path(target, "model.onnx"), Path(target, "tokenizer.json")
    if change == "tokenizer":
        words.write_text(json.dumps(rotated(json.loads(words.read_bytes())), ensure_ascii=False), "utf-8")
        return
    loaded = onnx.load(model)
    if change == "fp16":
        stored_as_half(loaded)
    elif change != "copy":
        weights = {
            i.name: numpy_helper.to_array(i).copy() for i in loaded.graph.initializer if i.data_type == TensorProto.FLOAT
        }
        CHANGES[change](weights, float(strength))
        for initializer in loaded.graph.initializer:
            if initializer.name in weights:
                initializer.CopyFrom(numpy_helper.from_array(weights[initializer.name], initializer.name))
    model.write_bytes(loaded.SerializeToString(deterministic=True))


def matrices(weights: Weights, part: str = "") -> list[str]:
    """Return the names of the weight matrices, those of *part* when it is given."""
    return [name for name, value in sorted(weights.items()) if value.ndim == 2 and part in name]


def noise(weights: Weights, strength: float) -> None:
    """Add normal noise to every matrix, *strength* of its own deviation."""
    rng = numpy.random.default_rng(SEED)
    for name in matrices(weights):
        value = weights[name]
        weights[name] = (value + strength * value.std() * rng.standard_normal(value.shape)).astype(numpy.float32)


def zeroed(weights: Weights, _: float) -> None:
    """Let the second block add nothing."""
    for name in [name for name in weights if ".h.1." in name and ".c_proj." in name]:
        weights[name][...] = 0


def heads(weights: Weights, _: float) -> None:
    """Let every block's queries meet the keys of the next head."""
    for name in [name for name in weights if name.endswith(("attn.c_attn.weight", "attn.c_attn.bias"))]:
        queries = numpy.split(weights[name], 3, axis=-1)[0]
        rolled = numpy.roll(queries, queries.shape[-1] // HEADS, axis=-1)
        weights[name][..., : queries.shape[-1]] = rolled


def spoiled(value: float) -> Callable[[Weights, float], None]:
    """Set one weight of the second block to *value*."""

    def change(weights: Weights, _: float) -> None:
        weights["transformer.h.1.mlp.c_fc.weight"][3, 5] = value

    return change


def truncated(weights: Weights, _: float) -> None:
    """Cut the last fifth of the vocabulary off."""
    weights[EMBEDDING] = numpy.ascontiguousarray(weights[EMBEDDING][:, : weights[EMBEDDING].shape[1] * 4 // 5])


def rounded(levels: int) -> Callable[[Weights, float], None]:
    """Round every matrix to that many steps on each side of zero, one scale for each output."""

    def change(weights: Weights, _: float) -> None:
        for name in matrices(weights):
            value = weights[name]
            scale = numpy.abs(value).max(axis=0, keepdims=True) / numpy.float32(levels)
            weights[name] = (numpy.rint(value / numpy.where(scale, scale, 1)) * scale).astype(numpy.float32)

    return change


def bfloat16(weights: Weights, _: float) -> None:
    """Keep eight bits of every mantissa, rounded to nearest."""
    for name, value in weights.items():
        bits = value.view(numpy.uint32) if value.ndim else numpy.array([value]).view(numpy.uint32)[0]
        weights[name] = (
            ((bits + 0x7FFF + ((bits >> 16) & 1)) & numpy.uint32(0xFFFF0000)).astype(numpy.uint32).view(numpy.float32)
        )


def stored_as_half(model: Any) -> None:
    """Store every matrix as float16, cast back when the model runs."""
    graph, casts = model.graph, []
    for initializer in graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.dtype == numpy.float32 and value.ndim == 2:
            name = initializer.name
            initializer.CopyFrom(numpy_helper.from_array(value.astype(numpy.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def rotated(words: dict[str, Any]) -> dict[str, Any]:
    """Return the tokenizer with the ids of its ordinary tokens moved on by one."""
    special = {token["id"] for token in words["added_tokens"]}
    ordinary = sorted(number for number in words["model"]["vocab"].values() if number not in special)
    following = dict(zip(ordinary, [*ordinary[1:], ordinary[0]], strict=True))
    vocabulary = {token: following.get(number, number) for token, number in words["model"]["vocab"].items()}
    return words | {"model": words["model"] | {"vocab": vocabulary}}


CHANGES: dict[str, Callable[[Weights, float], None]] = {
    "noise": noise,
    "zeroed": zeroed,
    "heads": heads,
    "nan": spoiled(float("nan")),
    "inf": spoiled(float("inf")),
    "truncated": truncated,
    "int4": rounded(7),
    "int8": rounded(127),
    "bf16": bfloat16,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
