"""The certify stage: what it says about recorded evidence, and that no tool can fail into a pass."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from msgspec import structs

from sealrun import pipeline
from sealrun.errors import ToolFailed, UsageError
from sealrun.evidence import statement as statements
from sealrun.evidence.shards import Shard
from sealrun.outcome import Verdict
from sealrun.stage import Context, Work, check_files
from sealrun.stages import certify
from tests.certification import PROFILE, RECORDED, empty_release, fake, outcomes, real_release, release, state

PASSED = dict.fromkeys(certify.STAGE.controls, "passed")
SCORE = 'case "$4" in *baseline-job.json) role=baseline;; *) role=candidate;; esac\n'


def judged(context: Context) -> dict[str, str]:
    return outcomes(certify.STAGE.judge(context).outcomes)


def test_the_harmless_candidate_passes(tmp_path: Path) -> None:
    """Recorded evidence of the int8 candidate: every control passed."""
    assert judged(release(tmp_path)) == PASSED


def test_the_damaged_candidate_is_a_regression(tmp_path: Path) -> None:
    """Recorded evidence of the damaged candidate: the regression is named, with the figures, and nothing else."""
    context = release(tmp_path, "damaged")
    assert judged(context) == {**PASSED, "certify.regression": "failed"}
    said = next(o for o in certify.STAGE.judge(context).outcomes if o.control == "certify.regression")
    assert "regression" in said.seen
    assert "1.02" in said.expected
    assert said.remedy


def test_another_profile_than_release_is_no_certification(tmp_path: Path) -> None:
    """The checklist's line asks for the release profile by name."""
    assert judged(release(tmp_path, name="ci")) == {**PASSED, "certify.completed": "failed"}


@pytest.mark.parametrize(
    ("what", "least", "missing"),
    [
        ("min_cases", 13, "1 missing"),
        ("min_tokens", 99999, "missing"),
        ("min_windows", 20, "8 missing"),
        ("min_replicates", 3000, "952 missing"),
    ],
)
def test_too_little_is_named_with_the_number_missing(tmp_path: Path, what: str, least: int, missing: str) -> None:
    """Below the least cases, windows, tokens or replicates the release fails, and says how much is missing."""
    context = release(tmp_path, profile=re.sub(rf"{what} = \d+", f"{what} = {least}", PROFILE))
    control = "certify.regression" if what == "min_replicates" else "certify.coverage"
    assert judged(context) == {**PASSED, control: "failed"}
    assert missing in next(o for o in certify.STAGE.judge(context).outcomes if o.control == control).seen


def test_a_guard_that_policy_requires_and_the_engine_did_not_run_is_missing(tmp_path: Path) -> None:
    """Captured runs evaluate no guard, so a profile that wants one cannot be met by them."""
    wanted = 'required_guards = { "invarlock-0.17" = ["spectral"] }\n'
    context = release(tmp_path, profile=PROFILE + wanted)
    assert judged(context) == {**PASSED, "certify.coverage": "failed"}
    seen = next(o for o in certify.STAGE.judge(context).outcomes if o.control == "certify.coverage").seen
    assert "guard spectral of invarlock-0.17: got not evaluated" in seen


@pytest.mark.parametrize(("what", "limit"), [("max_ratio", "0.9"), ("max_interval_width", "0.001")])
def test_each_limit_holds_whatever_invarlock_decided(tmp_path: Path, what: str, limit: str) -> None:
    """InvarLock was given other limits and says pass; the profile's own still refuse."""
    context = release(tmp_path, profile=re.sub(rf"{what} = [\d.]+", f"{what} = {limit}", PROFILE))
    assert judged(context) == {**PASSED, "certify.regression": "failed"}


def test_a_difference_above_the_limit_is_a_regression(tmp_path: Path) -> None:
    """The mean difference has a limit of its own, beside the ratio's."""
    context = release(tmp_path, "damaged", profile=PROFILE.replace("max_regression = 0.02", "max_regression = 0.5"))
    seen = next(o for o in certify.STAGE.judge(context).outcomes if o.control == "certify.regression").seen
    assert "mean difference in nats per byte" in seen


def test_one_case_without_a_number_is_missing_coverage(tmp_path: Path) -> None:
    """A model that cannot score one case is not covered, however many others it scored."""
    context = release(tmp_path)
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    lines = path.read_text().splitlines()
    lines[5] = json.dumps(json.loads(lines[5]) | {"logprob_sum": None, "error": "logits are not finite"})
    path.write_text("\n".join(lines) + "\n")
    said = next(o for o in certify.STAGE.judge(context).outcomes if o.control == "certify.coverage")
    assert said.outcome.value == "failed"
    assert "11 of 12" in said.seen
    assert "not finite" in said.seen


def test_nothing_runs_that_the_model_gate_did_not_pass(tmp_path: Path) -> None:
    """Without a passed model gate no program starts, and every control fails with the reason."""
    context = empty_release(tmp_path)
    state(context, "model", {}, Verdict.FAILED)
    fake(context, "runtime-onnx", "python", "exit 9")
    fake(context, "certify", "invarlock", "exit 9")
    statement = pipeline.execute(certify.STAGE, context)
    assert statement.predicate.verdict is Verdict.FAILED
    assert outcomes(statement.predicate.outcomes) == dict.fromkeys(certify.STAGE.controls, "failed")
    assert statement.subject == ()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"garbage"])
