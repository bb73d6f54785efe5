"""InvarLock's own JSON: recorded answers are understood, everything else is refused, receipts are not taken at their word."""

import json
from pathlib import Path

import pytest

from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.reports import invarlock

RECORDED = Path(__file__).parents[2] / "recorded" / "invarlock"
CERTIFICATE = RECORDED / "candidate" / "certify" / "certificate"


def test_evaluate_says_what_it_judged() -> None:
    """The recorded answers are read with their decision."""
    said = {
        name: invarlock.parse_evaluated((RECORDED / name / "evaluate.json").read_bytes()) for name in ("candidate", "damaged")
    }
    assert {name: value.decision for name, value in said.items()} == {"candidate": "pass", "damaged": "regression"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"Traceback (most recent call last):",
        b'{"ok": true}',
        b'{"ok": false, "errors": ["output.evidence already exists"], "kind": "captured"}',
        (RECORDED / "candidate" / "evaluate.json").read_bytes()[:-9],
        (RECORDED / "candidate" / "evaluate.json").read_bytes().replace(b'"signed"', b'"unsigned_local"'),
        (RECORDED / "candidate" / "evaluate.json").read_bytes().replace(b'"decision":"pass"', b'"decision":"perhaps"'),
    ],
)
def test_an_answer_that_is_not_understood_is_a_failure_of_the_tool(data: bytes) -> None:
    """Silence, garbage, a refusal or an unsigned pack never count as a judgement."""
    with pytest.raises(ToolFailed):
        invarlock.parse_evaluated(data)


@pytest.mark.parametrize(
    ("receipt", "status", "ok"),
    [
        ("candidate/verify", 0, True),
        ("damaged/verify", 7, False),
        ("candidate/edited", 6, False),
        ("candidate/incomplete", 4, False),
    ],
)
def test_a_receipt_exists_also_where_verification_failed(receipt: str, status: int, ok: bool) -> None:
    """Only the verdict inside tells them apart."""
    verdict = invarlock.load_receipt(RECORDED / receipt / "receipt.json").statement.verdict
    assert (verdict.verification_status, verdict.ok) == (status, ok)


def rewritten(tmp_path: Path, **verdict: object) -> Path:
    value = json.loads((RECORDED / "damaged" / "verify" / "receipt.json").read_bytes())
    value["statement"]["verdict"] |= verdict
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(value))
    return path


def test_a_receipt_with_another_verdict_is_refused(tmp_path: Path) -> None:
    """The signature covers the verdict."""
    with pytest.raises(VerificationFailed, match="not over this statement"):
        invarlock.load_receipt(rewritten(tmp_path, ok=True, decision="pass", policy_verdict="pass", verification_status=0))


def test_a_receipt_under_another_key_than_it_names_is_refused(tmp_path: Path) -> None:
    """A foreign public key beside its own valid signature is no proof of the key that the statement names."""
    value = json.loads(rewritten(tmp_path).read_bytes())
    other = json.loads((RECORDED / "candidate" / "verify" / "receipt.json").read_bytes())
    value["signature"]["public_key"] = other["signature"]["public_key"]
    (tmp_path / "receipt.json").write_text(json.dumps(value))
    with pytest.raises(VerificationFailed):
        invarlock.load_receipt(tmp_path / "receipt.json")


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"statement": {}, "signature": {}}', b"\xff"])
def test_a_receipt_that_is_no_receipt_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty and garbage are refused alike."""
    if content is not None:
        (tmp_path / "receipt.json").write_bytes(content)
    with pytest.raises(VerificationFailed):
        invarlock.load_receipt(tmp_path / "receipt.json")


def test_recorded_certificate_is_understood() -> None:
    """Manifest and report of the pack decode strictly."""
    manifest = invarlock.load(CERTIFICATE / "manifest.json", invarlock.Manifest)
    report = invarlock.load(CERTIFICATE / "reports" / "evaluation.report.json", invarlock.Comparison)
    assert report.bindings.baseline == manifest.files["baseline"].digest
    assert report.metrics[0].count == 12
