"""Certify: is the candidate no worse than the baseline on the evaluation text?

Rules: Sealrun runs both models, InvarLock judges their records under the profile's limits and signs; nothing is run that the
model gate did not pass; a case that a model cannot score is counted as missing, never left out; the certificate, the baseline's
report and the records are left together, without a path or a time in them.

Leaves: `records/{baseline,candidate}.jsonl` (as scored), `certificate/` (InvarLock's signed evidence pack),
`baseline-report.json` and `candidate-report.json` (records and metric).
"""

from collections.abc import Mapping
from pathlib import Path

from sealrun import digest, files, venvs
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import keys
from sealrun.outcome import Judgement, Outcome, Verdict, check
from sealrun.policy.model import ModelRef
from sealrun.reports import artifacts, captured, invarlock, inventory
from sealrun.reports.records import Case, Records, parse_cases, parse_records, report, require_cases
from sealrun.stage import Context, Stage, Work

_CONTROLS = ("certify.completed", "certify.coverage", "certify.regression")
_KEY = "invarlock-evidence"
_POLICY_SAYS_NO = 7
_GUARDS = "spectral, rmt, variance, invariants"


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    pinned = inventory.pins(context.plan)
    return {
        **{name: sha256 for name, sha256 in inventory.look(context.plan, ()).digests().items() if name in pinned},
        "data": digest.of_file(_data(context)),
        f"key/{_KEY}": keys.fingerprint(keys.private(_KEY)),
    }


def _gather(context: Context, work: Work) -> None:
    if _refused_by_model_gate(context):
        return
    _require_untouched(context)
    data = context.plan.release.data
    cases = parse_cases(_data(context).read_bytes(), data.text_field, data.path)
    scored = _score(context, work, cases)
    question = captured.question(context.plan, cases, scored, artifacts.load(context.evidence("model")))
    for name, value in (
        ("baseline.json", question.baseline),
        ("candidate.json", question.candidate),
        ("policy.json", question.policy),
        ("request.yaml", captured.request()),
    ):
        files.write_bytes(work.tmp / name, digest.canonical_json(value))
    _evaluate(work, question.anchors)


def _require_untouched(context: Context) -> None:
    """Raise VerificationFailed when a file beside the model is not what the gate judged: a runtime may open it (weights kept
    outside of an ONNX file). The model, the tokenizer and the data are bound by the records."""
    found = artifacts.load(context.evidence("model"))
    seen = inventory.look(context.plan, ()).digests()
    for role in ("baseline", "candidate"):
        bound = {name for name, _ in _model_files(context, role)}
        for entry in found.model(role):
            if entry.path not in bound and seen.get(f"{role}/{entry.path}") != entry.sha256:
                name = f"{role}/{entry.path}"
                raise VerificationFailed(f"certify: {name} is no longer what the model gate judged; run `nox -s model` again")


def _score(context: Context, work: Work, cases: tuple[Case, ...]) -> dict[str, Records]:
    """Score both models side by side, each in a process of its own. Returns their records, which are kept."""
    folder = work.out / "records"
    folder.mkdir()
    running = {}
    for role in ("baseline", "candidate"):
        model, tokenizer = (path for _, path in _model_files(context, role))
        job = {
            "model": str(model),
            "tokenizer": str(tokenizer),
            "data": str(_data(context)),
            "text_field": context.plan.release.data.text_field,
            "window": context.plan.release.certify.window,
        }
        files.write_json(work.tmp / f"{role}-job.json", job)
        argv = work.inside("score_onnx.py", str(work.tmp / f"{role}-job.json"), str(folder / f"{role}.jsonl"))
        running[role] = work.start(f"score-{role}", "runtime-onnx", argv)
    for started in running.values():
        work.finish(started)
    return {role: require_cases(_records(folder, role), cases, f"{role}.jsonl") for role in running}


def _evaluate(work: Work, expected: captured.Anchors) -> None:
    """Let InvarLock judge and sign, and keep its evidence pack. Raises ToolFailed when it judged anything else."""
    argv = ("invarlock", "evaluate", "request.yaml", "--signing-key", str(keys.private(_KEY)), "--fail-on-policy", "--json")
    completed = work.run("evaluate", "certify", argv, success=(0, _POLICY_SAYS_NO), cwd=work.tmp)
    said = invarlock.parse_evaluated(completed.stdout.read_bytes())
    got = captured.Anchors(
        baseline=said.baseline_run_digest,
        candidate=said.subject_run_digest,
        policy=said.policy_digest,
        request=said.request_digest,
    )
    if got != expected:
        raise ToolFailed(f"invarlock evaluate: it judged {got}, expected {expected}; install the environment again")
    if (said.decision == "pass") != (completed.exit_code == 0):
        raise ToolFailed(f"invarlock evaluate: it said {said.decision} and ended with exit code {completed.exit_code}")
    pack = work.tmp / "certificate"
    for name in files.walk_files(pack):
        target = work.out / "certificate" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(target, files.read_bytes(pack / name, "invarlock evaluate"))


