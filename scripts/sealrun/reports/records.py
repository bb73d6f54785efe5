"""The evaluation text and the records of a model on it, as values.

Rules: a data file is JSON lines with a text in the field named and, if the author likes, a unique `id`; a records file
is a header line that names the bytes and the runtime behind it, and one line per case of that data, in its order,
nothing missing and nothing more; a record has a finite log probability or an error, never both and never neither. Wrong
data is the user's to mend (UsageError); wrong records are a tool's failure (ToolFailed).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sealrun import digest, files
from sealrun.errors import SealrunError, ToolFailed, UsageError

RECORDS_FORMAT = "sealrun/records-v1"
REPORT_FORMAT = "sealrun/evaluation-report-v1"

type Count = Annotated[int, Meta(ge=0)]
type Positive = Annotated[int, Meta(ge=1)]
type CaseId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Case(Struct, frozen=True, kw_only=True):
    """One text of the evaluation data, under its own id or `line-NUMBER`, and what a model is shown before it."""

    id: CaseId
    text: Annotated[str, Meta(min_length=1)]
    prompt: str = ""


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was read and by what: digests of model, tokenizer and data as the scorer saw them; `window` in tokens, `batch` in
    texts at once."""

    format: Literal["sealrun/records-v1"]
    runtime: str
    runtime_version: str
    window: Annotated[int, Meta(ge=2)]
    model_sha256: digest.Sha256
    tokenizer_sha256: digest.Sha256
    data_sha256: digest.Sha256
    cases: Count
    batch: Positive = 1
    device: Literal["cpu", "cuda"] = "cpu"


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One case: the model file that scored it, ln P of its predicted tokens (nats), how many they are, and the size of the
    text in UTF-8 bytes."""

    id: CaseId
    model_sha256: digest.Sha256
    text_sha256: digest.Sha256
    utf8_byte_count: Positive
    token_count: Count
    logprob_sum: Annotated[float, Meta(le=0)] | None
    error: Annotated[str, Meta(min_length=1, max_length=400)] | None
    output: str | None = None


class Records(Struct, frozen=True, kw_only=True):
    """A records file."""

    header: Header
    cases: tuple[Record, ...]

    @property
    def scored(self) -> tuple[Record, ...]:
        """The records that have a number."""
        return tuple(record for record in self.cases if record.logprob_sum is not None)

    @property
    def tokens(self) -> int:
        """How many tokens were predicted in the scored cases."""
        return sum(record.token_count for record in self.scored)

    @property
    def windows(self) -> int:
        """How many pieces the model saw in the scored cases; a piece predicts at most one token less than the window holds."""
        return sum(-(-record.token_count // (self.header.window - 1)) for record in self.scored)


def parse_cases(
    data: bytes, text_field: str, where: str, *, reference_field: str | None = None, joiner: str = " "
) -> tuple[Case, ...]:
    """Return the cases of a data file; with a *reference_field* the text is the prompt of what stands there.

    Raises UsageError naming the line.
    """
    cases = []
    field = reference_field or text_field
    for number, line in enumerate(_decoded(data, dict[str, Any], where, UsageError), 1):
        value = {"id": line.get("id", f"line-{number}"), "text": line.get(field)}
        if reference_field:
            value["prompt"] = _prompt(line, text_field, f"{where}, line {number}") + joiner
        cases.append(files.convert(value, Case, f"{where}, line {number}, field {field!r}"))
    for identity, count in Counter(case.id for case in cases).items():
        if count > 1:
            raise UsageError(f"{where}: the id {identity} stands {count} times; give each text its own or none")
    for case in cases:
        if any("\ud800" <= char <= "\udfff" for char in case.prompt + case.text):
            raise UsageError(f"{where}: the text of {case.id} holds half a surrogate pair; write it as UTF-8")
    if not cases:
        raise UsageError(f"{where}: no cases, expected JSON lines with a field {field!r}")
    return tuple(cases)


def _prompt(line: dict[str, Any], field: str, where: str) -> str:
    prompt = line.get(field)
    if not isinstance(prompt, str) or not prompt:
        raise UsageError(f"{where}, field {field!r}: got {prompt!r}, expected the prompt of the reference")
    return prompt


def parse_records(data: bytes, where: str, error: type[SealrunError] = ToolFailed) -> Records:
    """Return the records in *data*. Raises *error*."""
    try:
        return _parsed(data)
    except ToolFailed as problem:
        raise error(f"{where}: {problem}") from problem


@lru_cache(maxsize=4)  # pure; one verdict asks for the same records several times
def _parsed(data: bytes) -> Records:
    first, newline, rest = data.partition(b"\n")
    if not newline:
        raise ToolFailed(f"got {len(data)} bytes without a header line; the scorer wrote no records")
    header = files.decode(first, Header, "line 1", ToolFailed)
    records = Records(header=header, cases=tuple(_decoded(rest, Record, "records", ToolFailed, first=2)))
    if header.cases != len(records.cases):
        raise ToolFailed(f"got {len(records.cases)} records, expected {header.cases}; the file is cut short")
    for record in records.cases:
        if record.model_sha256 != header.model_sha256:
            raise ToolFailed(f"case {record.id} was scored by {record.model_sha256}, the file by {header.model_sha256}")
        if (record.logprob_sum is None) == (record.error is None):
            raise ToolFailed(f"case {record.id} needs either a log probability or an error")
        if record.logprob_sum is not None and not (math.isfinite(record.logprob_sum) and record.token_count):
            raise ToolFailed(f"case {record.id} has {record.logprob_sum} over {record.token_count} tokens")
    return records


def require_cases(records: Records, cases: Sequence[Case], where: str, error: type[SealrunError] = ToolFailed) -> Records:
    """Return *records*, which must be of exactly *cases*, in their order. Raises *error* naming the first difference."""
    if len(records.cases) != len(cases):
        raise error(f"{where}: got {len(records.cases)} records, expected one for each of {len(cases)} cases")
    for record, case in zip(records.cases, cases, strict=True):
        text = case.text.encode()
        got, expected = _described(record), (case.id, digest.of_bytes(text), len(text))
        if got != expected:
            raise error(f"{where}: got the record {got}, expected {expected}; the scorer read other data")
    return records


def report(records: Records, *, role: str, models: digest.Manifest) -> bytes:
    """Return the evaluation report of one model as JSON: its files, what was measured, the mean and every record."""
    value = {
        "format": REPORT_FORMAT,
        "role": role,
        "artifact_sha256": digest.of_manifest(models),
        "files": models,
        "header": records.header,
        "metric": {
            "name": "normalized_nll_per_utf8_byte",
            "unit": "nats_per_utf8_byte",
            "aggregation": "mean over cases",
            "value": _mean(records.scored),
        },
        "cases": len(records.cases),
        "scored": len(records.scored),
        "tokens": records.tokens,
        "utf8_bytes": sum(record.utf8_byte_count for record in records.scored),
        "records": records.cases,
    }
    return files.readable_json(value)


def _mean(scored: Sequence[Record]) -> float | None:
    values = [-record.logprob_sum / record.utf8_byte_count for record in scored if record.logprob_sum is not None]
    return math.fsum(values) / len(values) if values else None


def _decoded[T](data: bytes, kind: type[T], where: str, error: type[SealrunError], first: int = 1) -> Iterator[T]:
    if data and not data.endswith(b"\n"):
        raise error(f"{where}: the last line has no end; the file is cut short")
    for number, line in enumerate(data.splitlines(), first):
        yield files.decode(line, kind, f"{where}, line {number}", error)


def _described(record: Record) -> tuple[str, str, int]:
    return record.id, record.text_sha256, record.utf8_byte_count
