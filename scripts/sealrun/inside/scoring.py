"""What every scorer does, whatever runs its model: cases, windows, batches, workers, resuming, records.

    python score_RUNTIME.py JOB.json RECORDS.jsonl

The job names `model` and `tokenizer` (files), `data` (JSON lines), `text_field`, `reference_field` (or null) and `joiner`,
`window` (the most tokens the model sees at once), `batch` (texts at once), `device` and `workers`. The first line written says
which bytes were read and which runtime read them; then comes one line per case, in the order of the data, under its `id` or its
number.

Rules: a text is encoded with the special tokens of its own tokenizer; every token but the first is predicted exactly once, long
texts in windows that overlap by one token; log probabilities are natural logarithms, reached in float64 from the model's logits
and added exactly. With a reference, only its tokens count, and the output is the model's own greedy answer as far as it equals
the reference, plus the token in which it differs: it is the reference exactly when a greedy run would have begun with it.

What a case's number depends on is its batch alone, and batches depend on the data alone: any number of workers, each with one
thread, gives the same bytes. A model whose numbers depend on its neighbours in a batch is scored one text at a time. A case
that the model cannot score gets an `error` instead of a number; everything else that goes wrong ends the program. What was
scored lies in `RECORDS.jsonl.part-*` until all is done, and is not scored again. With `shard` (K and N) only the K-th of N
ranges of batches is scored, and what is known of it goes to the file `part`, fit to be such a part of another run.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy
from tokenizers import Tokenizer

FORMAT = "sealrun/records-v1"
_ROWS = 256  # of logits that are turned into float64 at once
_REPORTS = 20


class Unscorable(Exception):
    """The model has no finite number for this case."""


class Runtime(Protocol):
    """A model, opened. `alone` says that a text's numbers depend on what else is in its batch."""

    name: str
    version: str
    alone: bool

    def logits(self, ids: Any, mask: Any) -> Any:
        """Return floats [texts, tokens, vocabulary] for int64 [texts, tokens], padded where *mask* is 0. Raises Unscorable."""


class Case(NamedTuple):
    """One case: what the model is shown, and the text whose probability counts."""

    id: str
    prompt: str
    text: str


class Piece(NamedTuple):
    """Tokens that the model sees at once, and the first place in them whose token is predicted."""

    ids: list[int]
    first: int


