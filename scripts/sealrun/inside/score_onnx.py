"""Score texts with an ONNX language model. Runs inside the `runtime-onnx` environment, never in Sealrun's own.

    python score_onnx.py JOB.json RECORDS.jsonl

The job names five things: `model` (an .onnx file), `tokenizer` (its tokenizer.json), `data` (JSON lines), `text_field`
(the field that holds the text) and `window` (the most tokens the model sees at once). The first line written says which
bytes were read and which runtime read them; then comes one line per case, in the order of the data, under its `id` or
its number.

Rules: a text is encoded with the special tokens of its own tokenizer; every token but the first is predicted exactly
once, long texts in windows that overlap by one token; log probabilities are natural logarithms, reached in float64 from
the model's logits and added exactly. One case at a time on one thread: a dynamically quantised model takes one scale
from a whole batch, so any neighbour would change the number. A case that the model cannot score gets an `error` instead
of a number; everything else that goes wrong ends the program.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from tokenizers import Tokenizer

FORMAT = "sealrun/records-v1"


class Unscorable(Exception):
    """The model has no finite number for this case."""


def main(job_file: str, records_file: str) -> None:
    """Score every case of the job and write its records."""
    job = json.loads(Path(job_file).read_bytes())
    model, tokenizer, data = (Path(job[name]) for name in ("model", "tokenizer", "data"))
    lines = [json.loads(line) for line in data.read_bytes().splitlines()]
    cases = [(line.get("id", f"line-{number}"), line[job["text_field"]]) for number, line in enumerate(lines, 1)]
    header = {
        "format": FORMAT,
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "window": job["window"],
        "model_sha256": file_sha256(model),
        "tokenizer_sha256": file_sha256(tokenizer),
        "data_sha256": file_sha256(data),
        "cases": len(cases),
    }
    session, words = open_session(model), Tokenizer.from_file(str(tokenizer))
    words.no_truncation()
    words.no_padding()
    with Path(records_file).open("w", encoding="utf-8", newline="\n") as stream:
        for line in (header, *records(session, words, cases, header)):
            stream.write(json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def open_session(model: Path) -> Any:
    """Return the model, opened for the CPU with one thread. Ends the program when its inputs are not understood."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    if "input_ids" not in names or names - feeds(numpy.zeros((1, 1), numpy.int64)).keys():
        sys.exit(f"{model.name}: got the inputs {sorted(names)}, expected input_ids and at most attention_mask, "
                 "position_ids, token_type_ids; export the model without a key-value cache")  # fmt: skip
    if "logits" not in {entry.name for entry in session.get_outputs()}:
        sys.exit(f"{model.name}: got no output named logits; export the model with its language-model head")
    return session


def records(session: Any, words: Tokenizer, cases: list[tuple[str, str]], header: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one record per case, each naming the model file that was run, and tell the progress on standard error."""
    window, model = header["window"], header["model_sha256"]
    step = max(1, len(cases) // 20)
    for number, (identity, text) in enumerate(cases, 1):
        yield {"id": identity, "model_sha256": model, **record(session, words, text, window)}
        if number % step == 0 or number == len(cases):
            sys.stderr.write(f"scored {number}/{len(cases)}\n")


def record(session: Any, words: Tokenizer, text: str, window: int) -> dict[str, Any]:
    """Return what is known about one text: its digest and size, its tokens, its log probability or an error."""
    ids = words.encode(text).ids
    logprob_sum, error = None, None
    try:
        logprob_sum = log_probability(session, ids, window)
    except Unscorable as problem:
        error = str(problem)
    return {
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "utf8_byte_count": len(text.encode()),
        "token_count": max(0, len(ids) - 1),
        "logprob_sum": logprob_sum,
        "error": error,
    }


def log_probability(session: Any, ids: list[int], window: int) -> float:
    """Return ln P of all tokens but the first. Raises Unscorable."""
    if len(ids) < 2:
        raise Unscorable("fewer than two tokens: nothing is predicted")
    terms: list[float] = []
    for start in range(0, len(ids) - 1, window - 1):
        piece = numpy.array([ids[start : start + window]], numpy.int64)
        terms += token_log_probabilities(logits_of(session, piece), piece[0])
    return math.fsum(terms)


def logits_of(session: Any, piece: Any) -> Any:
    """Return float64 [tokens, vocabulary] for int64 [1, tokens]. Raises Unscorable."""
    names = {entry.name for entry in session.get_inputs()}
    try:
        [logits] = session.run(["logits"], {name: value for name, value in feeds(piece).items() if name in names})
    except (Fail, InvalidArgument) as problem:
        sys.stderr.write(f"{problem}\n")
        raise Unscorable(f"the runtime refused {piece.shape[1]} tokens of this case") from problem
    if logits.ndim != 3 or logits.shape[:2] != piece.shape or piece.max() >= logits.shape[2]:
        raise Unscorable(f"logits have the shape {list(logits.shape)}, too small for the tokens of this case")
    if not numpy.isfinite(logits).all():
        raise Unscorable("logits are not finite")
    return logits[0].astype(numpy.float64)


def feeds(piece: Any) -> dict[str, Any]:
    """Return every input a causal export may ask for, for int64 [1, tokens]."""
    return {
        "input_ids": piece,
        "attention_mask": numpy.ones_like(piece),
        "position_ids": numpy.arange(piece.shape[1], dtype=numpy.int64)[None],
        "token_type_ids": numpy.zeros_like(piece),
    }


def token_log_probabilities(logits: Any, ids: Any) -> list[float]:
    """Return ln P of ids[1:], each from the logits one place before it."""
    shifted = logits[:-1] - logits[:-1].max(axis=-1, keepdims=True)
    chosen = numpy.take_along_axis(shifted, ids[1:, None], axis=-1)[:, 0]
    return [float(value) for value in chosen - numpy.log(numpy.exp(shifted).sum(axis=-1))]


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
