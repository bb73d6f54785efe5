"""The verify stage: recorded evidence agrees, and every edit of certificate, records, receipt or gate is refused by name."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealrun import digest, pipeline
from sealrun.errors import VerificationFailed
from sealrun.outcome import Verdict
from sealrun.reports import artifacts
from sealrun.reports.records import parse_records, report
from sealrun.stage import Context
from sealrun.stages import verify
from tests.certification import RECORDED, empty_release, fake, outcomes, release, state

PASSED = dict.fromkeys(verify.STAGE.controls, "passed")


def judged(context: Context) -> dict[str, str]:
    return outcomes(verify.STAGE.judge(context).outcomes)


def failed(context: Context) -> set[str]:
    return {control for control, outcome in judged(context).items() if outcome == "failed"}


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_bytes(digest.canonical_json(value))


def edit_record(context: Context, line: int, **fields: object) -> None:
    """Change one line of the candidate's records."""
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    lines = path.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | fields)
    path.write_text("\n".join(lines) + "\n")


def restate(context: Context) -> None:
    """State certify's evidence anew, as a forger with access to the folder would."""
    signer = (RECORDED / "candidate" / "signer.txt").read_text().strip()
    state(context, "certify", {"key/invarlock-evidence": signer})


def test_recorded_evidence_agrees(tmp_path: Path) -> None:
    """An untouched certificate passes every check."""
    assert judged(release(tmp_path)) == PASSED


def test_a_regression_does_not_verify_but_is_intact(tmp_path: Path) -> None:
    """The damaged candidate's certificate is genuine, and says no."""
    assert failed(release(tmp_path, "damaged")) == {"verify.invarlock"}


@pytest.mark.parametrize("refused", ["edited", "incomplete"])
def test_a_receipt_about_a_refused_certificate_is_no_pass(tmp_path: Path, refused: str) -> None:
    """InvarLock signs a receipt also when it refuses; its verdict counts."""
    context = release(tmp_path)
    shutil.copy(RECORDED / "candidate" / refused / "receipt.json", context.evidence("verify") / "receipt.json")
    assert "verify.invarlock" in failed(context)


RECEIPT_EDITS: dict[str, Callable[[Any], None]] = {
    "verdict": lambda r: r["statement"]["verdict"].update(integrity_ok=False),
    "anchor": lambda r: r["statement"]["anchors"].update(request_digest="sha256:" + "0" * 64),
    "signature": lambda r: r["signature"].update(value="A" * 86 + "=="),
    "identity": lambda r: r["statement"]["verifier"].update(identity="somebody"),
    "extra": lambda r: r["statement"].update(extra=1),
}


