"""Per-case exports of evaluators, read by ourselves: what was asked, what it scored, and what the adapters of InvarLock are
given.

Rules: pure; read from the export's own bytes, sharing nothing with InvarLock's adapters, which must find the same ids and
scores; an export that is cut short, holds a case twice, or leaves one without a score is refused, never read in part;
observations are somebody else's, so every text about them says that their execution was not witnessed.

Formats: lm-eval's `samples_TASK.jsonl` (`--log_samples`), Inspect's EvalLog as JSON, promptfoo's results as JSON lines.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sealrun import digest, files
from sealrun.errors import SealrunError, UsageError
from sealrun.policy.model import ImportedRef
from sealrun.reports.scores import Observation

LABEL = "imported observations, execution not witnessed"
_INSPECT = {"C": 1.0, "I": 0.0}


def observations(data: bytes, ref: ImportedRef, where: str, error: type[SealrunError] = UsageError) -> tuple[Observation, ...]:
    """Return the cases of an export, in its order. Raises *error* naming the case."""
    found = tuple(_READERS[ref.adapter](prepared(data, ref, where, error), ref, where, error))
    if not found:
        raise error(f"{where}: no cases; export the samples of the whole run")
    for identity, count in Counter(case.id for case in found).items():
        if count > 1:
            raise error(f"{where}: the case {identity} stands {count} times; set certify.imported.filter, or export one epoch")
    return found


def prepared(data: bytes, ref: ImportedRef, where: str, error: type[SealrunError] = UsageError) -> bytes:
    """Return what the adapter is given: the export itself, except for two things of lm-eval that it refuses.

    Rows of other filters are left out, and the answer of a multiple choice is its likeliest continuation instead of the list of
    all likelihoods; scores are untouched.
    """
    if ref.adapter != "lm-eval-samples":
        return data
    rows = list(_lines(data, where, error))
    filters = sorted({str(row.get("filter", "none")) for row in rows})
    if ref.filter is None and len(filters) > 1:
        raise error(f"{where}: holds the filters {', '.join(filters)}; set certify.imported.filter to one of them")
    kept = [row for row in rows if ref.filter in (None, row.get("filter", "none"))]
    return b"".join(digest.canonical_json(_answered(row)) for row in kept)


def report(
    found: Sequence[Observation], ref: ImportedRef, *, role: str, export: digest.Sha256, models: digest.Manifest
) -> bytes:
    """Return the evaluation report of one model as JSON."""
    scores = [case.score for case in found if case.score is not None]
    value = {
        "format": "sealrun/imported-report-v1",
        "label": LABEL,
        "role": role,
        "artifact_sha256": digest.of_manifest(models),
        "files": models,
        "export_sha256": export,
        "evaluator": {"name": ref.evaluator, "version": ref.version, "adapter": ref.adapter},
        "metric": {
            "name": ref.metric,
            "direction": ref.direction,
            "value": math.fsum(scores) / len(scores) if scores else None,
        },
        "cases": len(found),
        "scored": len(scores),
        "observations": found,
    }
    return files.readable_json(value)


def _lines(data: bytes, where: str, error: type[SealrunError]) -> Iterator[dict[str, Any]]:
    if data and not data.endswith(b"\n"):
        raise error(f"{where}: the last line has no end; the file is cut short")
    for number, line in enumerate(data.splitlines(), 1):
        value = files.parse_json(line, f"{where}, line {number}", error)
        if not isinstance(value, dict):
            raise error(f"{where}, line {number}: got no object, expected one case on each line")
        yield value


def _answered(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of lm-eval with one text as its answer."""
    likelihoods = row.get("filtered_resps")
    arguments = row.get("arguments")
    if not (isinstance(likelihoods, list) and isinstance(arguments, dict) and len(likelihoods) == len(arguments) > 1):
        return row
    try:
        pairs = [(float(pair[0]), str(arguments[f"gen_args_{place}"]["arg_1"])) for place, pair in enumerate(likelihoods)]
    except (TypeError, ValueError, KeyError, IndexError):
        return row
    return row | {"filtered_resps": [max(pairs, key=lambda pair: pair[0])[1]]}


def _lm_eval(data: bytes, ref: ImportedRef, where: str, error: type[SealrunError]) -> Iterator[Observation]:
    for row in _lines(data, where, error):
        identity = row.get("doc_id")
        if not isinstance(identity, int | str) or isinstance(identity, bool):
            raise error(f"{where}: a sample has no doc_id; export with --log_samples")
        failed = row.get("error") is not None
        yield _observation(
            str(identity), [row.get("doc"), row.get("target")], None if failed else row.get(ref.metric), ref, where, error
        )


def _inspect(data: bytes, ref: ImportedRef, where: str, error: type[SealrunError]) -> Iterator[Observation]:
    log = files.parse_json(data, where, error)
    samples = log.get("samples") if isinstance(log, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise error(f"{where}: no samples; export the log as JSON, with them")
    for sample in samples:
        value = (sample.get("scores") or {}).get(ref.metric)
        value = value.get("value") if isinstance(value, dict) else value
        score = _INSPECT.get(value, value) if isinstance(value, str) else value
        failed = sample.get("error") is not None
        yield _observation(
            str(sample.get("id")), [sample.get("input"), sample.get("target")], None if failed else score, ref, where, error
        )


def _promptfoo(data: bytes, ref: ImportedRef, where: str, error: type[SealrunError]) -> Iterator[Observation]:
    for row in _lines(data, where, error):
        case = row.get("testCase") or {}
        stable = (case.get("metadata") or {}).get("invarlock_id")
        identity = stable if isinstance(stable, str) else f"{row.get('testIdx')}:{row.get('promptIdx')}"
        failed = row.get("failureReason") == 2
        yield _observation(identity, case.get("vars"), None if failed else row.get(ref.metric), ref, where, error)


def _observation(
    identity: str, asked: object, score: object, ref: ImportedRef, where: str, error: type[SealrunError]
) -> Observation:
    if isinstance(score, bool):
        score = float(score)
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
        raise error(f"{where}: the case {identity} has the {ref.metric} {json.dumps(score)[:60]}, expected a number")
    return Observation(
        id=identity,
        asked_sha256=digest.of_json(asked),
        score=None if score is None else float(score),
    )


_READERS = {"lm-eval-samples": _lm_eval, "inspect-json": _inspect, "promptfoo-jsonl": _promptfoo}
