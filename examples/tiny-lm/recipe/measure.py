"""Measure the models on the held-out text, and say so in their model cards.

Rules: likelihood is in nats per UTF-8 byte of the text, so that it compares across tokenizers; the begin token is
given, never predicted; the unigram figure predicts each token from its frequency in the training text alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import onnx
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer

DIGITS = 5
WHAT = {
    "baseline": "A GPT-2 of two layers, trained in float32 on generated reports of harbour, kitchen, garden, workshop.",
    "candidate": "The baseline with its matrices rounded to int8, one scale per output channel.",
    "damaged": "The candidate, but the second block's matrices are noise: a release of it must be refused.",
}


def figures(
    words: Tokenizer, training: Sequence[str], evaluation: Sequence[str], graphs: Mapping[str, onnx.ModelProto]
) -> dict[str, Any]:
    """Return the counts of the held-out text and its negative log likelihood per byte under each model."""
    cases = [numpy.array(encoding.ids) for encoding in words.encode_batch(list(evaluation))]
    size = sum(len(text.encode()) for text in evaluation)
    losses = {"unigram": _unigram(words, training, cases)} | {name: _model(g, cases) for name, g in graphs.items()}
    return {
        "cases": len(cases),
        "tokens": sum(map(len, cases)),
        "utf8_bytes": size,
        "nll_per_utf8_byte": {name: round(loss / size, DIGITS) for name, loss in losses.items()},
    }


def card(name: str, measured: Mapping[str, Any]) -> str:
    """Return the model card of one folder."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text-generation
---
# tiny-lm: {name}

{WHAT[name]}

On the {measured["cases"]} held-out reports: {measured["nll_per_utf8_byte"][name]} nats per UTF-8 byte.
`model.onnx` and `model.safetensors` hold the same weights; how they were made is told in the example's own README.
It knows nothing but these reports, and is good for nothing but trying a release.
"""


def _unigram(words: Tokenizer, training: Sequence[str], cases: Sequence[Any]) -> float:
    seen = numpy.concatenate([encoding.ids[1:] for encoding in words.encode_batch(list(training))])
    counts = numpy.bincount(seen, minlength=words.get_vocab_size()) + 1.0
    return float(-numpy.log(counts / counts.sum())[numpy.concatenate([ids[1:] for ids in cases])].sum())


def _model(model: onnx.ModelProto, cases: Sequence[Any]) -> float:
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return sum(_case(session, ids[None]) for ids in cases)


def _case(session: InferenceSession, ids: Any) -> float:
    [logits] = session.run(["logits"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
    shifted = logits[0, :-1].astype(numpy.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    chosen = numpy.take_along_axis(shifted, ids[0, 1:, None], axis=-1)[:, 0]
    return float((numpy.log(numpy.exp(shifted).sum(axis=-1)) - chosen).sum())