def test_a_certificate_that_cannot_be_read_is_a_failure_of_the_tool(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty and garbage: no verdict is reached."""
    context = release(tmp_path)
    path = context.evidence("certify") / "certificate" / "reports" / "evaluation.report.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolFailed):
        certify.STAGE.judge(context)


def with_recorded_tools(context: Context, recorded: str) -> None:
    """Put tools in place that answer what the real ones answered."""
    home = RECORDED / recorded
    fake(context, "runtime-onnx", "python", f'{SCORE}cp "{home}/certify/records/$role.jsonl" "$5"')
    answer = f'cp -r "{home}/certify/certificate" certificate && cat "{home}/evaluate.json"'
    fake(context, "certify", "invarlock", f"{answer}; exit {0 if recorded == 'candidate' else 7}")


@pytest.fixture
def complete(tmp_path: Path) -> Context:
    """A release whose evidence key is the recorded one's namesake, with tools that answer as recorded."""
    context = empty_release(tmp_path)
    with_recorded_tools(context, "candidate")
    return context


def test_recorded_tools_pass_and_leave_what_was_recorded(complete: Context) -> None:
    """The stage keeps records, certificate and both reports, byte for byte as recorded."""
    statement = pipeline.execute(certify.STAGE, complete)
    assert (statement.predicate.verdict, statement.predicate.network) == (Verdict.PASSED, "denied"), statement.predicate.error
    recorded = RECORDED / "candidate" / "certify"
    names = sorted(path.relative_to(recorded).as_posix() for path in recorded.rglob("*") if path.is_file())
    assert sorted(statement.digests()) == names
    for name in names:
        assert (complete.evidence("certify") / name).read_bytes() == (recorded / name).read_bytes()


INVARLOCK_FAILURES = {
    "missing": None,
    "crashes": "echo Segmentation fault >&2; exit 139",
    "killed": "kill -9 $$",
    "unknown exit code": "exit 1",
    "silent": "exit 0",
    "silent refusal": "exit 7",
    "garbage": "echo everything is fine; exit 0",
    "empty object": "echo '{}'; exit 0",
    "refuses": 'echo \'{"ok": false, "errors": ["no"]}\'; exit 0',
    "hangs": "sleep 60",
    "answers, but leaves no certificate": f'cat "{RECORDED}/candidate/evaluate.json"',
    "passes another candidate": f'cp -r "{RECORDED}/damaged/certify/certificate" . && cat "{RECORDED}/damaged/evaluate.json"',
    "says pass and ends with 7": f'cat "{RECORDED}/candidate/evaluate.json"; exit 7',
}


@pytest.mark.parametrize("script", INVARLOCK_FAILURES.values(), ids=INVARLOCK_FAILURES.keys())
def test_invarlock_cannot_fail_into_a_pass(tmp_path: Path, script: str | None) -> None:
    """However InvarLock fails, the verdict is an error with exit code 4."""
    context = empty_release(tmp_path, seconds=2 if script == "sleep 60" else 60)
    with_recorded_tools(context, "candidate")
    fake(context, "certify", "invarlock", script)
    assert_failed(context)


SCORER_FAILURES = {
    "missing": None,
    "crashes": "exit 1",
    "silent": "exit 0",
    "empty file": ': > "$5"',
    "garbage": 'echo scored > "$5"',
    "cut short": f'{SCORE}head -n 7 "{RECORDED}/candidate/certify/records/$role.jsonl" > "$5"',
    "hangs": "sleep 60",
}


@pytest.mark.parametrize("script", SCORER_FAILURES.values(), ids=SCORER_FAILURES.keys())
def test_the_scorer_cannot_fail_into_a_pass(tmp_path: Path, script: str | None) -> None:
    """However the scorer fails, the verdict is an error with exit code 4."""
    context = empty_release(tmp_path, seconds=2 if script == "sleep 60" else 60)
    with_recorded_tools(context, "candidate")
    fake(context, "runtime-onnx", "python", script)
    assert_failed(context)


def assert_failed(context: Context) -> None:
    predicate = pipeline.execute(certify.STAGE, context).predicate
    assert (predicate.verdict, predicate.error_code, predicate.outcomes) == (Verdict.ERROR, 4, ())
    assert predicate.error


@pytest.mark.e2e
def test_shards_together_leave_the_bytes_of_one_run(tmp_path: Path) -> None:
    """Real models and InvarLock: two shards of the cases, scored apart, and the stage that takes both scores nothing."""
    whole, split = (real_release(tmp_path / name) for name in ("whole", "split"))
    pipeline.execute(certify.STAGE, whole)
    for number in (2, 1):
        said = pipeline.execute_shard(certify.STAGE, split, Shard(number, 2))
        assert sorted(said.digests()) == ["baseline.part", "candidate.part"]
    for path in (split.out.parent / "records").glob("*"):
        pytest.fail(f"{path}: a shard left records")
    pipeline.execute(certify.STAGE, split, shards_of=2)
    assert (split.logs("certify") / "score-baseline.stderr").read_text() == ""
    for context in (whole, split):
        assert context.statement_path("certify").read_bytes() == whole.statement_path("certify").read_bytes()
        check_files(context.evidence("certify"), statements.load(whole.statement_path("certify")))


def test_an_engine_that_judges_all_cases_at_once_is_not_split(tmp_path: Path) -> None:
    """The engine is named; a stage that is not split says which are."""
    context = release(tmp_path)
    asked = structs.replace(context.plan.release.certify, engine="imported")
    plan = structs.replace(context.plan, release=structs.replace(context.plan.release, certify=asked))
    assert certify.STAGE.split
    with pytest.raises(UsageError, match="engine imported judges all cases at once"):
        certify.STAGE.split(replace(context, plan=plan), cast(Work, None))
    with pytest.raises(UsageError, match="expected one of secrets, certify"):
        pipeline.execute_shard(pipeline.stage_named("lock"), context, Shard(1, 2))