def _judge(context: Context) -> Judgement:
    if refused := _refused_by_model_gate(context):
        return Judgement(outcomes=tuple(_not_run(control, refused) for control in _CONTROLS))
    folder = context.evidence("certify")
    scored = {role: _records(folder / "records", role) for role in ("baseline", "candidate")}
    comparison = invarlock.load(folder / "certificate" / "reports" / "evaluation.report.json", invarlock.Comparison)
    found = artifacts.load(context.evidence("model"))
    reports = {f"{role}-report.json": report(scored[role], role=role, models=found.model(role)) for role in scored}
    outcomes = (
        _completed(context, scored["candidate"]),
        _coverage(context, scored),
        _regression(context, comparison),
    )
    return Judgement(outcomes=outcomes, reports=reports)


def _completed(context: Context, scored: Records) -> Outcome:
    profile = context.plan.release.certify.profile
    version = venvs.locked_version(venvs.lock_path(context.root, "certify"), "invarlock")
    runtime = f"{scored.header.runtime} {scored.header.runtime_version}"
    return check(
        "certify.completed",
        profile == "release",
        seen=f"InvarLock {version} on captured runs of {runtime}, profile {profile}; guards not run: {_GUARDS}",
        expected="profile release",
        remedy='Set certify.profile = "release" in release.toml, then run `nox -s certify`.',
        evidence="evidence/certify/certificate/manifest.json",
    )


def _coverage(context: Context, scored: Mapping[str, Records]) -> Outcome:
    limits = context.plan.gates.profile[context.plan.release.certify.profile]
    errors = [record for records in scored.values() for record in records.cases if record.error]
    enough = all(len(r.scored) >= limits.min_cases and r.tokens >= limits.min_tokens for r in scored.values())
    counted = "; ".join(f"{role}: {len(r.scored)} of {len(r.cases)} cases, {r.tokens} tokens" for role, r in scored.items())
    why = f"; {errors[0].id}: {errors[0].error}" if errors else ""
    return check(
        "certify.coverage",
        enough and not errors,
        seen=counted + why,
        expected=f"every case scored, at least {limits.min_cases} cases and {limits.min_tokens} tokens",
        remedy="Mend the model or certify.window for cases without a number; add evaluation text until the counts are reached.",
        evidence="evidence/certify/baseline-report.json",
    )


def _regression(context: Context, comparison: invarlock.Comparison) -> Outcome:
    limits = context.plan.gates.profile[context.plan.release.certify.profile]
    metric = comparison.metrics[0]
    seen = f"InvarLock says {comparison.decision}"
    if metric.ratio is not None and metric.interval is not None:
        interval = f"{metric.interval.lower:.6f} to {metric.interval.upper:.6f}"
        seen += f": NLL ratio candidate/baseline {metric.ratio:.6f}, 95 % interval {interval}"
    return check(
        "certify.regression",
        comparison.decision == "pass" and metric.decision == "pass",
        seen="; ".join((seen, *metric.reasons)),
        expected=f"pass: interval ends at or below {limits.max_ratio} and is at most {limits.max_interval_width} wide",
        remedy="Do not ship this candidate; compare the cases that moved most in evidence/certify/records.",
        evidence="evidence/certify/certificate/reports/evaluation.report.json",
    )


def _not_run(control: str, why: str) -> Outcome:
    return check(control, False, seen=f"not run: {why}", expected="model gate passed", remedy="Mend what `nox -s model` names.")


def _refused_by_model_gate(context: Context) -> str:
    """Return why nothing may be run, empty when the model gate passed."""
    gate = context.upstream("model").predicate
    failed = [outcome.control for outcome in gate.outcomes if outcome.outcome == "failed"]
    return "" if gate.verdict is Verdict.PASSED else f"the model gate said no ({', '.join(failed)})"


def _records(folder: Path, role: str) -> Records:
    path = folder / f"{role}.jsonl"
    if not path.is_file():
        raise ToolFailed(f"score-{role}: it ended well but wrote no records; see its log")
    return parse_records(path.read_bytes(), path.name)


def _model(context: Context, role: str) -> ModelRef:
    return context.plan.release.baseline if role == "baseline" else context.plan.release.candidate


def _model_files(context: Context, role: str) -> tuple[tuple[str, Path], tuple[str, Path]]:
    """Return name and path of the model file and of the tokenizer."""
    model = _model(context, role)
    names = model.artifact, model.tokenizer
    first, second = (files.regular_file(context.plan.base, f"{model.path}/{name}", f"{role}.path") for name in names)
    return (model.artifact, first), (model.tokenizer, second)


def _data(context: Context) -> Path:
    return files.regular_file(context.plan.base, context.plan.release.data.path, "data.path")


STAGE = Stage(
    name="certify",
    summary="Judge the candidate against the baseline with InvarLock",
    controls=_CONTROLS,
    requires=("model",),
    environments=(
        venvs.Environment(name="certify", smoke=("invarlock", "--version")),
        venvs.Environment(name="runtime-onnx", smoke=("python", "-c", "import onnxruntime, tokenizers")),
    ),
    tools=(("invarlock", "certify"), ("onnxruntime", "runtime-onnx"), ("tokenizers", "runtime-onnx")),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
)
