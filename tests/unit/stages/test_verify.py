"""The verify stage: recorded evidence agrees, no tool can fail into a pass. What edits it refuses: test_forgeries.py."""

import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from sealrun import pipeline
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.outcome import Verdict
from sealrun.reports import witness
from sealrun.reports.records import parse_records
from sealrun.stage import Context
from sealrun.stages import verify
from tests.certification import RECORDED, empty_release, fake, outcomes, release, sign_receipt, state

PASSED = dict.fromkeys(verify.STAGE.controls, "passed")


def judged(context: Context) -> dict[str, str]:
    return outcomes(verify.STAGE.judge(context).outcomes)


def failed(context: Context) -> set[str]:
    return {control for control, outcome in judged(context).items() if outcome == "failed"}


def edit_record(context: Context, line: int, **fields: object) -> None:
    """Change one line of the candidate's records."""
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    lines = path.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | fields)
    path.write_text("\n".join(lines) + "\n")


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
    sign_receipt(context.evidence("verify") / "receipt.json")
    assert "verify.invarlock" in failed(context)


def test_evidence_changed_after_its_statement_stops_the_stage(tmp_path: Path) -> None:
    """Without restating, the edit never reaches a check: the file is named and the stage does not start."""
    context = release(tmp_path)
    edit_record(context, 4, logprob_sum=-1.0)
    with pytest.raises(VerificationFailed, match=r"candidate\.jsonl"):
        pipeline.execute(verify.STAGE, context)


def test_without_a_model_gate_the_session_is_named(tmp_path: Path) -> None:
    """Nothing can be verified before the model gate; the message names the session that makes it."""
    context = release(tmp_path)
    shutil.rmtree(context.evidence("model"))
    with pytest.raises(InputMissing, match="nox -s model"):
        pipeline.execute(verify.STAGE, context)


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
RECEIPT = """receipt() {
    for name; do :; done
    while [ "$1" ]; do [ "$1" = --receipt ] && cp "$said/receipt.json" "$2"; shift; done
    cat "$said/verified.json"
}
"""


def with_recorded_tools(context: Context, said: str = "candidate/verify", ending: str = "exit 0") -> None:
    """Put tools in place that answer what the real ones answered, the receipt signed by this test's own verifier key."""
    answer = context.root / "answer"
    shutil.copytree(RECORDED / said, answer)
    sign_receipt(answer / "receipt.json")
    fake(context, "certify", "invarlock", f'said="{answer}"\n{RECEIPT}receipt "$@"; {ending}')
    witness = RECORDED / "candidate" / "verify" / "witness"
    script = f'case "$4" in *baseline-job.json) role=baseline;; *) role=candidate;; esac\ncp "{witness}/$role.jsonl" "$5"'
    fake(context, "runtime-onnx", "python", script)


@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES.keys())
def test_invarlock_cannot_fail_into_a_pass(tmp_path: Path, script: str | None) -> None:
    """However `invarlock verify` fails, the verdict is an error with exit code 4."""
    context = release(tmp_path, seconds=2 if script == "sleep 60" else 60)
    if script and script.startswith("receipt "):
        with_recorded_tools(context, *script.removeprefix("receipt ").split("; "))
    else:
        with_recorded_tools(context)
        fake(context, "certify", "invarlock", script)
    assert_failed(context)


SCORER_FAILURES = {
    "missing": None,
    "crashes": "exit 1",
    "hangs": "sleep 60",
}


@pytest.mark.parametrize("script", SCORER_FAILURES.values(), ids=SCORER_FAILURES.keys())
def test_a_second_look_that_fails_is_an_error(tmp_path: Path, script: str | None) -> None:
    """A scorer that is missing, crashes or hangs ends the stage in an error."""
    context = release(tmp_path, seconds=2 if script == "sleep 60" else 60)
    with_recorded_tools(context)
    fake(context, "runtime-onnx", "python", script)
    assert_failed(context)


@pytest.mark.parametrize("script", ["exit 0", ': > "$5"', 'echo scored > "$5"'])
def test_a_second_look_that_leaves_nothing_witnesses_nothing(tmp_path: Path, script: str) -> None:
    """A scorer that is silent or writes garbage fails that control, and that one alone."""
    context = release(tmp_path)
    with_recorded_tools(context)
    fake(context, "runtime-onnx", "python", script)
    said = outcomes(pipeline.execute(verify.STAGE, context).predicate.outcomes)
    assert said == {**PASSED, "verify.witnessed": "failed"}


def assert_failed(context: Context) -> None:
    predicate = pipeline.execute(verify.STAGE, context).predicate
    assert (predicate.verdict, predicate.error_code, predicate.outcomes) == (Verdict.ERROR, 4, ())


def test_recorded_tools_pass_and_leave_what_was_recorded(tmp_path: Path) -> None:
    """The stage keeps what it expected, the receipt, the second look and our own figures, byte for byte as recorded."""
    context = release(tmp_path)
    with_recorded_tools(context)
    statement = pipeline.execute(verify.STAGE, context)
    assert statement.predicate.verdict is Verdict.PASSED, statement.predicate.error
    recorded = RECORDED / "candidate" / "verify"
    names = {path.relative_to(recorded).as_posix() for path in recorded.rglob("*") if path.is_file()}
    assert statement.digests().keys() == names
    for name in names - {"receipt.json", "ladder.json"}:  # these two name the verifier's key, which is this test's own
        assert (context.evidence("verify") / name).read_bytes() == (recorded / name).read_bytes()


def test_the_sample_follows_from_the_records(tmp_path: Path) -> None:
    """Half of the sample speaks most for the candidate; any edit draws others; never more than there are."""
    scored = {
        role: parse_records((RECORDED / "candidate/certify/records" / f"{role}.jsonl").read_bytes(), role)
        for role in witness.SIDES
    }
    first = witness.sample(scored, 4)
    assert len(first) == len(set(first)) == 4
    assert first == witness.sample(scored, 4)
    assert len(witness.sample(scored, 100)) == 12
    better = scored["candidate"].cases[7]
    edited = replace(better, logprob_sum=-0.5)
    cases = tuple(edited if case is better else case for case in scored["candidate"].cases)
    moved = {**scored, "candidate": replace(scored["candidate"], cases=cases)}
    assert edited.id in witness.sample(moved, 2)
    drawn = {witness.sample(scored, count) for count in (2, 4)} | {witness.sample(moved, count) for count in (2, 4)}
    assert len(drawn) == 4