def main(opened: Any, job_file: str, records_file: str) -> None:
    """Score every case of the job with the runtime that *opened* returns for it, and write its records."""
    job = json.loads(Path(job_file).read_bytes())
    cases = read_cases(job)
    target = Path(records_file)
    runtime: Runtime = opened(job)
    words = Tokenizer.from_file(job["tokenizer"])
    words.no_truncation()
    words.no_padding()
    model = file_sha256(Path(job["model"]))
    header = {
        "format": FORMAT,
        "runtime": runtime.name,
        "runtime_version": runtime.version,
        "window": job["window"],
        "model_sha256": model,
        "tokenizer_sha256": file_sha256(Path(job["tokenizer"])),
        "data_sha256": file_sha256(Path(job["data"])),
        "cases": len(cases),
        "batch": 1 if runtime.alone else job["batch"],
        "device": job["device"],
    }
    units = share(batches(cases, 1 if runtime.alone else job["batch"]), job)
    done = score(runtime, words, cases, units, job, target)
    if "part" in job:
        scored = sorted(index for unit in units for index in unit)
        Path(job["part"]).write_text(
            "".join(f"{json.dumps([index, done[index]], allow_nan=False)}\n" for index in scored), "utf-8"
        )
        return
    lines = (header, *({"id": case.id, "model_sha256": model, **done[index]} for index, case in enumerate(cases)))
    partial = target.with_name(f".{target.name}")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        for line in lines:
            stream.write(json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(target)
    for file in parts(target):
        file.unlink()


def read_cases(job: dict[str, Any]) -> list[Case]:
    """Return the cases of the job's data."""
    lines = [json.loads(line) for line in Path(job["data"]).read_bytes().splitlines()]
    text, reference = job["text_field"], job["reference_field"]
    return [
        Case(
            id=line.get("id", f"line-{number}"),
            prompt=line[text] + job["joiner"] if reference else "",
            text=line[reference] if reference else line[text],
        )
        for number, line in enumerate(lines, 1)
    ]


def share(units: list[list[int]], job: dict[str, Any]) -> list[list[int]]:
    """Return the batches that this run is for: all, or those of its shard."""
    number, of = job.get("shard", (1, 1))
    return units[len(units) * (number - 1) // of : len(units) * number // of]


def score(
    runtime: Runtime, words: Tokenizer, cases: Sequence[Case], units: list[list[int]], job: dict[str, Any], target: Path
) -> dict[int, Any]:
    """Return what is known about each case by its number, from earlier parts and from the workers started for the rest."""
    done = earlier(target)
    left = [unit for unit in units if not all(index in done for index in unit)]
    workers = max(1, min(job["workers"], len(left)))
    receive, send = os.pipe()
    begun = len(parts(target))
    children = []
    for worker in range(workers if left else 0):
        if (child := os.fork()) == 0:
            os.close(receive)
            work(
                runtime,
                words,
                cases,
                left[worker::workers],
                job["window"],
                target.with_name(f"{target.name}.part-{begun + worker}"),
                send,
            )
        children.append(child)
    os.close(send)
    tell(receive, len(cases), sum(len(unit) for unit in units) - sum(len(unit) for unit in left))
    if any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children):
        sys.exit("a worker failed; what it said stands above")
    return earlier(target) if left else done


def parts(target: Path) -> list[Path]:
    """Return the files of what workers have scored."""
    return sorted(target.parent.glob(f"{target.name}.part-*"))


def earlier(target: Path) -> dict[int, Any]:
    """Return what was scored already; a line that was cut short does not count."""
    done = {}
    for file in parts(target):
        for line in file.read_bytes().split(b"\n")[:-1]:
            index, record = json.loads(line)
            done[index] = record
    return done


def batches(cases: Sequence[Case], size: int) -> list[list[int]]:
    """Return the numbers of the cases in batches of like length, which depend on the data and the size alone."""
    order = sorted(range(len(cases)), key=lambda index: (len(cases[index].prompt) + len(cases[index].text), index))
    return [order[start : start + size] for start in range(0, len(order), size)]


def work(
    runtime: Runtime, words: Tokenizer, cases: Sequence[Case], units: list[list[int]], window: int, target: Path, told: int
) -> None:
    """In a worker: score the batches *units*, write each when it is done, and end the process."""
    code = 1
    try:
        with target.open("w", encoding="utf-8") as stream:
            for unit in units:
                found = records(runtime, words, [cases[index] for index in unit], window)
                stream.writelines(json.dumps(pair, allow_nan=False) + "\n" for pair in zip(unit, found, strict=True))
                stream.flush()
                os.write(told, b"." * len(unit))
        code = 0
    except BaseException as problem:  # noqa: BLE001 - a forked process must not go on as its parent would
        sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def tell(receive: int, total: int, known: int) -> None:
    """Tell the progress on standard error until every worker has ended."""
    step, said, count = max(1, total // _REPORTS), 0, known
    while arrived := os.read(receive, 65536):
        count += len(arrived)
        if count // step != said or count == total:
            said = count // step
            sys.stderr.write(f"scored {count}/{total}\n")
            sys.stderr.flush()
    os.close(receive)


def records(runtime: Runtime, words: Tokenizer, cases: Sequence[Case], window: int) -> list[dict[str, Any]]:
    """Return what is known about each of the cases, scored in one batch; where that fails, each by itself."""
    encoded = [words.encode(case.prompt + case.text) for case in cases]
    try:
        found: list[Any] = answers(runtime, [pieces(case, code, window) for case, code in zip(cases, encoded, strict=True)])
    except Unscorable as problem:
        if len(cases) > 1:
            return [each for case in cases for each in records(runtime, words, [case], window)]
        found = [problem]
    return [record(words, case, code, known) for case, code, known in zip(cases, encoded, found, strict=True)]


def record(words: Tokenizer, case: Case, code: Any, known: Any) -> dict[str, Any]:
    """Return the record of one case: digest and size of its text, its tokens, its log probability or an error."""
    error = str(known) if isinstance(known, Unscorable) else None
    terms, greedy = ([], []) if error else known
    counted = len(code.ids) - first_counted(case, code)
    found = {
        "text_sha256": hashlib.sha256(case.text.encode()).hexdigest(),
        "utf8_byte_count": len(case.text.encode()),
        "token_count": max(0, counted),
        "logprob_sum": None if error else math.fsum(terms),
        "error": error,
    }
    if case.prompt and not error:
        found["output"] = answer(words, case, code.ids[len(code.ids) - counted :], greedy)
    return found


def answer(words: Tokenizer, case: Case, wanted: list[int], greedy: list[int]) -> str:
    """Return the model's greedy answer up to where it is known: the reference, or what it has in common and the next token."""
    same = next((place for place, (one, other) in enumerate(zip(wanted, greedy, strict=True)) if one != other), None)
    return case.text if same is None else words.decode([*wanted[:same], greedy[same]], skip_special_tokens=False)


def first_counted(case: Case, code: Any) -> int:
    """Return the number of the first token whose probability counts: one that reaches beyond the prompt, never the very
    first."""
    if not case.prompt:
        return 1
    beyond = (number for number, (_, end) in enumerate(code.offsets) if end > len(case.prompt))
    return max(1, next(beyond, len(code.ids)))


def pieces(case: Case, code: Any, window: int) -> list[Piece]:
    """Return what the model is shown for one case. Raises Unscorable."""
    ids, first = code.ids, first_counted(case, code)
    if first >= len(ids):
        raise Unscorable("nothing of this case is predicted: it has too few tokens")
    if case.prompt:
        start = max(0, len(ids) - window)
        if first <= start:
            raise Unscorable(f"the reference has {len(ids) - first} tokens, more than a window of {window} can predict")
        return [Piece(ids[start:], first - start)]
    return [Piece(ids[start : start + window], 1) for start in range(0, len(ids) - 1, window - 1)]


def answers(runtime: Runtime, cases: list[list[Piece]]) -> list[tuple[list[float], list[int]]]:
    """Return, for each case, ln P of its counted tokens and the tokens that were likeliest in their place. Raises
    Unscorable."""
    flat = [piece for case in cases for piece in case]
    size = len(cases)
    found: list[tuple[list[float], list[int]]] = []
    for start in range(0, len(flat), size):
        found += answers_at_once(runtime, flat[start : start + size])
    rows = iter(found)
    return [merged([next(rows) for _ in case]) for case in cases]


def merged(rows: list[tuple[list[float], list[int]]]) -> tuple[list[float], list[int]]:
    return [term for terms, _ in rows for term in terms], [token for _, tokens in rows for token in tokens]


def answers_at_once(runtime: Runtime, shown: list[Piece]) -> list[tuple[list[float], list[int]]]:
    """Return the same for pieces in one batch, padded at their ends: what comes later changes nothing before it."""
    longest = max(len(piece.ids) for piece in shown)
    ids, mask = (numpy.zeros((len(shown), longest), numpy.int64) for _ in range(2))
    for row, piece in enumerate(shown):
        ids[row, : len(piece.ids)], mask[row, : len(piece.ids)] = piece.ids, 1
    logits = runtime.logits(ids, mask)
    if logits.ndim != 3 or logits.shape[:2] != ids.shape or ids.max() >= logits.shape[2]:
        raise Unscorable(f"logits have the shape {list(logits.shape)}, too small for the tokens of this case")
    return [log_probabilities(logits[row], piece) for row, piece in enumerate(shown)]


def log_probabilities(logits: Any, piece: Piece) -> tuple[list[float], list[int]]:
    """Return ln P of each counted token and the likeliest one, each from the logits one place before it. Raises Unscorable."""
    terms: list[float] = []
    likeliest: list[int] = []
    for start in range(piece.first, len(piece.ids), _ROWS):
        wanted = numpy.array(piece.ids[start : start + _ROWS])
        rows = logits[start - 1 : start - 1 + len(wanted)].astype(numpy.float64)
        if not numpy.isfinite(rows).all():
            raise Unscorable("logits are not finite")
        shifted = rows - rows.max(axis=-1, keepdims=True)
        chosen = numpy.take_along_axis(shifted, wanted[:, None], axis=-1)[:, 0]
        terms += [float(value) for value in chosen - numpy.log(numpy.exp(shifted).sum(axis=-1))]
        likeliest += [int(token) for token in rows.argmax(axis=-1)]
    return terms, likeliest


def feeds(ids: Any, mask: Any) -> Iterator[tuple[str, Any]]:
    """Yield every input a causal model may ask for."""
    yield "input_ids", ids
    yield "attention_mask", mask
    yield "position_ids", numpy.broadcast_to(numpy.arange(ids.shape[1], dtype=numpy.int64), ids.shape).copy()
    yield "token_type_ids", numpy.zeros_like(ids)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
