"""The network: GPT-2's architecture in numpy, trained with reverse-mode differentiation and Adam.

Rules: tensors carry the names and shapes of Hugging Face's GPT2LMHeadModel; everything is float32; one thread and one
seed, so that a machine gets the same bytes each time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import autograd.numpy as np
import numpy
from autograd import value_and_grad

VOCABULARY, POSITIONS, WIDTH, HEADS, LAYERS = 512, 96, 64, 4, 2
EPSILON = 1e-5
Tensors = dict[str, Any]  # name -> float32 array; autograd's boxes while differentiating


def initial(rng: numpy.random.Generator) -> Tensors:
    """Return GPT-2's initial weights: normal with deviation 0.02, less where a block adds to the residual stream."""

    def normal(*shape: int, scale: float = 0.02) -> Any:
        return (scale * rng.standard_normal(shape)).astype(numpy.float32)

    residual = 0.02 / (2 * LAYERS) ** 0.5
    tensors = {"transformer.wte.weight": normal(VOCABULARY, WIDTH), "transformer.wpe.weight": normal(POSITIONS, WIDTH)}
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}"
        tensors |= _norm(f"{h}.ln_1") | _linear(f"{h}.attn.c_attn", normal(WIDTH, 3 * WIDTH))
        tensors |= _linear(f"{h}.attn.c_proj", normal(WIDTH, WIDTH, scale=residual))
        tensors |= _norm(f"{h}.ln_2") | _linear(f"{h}.mlp.c_fc", normal(WIDTH, 4 * WIDTH))
        tensors |= _linear(f"{h}.mlp.c_proj", normal(4 * WIDTH, WIDTH, scale=residual))
    return tensors | _norm("transformer.ln_f")


def train(tensors: Tensors, batches: Iterator[Any], *, steps: int, rate: float, report: Callable[[str], None]) -> Tensors:
    """Return the weights after *steps* of Adam; a batch is int64 [documents, POSITIONS + 1], padded with -1."""
    first, second = ({name: numpy.zeros_like(t) for name, t in tensors.items()} for _ in range(2))
    differentiate = value_and_grad(_loss)
    for step in range(1, steps + 1):
        loss, gradient = differentiate(tensors, next(batches))
        norm = sum(float((g * g).sum()) for g in gradient.values()) ** 0.5
        pace = rate * min(1.0, step / 50) * (0.5 + 0.5 * numpy.cos(numpy.pi * step / steps))
        correction = (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
        for name, raw in gradient.items():
            g = raw * numpy.float32(min(1.0, 1.0 / norm))
            first[name] = numpy.float32(0.9) * first[name] + numpy.float32(0.1) * g
            second[name] = numpy.float32(0.99) * second[name] + numpy.float32(0.01) * g * g
            change = first[name] / (numpy.sqrt(second[name]) + numpy.float32(1e-8))
            tensors[name] = tensors[name] - numpy.float32(pace * correction) * change
        if step % 100 == 0 or step == steps:
            report(f"step {step}/{steps}: {float(loss):.4f} nats per token")
    return tensors


def _loss(tensors: Tensors, batch: Any) -> Any:
    """Return the mean negative log likelihood of each next token that is not padding."""
    given, wanted = batch[:, :-1], batch[:, 1:].ravel()
    logits = _logits(tensors, numpy.maximum(given, 0))
    partition = np.log(np.sum(np.exp(logits), axis=-1))
    chosen = np.sum(logits * _one_hot(numpy.maximum(wanted, 0)), axis=-1)
    real = (wanted >= 0).astype(numpy.float32)
    return np.sum((partition - chosen) * real) / real.sum()


def _logits(tensors: Tensors, ids: Any) -> Any:
    """Return float32 [documents * length, VOCABULARY] for int64 [documents, length]; both embeddings are one matrix."""
    places = _one_hot(numpy.tile(numpy.arange(ids.shape[1]), len(ids)), POSITIONS)
    x = np.dot(_one_hot(ids.ravel()), tensors["transformer.wte.weight"])
    x = x + np.dot(places, tensors["transformer.wpe.weight"])
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}"
        x = x + _attention(tensors, f"{h}.attn", _normalised(tensors, f"{h}.ln_1", x), *ids.shape)
        hidden = _gelu(_applied(tensors, f"{h}.mlp.c_fc", _normalised(tensors, f"{h}.ln_2", x)))
        x = x + _applied(tensors, f"{h}.mlp.c_proj", hidden)
    return np.dot(_normalised(tensors, "transformer.ln_f", x), tensors["transformer.wte.weight"].T)


def _attention(tensors: Tensors, name: str, x: Any, documents: int, length: int) -> Any:
    """Mix each token with those before it; exp needs no shift, since scores stay small."""
    q, k, v = (
        np.transpose(part.reshape((documents, length, HEADS, WIDTH // HEADS)), (0, 2, 1, 3))
        for part in np.split(_applied(tensors, f"{name}.c_attn", x), 3, axis=-1)
    )
    scores = np.matmul(q * numpy.float32((WIDTH // HEADS) ** -0.5), np.transpose(k, (0, 1, 3, 2)))
    weights = np.exp(scores) * numpy.tril(numpy.ones((length, length), numpy.float32))
    mixed = np.matmul(weights, v) / np.sum(weights, axis=-1, keepdims=True)
    return _applied(tensors, f"{name}.c_proj", np.transpose(mixed, (0, 2, 1, 3)).reshape((documents * length, WIDTH)))


def _applied(tensors: Tensors, name: str, x: Any) -> Any:
    return np.dot(x, tensors[f"{name}.weight"]) + tensors[f"{name}.bias"]


def _normalised(tensors: Tensors, name: str, x: Any) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    deviation = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + numpy.float32(EPSILON))
    return centred / deviation * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def _gelu(x: Any) -> Any:
    inner = numpy.float32(0.7978845608) * (x + numpy.float32(0.044715) * x * x * x)
    return numpy.float32(0.5) * x * (1 + np.tanh(inner))


def _one_hot(indices: Any, size: int = VOCABULARY) -> Any:
    return numpy.eye(size, dtype=numpy.float32)[indices]


def _norm(name: str) -> Tensors:
    return {f"{name}.weight": numpy.ones(WIDTH, numpy.float32), f"{name}.bias": numpy.zeros(WIDTH, numpy.float32)}


def _linear(name: str, weight: Any) -> Tensors:
    return {f"{name}.weight": weight, f"{name}.bias": numpy.zeros(weight.shape[1], numpy.float32)}
