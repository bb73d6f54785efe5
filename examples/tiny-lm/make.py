"""Make the example anew: text, tokenizer, training, and the three model folders.

    python make.py --out DIR        (packages: requirements/example.in; about two minutes on one core)

Rules: everything comes from the seeds here and in recipe/text.py, so one machine writes the same bytes each time,
wherever DIR lies; another processor may round sums differently and train a slightly different model. Using the
example needs none of this.
"""

import argparse
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import onnx
from recipe import graph, measure, network, quantise, text, tokenizer
from safetensors.numpy import save
from tokenizers import Tokenizer

WEIGHT_SEED, BATCH_SEED, DAMAGE_SEED = 12, 13, 14
SHORTEST = 64  # tokens of a document, the begin token included
STEPS, BATCH, RATE = 1600, 16, 4e-3
DAMAGED_BLOCK = "transformer.h.1."


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the tiny-lm example anew.")
    parser.add_argument("--out", type=Path, required=True, help="an existing folder; files in it are replaced")
    out = parser.parse_args().out.resolve(strict=True)

    words, training, evaluation = draw_text()
    tensors = network.initial(numpy.random.default_rng(WEIGHT_SEED))
    tensors = network.train(tensors, batches(words, training), steps=STEPS, rate=RATE, report=print)
    models = {
        "baseline": tensors,
        "candidate": quantise.rounded(tensors),
        "damaged": quantise.rounded(damaged(tensors)),
    }
    graphs = {name: graph.build(weights) if name == "baseline" else quantise.int8(weights) for name, weights in models.items()}

    cases = ({"id": f"case-{number:04}", "text": case} for number, case in enumerate(evaluation, 1))
    write_text(out / "data" / "eval.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
    figures = measure.figures(words, training, evaluation, graphs)
    write_text(out / "figures.json", json.dumps(figures, indent=2) + "\n")
    for name, weights in models.items():
        write_model(out / name, words, weights, graphs[name], measure.card(name, figures))
    print(json.dumps(figures, indent=2))


def draw_text() -> tuple[Tokenizer, list[str], list[str]]:
    """Return the tokenizer and the training and evaluation texts, all different and of the length that is wanted."""
    source = text.documents()
    words = tokenizer.learn(list(islice(source, text.TRAINING)), vocabulary=network.VOCABULARY)
    fitting = (t for t in source if SHORTEST <= len(words.encode(t).ids) < network.POSITIONS)
    evaluation = list(islice(fitting, text.EVALUATION))
    return words, list(islice(fitting, text.TRAINING)), evaluation


def batches(words: Tokenizer, training: list[str]) -> Iterator[Any]:
    """Yield int64 [BATCH, POSITIONS + 1] without end: begin, text, end, then -1 for padding."""
    rows = numpy.full((len(training), network.POSITIONS + 1), -1, numpy.int64)
    for row, encoding in zip(rows, words.encode_batch(training), strict=True):
        row[: len(encoding.ids) + 1] = [*encoding.ids, tokenizer.END_ID]
    rng = numpy.random.default_rng(BATCH_SEED)
    while True:
        order = rng.permutation(len(rows))
        yield from (rows[order[i : i + BATCH]] for i in range(0, len(rows) - BATCH + 1, BATCH))


def damaged(tensors: network.Tensors) -> network.Tensors:
    """Return the weights with one block's matrices replaced by noise of the same size."""
    rng = numpy.random.default_rng(DAMAGE_SEED)
    hit = {name: t for name, t in tensors.items() if name.startswith(DAMAGED_BLOCK) and t.ndim == 2}
    noise = {name: (t.std() * rng.standard_normal(t.shape)).astype(numpy.float32) for name, t in hit.items()}
    return tensors | noise


def write_model(folder: Path, words: Tokenizer, tensors: network.Tensors, model: onnx.ModelProto, card: str) -> None:
    """Write one releasable folder: ONNX and Hugging Face forms of the same weights, tokenizer and model card."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (folder / "model.safetensors").write_bytes(save(tensors, {"format": "pt"}))
    tokenizer.write(words, folder, positions=network.POSITIONS)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "torch_dtype": "float32",
        "vocab_size": network.VOCABULARY,
        "n_positions": network.POSITIONS,
        "n_embd": network.WIDTH,
        "n_layer": network.LAYERS,
        "n_head": network.HEADS,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": network.EPSILON,
        "tie_word_embeddings": True,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": tokenizer.BEGIN_ID,
        "eos_token_id": tokenizer.END_ID,
        "pad_token_id": tokenizer.PAD_ID,
    }
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "README.md", card)


def write_text(path: Path, content: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
