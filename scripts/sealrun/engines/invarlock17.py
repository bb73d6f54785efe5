"""Engine invarlock-0.17: Sealrun runs both models, InvarLock judges their records under the profile's limits and signs.

Leaves: `records/{baseline,candidate}.jsonl` (as scored), `certificate/` (InvarLock's signed evidence pack),
`baseline-report.json` and `candidate-report.json` (records and metric).
"""

from collections.abc import Mapping
from pathlib import Path

from sealrun import digest, files, scoring
from sealrun.engines import Engine, invarlock17_verify, pack
from sealrun.errors import ToolFailed
from sealrun.outcome import Judgement, Outcome, check
from sealrun.policy.model import Plan
from sealrun.reports import artifacts, captured, invarlock, ladder, limits, scores
from sealrun.reports.records import Records, parse_records, report
from sealrun.stage import Context, Needs, Work


def _needs(plan: Plan) -> Needs:
    runtimes = scoring.needs(plan)
    return Needs(environments=pack.NEEDS.environments + runtimes.environments, tools=pack.NEEDS.tools + runtimes.tools)


def _certify(context: Context, work: Work) -> None:
    cases = scoring.cases_of(context)
    scored = scoring.score(context, work, cases)
    folder = files.empty_folder(work.out / "records")
    for role in scored:
        files.write_bytes(folder / f"{role}.jsonl", scoring.stored(context, role))
    question = captured.question(context.plan, cases, scored, artifacts.load(context.evidence("model")))
    for name, value in (
        ("baseline.json", question.baseline),
        ("candidate.json", question.candidate),
        ("policy.json", question.policy),
        ("request.yaml", captured.request()),
    ):
        files.write_bytes(work.tmp / name, digest.canonical_json(value))
    pack.evaluate(work, lambda _: question.anchors)


def _judge(context: Context) -> Judgement:
    folder = context.evidence("certify")
    scored = {role: _records(folder / "records", role) for role in ("baseline", "candidate")}
    comparison = invarlock.load(folder / "certificate" / "reports" / "evaluation.report.json", invarlock.Comparison)
    found = artifacts.load(context.evidence("model"))
    reports = {f"{role}-report.json": report(scored[role], role=role, models=found.model(role)) for role in scored}
    outcomes = (
        _completed(context, scored),
        _coverage(context, scored),
        _regression(context, comparison),
    )
    return Judgement(outcomes=outcomes, reports=reports)


def _completed(context: Context, scored: Mapping[str, Records]) -> Outcome:
    profile = context.plan.release.certify.profile
    headers = [records.header for records in scored.values()]
    runtime = " and ".join(dict.fromkeys(f"{header.runtime} {header.runtime_version}" for header in headers))
    return check(
        "certify.completed",
        profile == "release",
        seen=f"InvarLock {pack.version(context)} on captured runs of {runtime}, profile {profile}; "
        f"guards not run: {pack.GUARDS}",
        expected="profile release",
        remedy='Set certify.profile = "release" in release.toml, then run `nox -s certify`.',
        evidence="evidence/certify/certificate/manifest.json",
    )


def _coverage(context: Context, scored: Mapping[str, Records]) -> Outcome:
    profile = context.plan.profile
    rungs = (*limits.amounts(profile, scored), *limits.guards(profile, ENGINE.name, ()))
    counted = "; ".join(
        f"{role}: {len(r.scored)} of {len(r.cases)} cases, {r.windows} windows, {r.tokens} tokens" for role, r in scored.items()
    )
    return check(
        "certify.coverage",
        ladder.holds(rungs),
        seen=counted if ladder.holds(rungs) else f"{counted}; {ladder.seen(rungs, '')}",
        expected=limits.wanted(profile, ENGINE.name),
        remedy="Mend the model or certify.window for cases without a number; add evaluation text until the counts are reached.",
        evidence="evidence/certify/baseline-report.json",
    )


def _regression(context: Context, comparison: invarlock.Comparison) -> Outcome:
    profile = context.plan.profile
    metric = comparison.metrics[0]
    seen = f"InvarLock says {comparison.decision}"
    if metric.ratio is not None and metric.interval is not None:
        interval = f"{metric.interval.lower:.6f} to {metric.interval.upper:.6f}"
        seen += f": NLL ratio candidate/baseline {metric.ratio:.6f}, 95 % interval {interval}"
    answers = [rung for other in comparison.metrics[1:] for rung in scores.within(other, profile)]
    rungs = (*limits.regression(profile, metric), *answers)
    broken = () if ladder.holds(rungs) else (ladder.seen(rungs, ""),)
    return check(
        "certify.regression",
        comparison.decision == "pass" and metric.decision == "pass" and not broken,
        seen="; ".join((seen, *metric.reasons, *broken)),
        expected=f"pass: interval ends at or below {profile.max_ratio} and is at most {profile.max_interval_width} wide",
        remedy="Do not ship this candidate; `invoke explain` shows the cases that moved most.",
        evidence="evidence/certify/certificate/reports/evaluation.report.json",
    )


def _records(folder: Path, role: str) -> Records:
    path = folder / f"{role}.jsonl"
    if not path.is_file():
        raise ToolFailed(f"certify: there is no {path.name}; run `nox -s certify` again")
    return parse_records(path.read_bytes(), path.name)


ENGINE = Engine(
    decision="certificate/reports/evaluation.report.json",
    name="invarlock-0.17",
    environments=pack.NEEDS.environments,
    needs=_needs,
    verify_needs=_needs,
    inputs=lambda _: pack.inputs(),
    verify_inputs=invarlock17_verify.inputs,
    certify=_certify,
    judge=_judge,
    verify=invarlock17_verify.verify,
    checks=invarlock17_verify.checks,
    pairs=invarlock17_verify.pairs,
    split=scoring.score_shard,
)