@pytest.mark.parametrize("edit", RECEIPT_EDITS.values(), ids=RECEIPT_EDITS.keys())
def test_an_edited_receipt_is_refused(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    """Any change of the receipt breaks its signature or shape."""
    context = release(tmp_path)
    edit_json(context.evidence("verify") / "receipt.json", edit)
    assert "verify.invarlock" in failed(context)


def test_the_receipt_of_another_release_is_refused(tmp_path: Path) -> None:
    """A good receipt about another certificate proves nothing here."""
    context = release(tmp_path, "damaged")
    shutil.copy(RECORDED / "candidate" / "verify" / "receipt.json", context.evidence("verify") / "receipt.json")
    assert "verify.invarlock" in failed(context)


@pytest.mark.parametrize("name", ["receipt.json", "trust.json"])
def test_missing_proof_is_a_failed_check(tmp_path: Path, name: str) -> None:
    """What is not there has not been verified."""
    context = release(tmp_path)
    (context.evidence("verify") / name).unlink()
    assert "verify.invarlock" in failed(context)


def test_evidence_changed_after_its_statement_stops_the_stage(tmp_path: Path) -> None:
    """Without restating, the edit never reaches a check: the file is named and the stage does not start."""
    context = release(tmp_path)
    edit_record(context, 4, logprob_sum=-1.0)
    with pytest.raises(VerificationFailed, match=r"candidate\.jsonl"):
        pipeline.execute(verify.STAGE, context)


@pytest.mark.parametrize("field", ["ratio", "baseline_mean", "subject_mean", "delta"])
def test_an_edited_certificate_disagrees_with_the_recomputation(tmp_path: Path, field: str) -> None:
    """Each figure of the certificate is recomputed to 1e-9."""
    context = release(tmp_path)
    path = context.evidence("certify") / "certificate" / "reports" / "evaluation.report.json"
    edit_json(path, lambda value: value["metrics"][0].update({field: value["metrics"][0][field] + 2e-9}))
    assert failed(context) == {"verify.recomputed"}


def test_figures_that_are_missing_disagree(tmp_path: Path) -> None:
    """A certificate without a ratio agrees with nothing."""
    context = release(tmp_path)
    path = context.evidence("certify") / "certificate" / "reports" / "evaluation.report.json"
    edit_json(path, lambda value: value["metrics"][0].update(ratio=None))
    assert failed(context) == {"verify.recomputed"}


def test_edited_records_disagree_with_report_and_certificate(tmp_path: Path) -> None:
    """A better log probability is noticed against the report, and, with the report forged too, against the certificate."""
    context = release(tmp_path)
    edit_record(context, 4, logprob_sum=-1.0)
    restate(context)
    assert failed(context) == {"verify.recomputed"}
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    models = artifacts.load(context.evidence("model")).candidate
    forged = report(parse_records(path.read_bytes(), "records"), role="candidate", models=models)
    (context.evidence("certify") / "candidate-report.json").write_bytes(forged)
    restate(context)
    assert failed(context) == {"verify.recomputed"}


def test_a_case_without_a_number_cannot_be_recomputed(tmp_path: Path) -> None:
    """Missing is failed."""
    context = release(tmp_path)
    edit_record(context, 4, logprob_sum=None, error="logits are not finite")
    restate(context)
    assert "verify.recomputed" in failed(context)


@pytest.mark.parametrize("field", ["model_sha256", "tokenizer_sha256", "data_sha256"])
def test_records_of_other_bytes_are_not_bound(tmp_path: Path, field: str) -> None:
    """The scorer must have read the very bytes that the model gate judged."""
    context = release(tmp_path)
    edit_record(context, 0, **{field: "0" * 64})
    restate(context)
    assert "verify.binding" in failed(context)


def test_records_under_another_window_are_not_bound(tmp_path: Path) -> None:
    """How the models were run is part of what was certified."""
    context = release(tmp_path)
    edit_record(context, 0, window=7)
    restate(context)
    assert "verify.binding" in failed(context)


@pytest.mark.parametrize("role", ["baseline", "candidate", "data"])
def test_a_gate_that_saw_other_bytes_is_noticed(tmp_path: Path, role: str) -> None:
    """The model gate's digests decide, not the certificate's."""
    context = release(tmp_path)
    edit_json(context.evidence("model") / "digests.json", lambda value: value[role][0].update(sha256="0" * 64))
    state(context, "model", {})
    assert "verify.binding" in failed(context)


def test_a_certificate_about_another_run_is_not_bound(tmp_path: Path) -> None:
    """The manifest must name the runs that were computed from the records."""
    context = release(tmp_path)
    path = context.evidence("certify") / "certificate" / "manifest.json"
    edit_json(path, lambda value: value["files"]["subject"].update(digest="sha256:" + "0" * 64))
    restate(context)
    assert {"verify.binding", "verify.invarlock"} <= failed(context)


def test_a_certificate_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    """The signer must be the evidence key that certify stated."""
    context = release(tmp_path)
    state(context, "certify", {"key/invarlock-evidence": "0" * 64})
    assert failed(context) == {"verify.keys"}


def test_one_key_for_both_is_refused(tmp_path: Path) -> None:
    """A receipt by the certificate's own signer is no second look; InvarLock itself accepts it."""
    context, key = release(tmp_path), Ed25519PrivateKey.generate()
    name = f"sha256:{digest.of_bytes(key.public_key().public_bytes_raw())}"

    def sign(value: Any) -> None:
        value["statement"]["verifier"]["signing_key_fingerprint"] = name
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        value["signature"]["public_key"]["value"] = pem.decode()
        value["signature"]["value"] = base64.b64encode(key.sign(digest.canonical_json(value["statement"]))).decode()

    edit_json(context.evidence("verify") / "receipt.json", sign)
    manifest = context.evidence("certify") / "certificate" / "manifest.json"
    edit_json(manifest, lambda value: value.update(signing_key_fingerprint=name))
    state(context, "certify", {"key/invarlock-evidence": name.removeprefix("sha256:")})
    assert "verify.keys" in failed(context)


def test_no_certificate_is_nothing_verified(tmp_path: Path) -> None:
    """When certify ran nothing, every check fails and names why."""
    context = empty_release(tmp_path)
    context.evidence("certify").mkdir(parents=True)
    state(context, "certify", {}, Verdict.FAILED)
    assert failed(context) == set(verify.STAGE.controls)


FAILURES = {
    "missing": None,
    "crashes": "exit 139",
    "cannot verify": "exit 2",
    "silent": "exit 0",
    "garbage": "echo verified; exit 0",
    "says yes without a receipt": f'cat "{RECORDED}/candidate/verify/verified.json"',
    "refuses and ends with 0": "receipt candidate/edited; exit 0",
    "passes and ends with 7": "receipt candidate/verify; exit 7",
    "hangs": "sleep 60",
}
RECEIPT = f"""receipt() {{
    for name; do :; done
    while [ "$1" ]; do [ "$1" = --receipt ] && cp "{RECORDED}/$recorded/receipt.json" "$2"; shift; done
    cat "{RECORDED}/$recorded/verified.json"
}}
"""


@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES.keys())
def test_invarlock_cannot_fail_into_a_pass(tmp_path: Path, script: str | None) -> None:
    """However `invarlock verify` fails, the verdict is an error with exit code 4."""
    context = release(tmp_path, seconds=2 if script == "sleep 60" else 60)
    if script and script.startswith("receipt "):
        recorded, ending = script.removeprefix("receipt ").split("; ")
        script = f'recorded={recorded}\n{RECEIPT}receipt "$@"; {ending}'
    fake(context, "certify", "invarlock", script)
    predicate = pipeline.execute(verify.STAGE, context).predicate
    assert (predicate.verdict, predicate.error_code, predicate.outcomes) == (Verdict.ERROR, 4, ())


def test_recorded_tools_pass_and_leave_what_was_recorded(tmp_path: Path) -> None:
    """The stage keeps what it expected, the receipt and our own figures, byte for byte as recorded."""
    context = release(tmp_path)
    script = f'recorded=candidate/verify\n{RECEIPT}receipt "$@"'
    fake(context, "certify", "invarlock", script)
    statement = pipeline.execute(verify.STAGE, context)
    assert statement.predicate.verdict is Verdict.PASSED, statement.predicate.error
    recorded = RECORDED / "candidate" / "verify"
    assert statement.digests() == {path.name: digest.of_file(path) for path in recorded.iterdir()}
