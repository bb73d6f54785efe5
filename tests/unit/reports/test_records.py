"""Data files and records files: what is accepted, and that everything else is refused."""

import json
from pathlib import Path

import pytest

from sealrun.errors import ToolFailed, UsageError, VerificationFailed
from sealrun.reports.records import parse_cases, parse_records, require_cases

RECORDED = Path(__file__).parents[2] / "recorded" / "invarlock" / "candidate"
DATA = (RECORDED / "release" / "data.jsonl").read_bytes()
RECORDS = (RECORDED / "certify" / "records" / "candidate.jsonl").read_bytes()


def changed(line: int, **fields: object) -> bytes:
    """Return the recorded records with *fields* of one line replaced."""
    lines = [json.loads(text) for text in RECORDS.splitlines()]
    lines[line] |= fields
    return b"".join(json.dumps(value).encode() + b"\n" for value in lines)


def test_a_text_without_an_id_is_named_by_its_line() -> None:
    """Ids are optional; a line's number stands in."""
    cases = parse_cases(b'{"body": "a"}\n{"id": "x", "body": "b", "more": 1}\n', "body", "data")
    assert [case.id for case in cases] == ["line-1", "x"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"id": "a", "text": "b"}',
        b'{"id": "a", "text": ""}\n',
        b'{"id": "a"}\n',
        b'{"id": 1, "text": "b"}\n',
        b'{"id": "a", "text": "b"}\n{"id": "a", "text": "c"}\n',
        b'{"id": "a", "text": "\\ud800"}\n',
        b'{"id": "a", "text": "b", "text": "c"}\n',
        b"[]\n",
        b"\n",
    ],
)
def test_data_that_is_not_texts_is_refused(data: bytes) -> None:
    """No text, half a line, a doubled id or half a surrogate pair: the user's to mend, never a smaller evaluation."""
    with pytest.raises(UsageError):
        parse_cases(data, "text", "data")


def test_recorded_records_are_of_the_recorded_data() -> None:
    """What the scorer wrote is read as one record per case, in order."""
    cases = parse_cases(DATA, "text", "data")
    records = require_cases(parse_records(RECORDS, "records"), cases, "records")
    assert [record.id for record in records.scored] == [case.id for case in cases]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"scored 12/12",
        RECORDS[:-40],
        b"".join(RECORDS.splitlines(keepends=True)[:-1]),
        changed(0, cases=13),
        changed(0, format="sealrun/records-v2"),
        changed(3, logprob_sum=None),
        changed(3, error="both"),
        changed(3, logprob_sum=1.0),
        changed(3, logprob_sum=float("nan")),
        changed(3, logprob_sum=float("-inf")),
        changed(3, logprob_sum=-1.5).replace(b"-1.5", b"-1e999"),
        changed(3, token_count=0),
        changed(3, surprise=1),
    ],
)
def test_records_that_are_cut_short_or_not_numbers_are_a_failure_of_the_tool(data: bytes) -> None:
    """Nothing is guessed, dropped or read as zero."""
    with pytest.raises(ToolFailed):
        parse_records(data, "records")


@pytest.mark.parametrize("fields", [{"text_sha256": "0" * 64}, {"id": "other"}, {"utf8_byte_count": 1}])
def test_records_of_other_texts_are_refused(fields: dict[str, object]) -> None:
    """A record must name the digest and size of the very text it is for."""
    cases = parse_cases(DATA, "text", "data")
    with pytest.raises(VerificationFailed):
        require_cases(parse_records(changed(2, **fields), "records"), cases, "records", VerificationFailed)


def test_fewer_cases_than_records_are_refused() -> None:
    """Leaving out a case is noticed."""
    with pytest.raises(ToolFailed):
        require_cases(parse_records(RECORDS, "records"), parse_cases(DATA, "text", "data")[1:], "records")
