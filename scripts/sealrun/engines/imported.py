"""Engine imported: per-case exports of evaluators that people already run, compared and signed by InvarLock 0.17.

Rules: observations are somebody else's, and every text says so: imported observations, execution not witnessed; the exports are
pinned by digest like a model; what InvarLock's adapters read is held against our own reading of the same bytes.

Leaves: `exports/{baseline,candidate}` (as given), `certificate/` (InvarLock's signed evidence pack), `baseline-report.json` and
`candidate-report.json` (every case's score), and from verify what engine invarlock-0.17 leaves, without a witness.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sealrun import digest, files
from sealrun.engines import Checks, Engine, pack
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.outcome import Judgement, Outcome, check
from sealrun.reports import artifacts, captured_checks, exports, imported, invarlock, ladder, scores
from sealrun.reports.captured import Anchors
from sealrun.reports.exports import LABEL
from sealrun.reports.imported import Evidence
from sealrun.reports.scores import Observation
from sealrun.stage import Context, Work

_REPORT = "reports/evaluation.report.json"


def _exports(context: Context) -> dict[str, Path]:
    ref = imported.imported(context.plan)
    return {
        role: files.regular_file(context.plan.base, export.path, f"certify.imported.{role}")
        for role, export in (("baseline", ref.baseline), ("candidate", ref.candidate))
    }


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    return {**pack.inputs(), **{f"export/{role}": digest.of_file(path) for role, path in _exports(context).items()}}


def _certify(context: Context, work: Work) -> None:
    ref, found = imported.imported(context.plan), artifacts.load(context.evidence("model"))
    kept = files.empty_folder(work.out / "exports")
    for role, path in _exports(context).items():
        data = files.read_bytes(path, role)
        pinned = (ref.baseline if role == "baseline" else ref.candidate).sha256
        if digest.of_bytes(data) != pinned:
            raise VerificationFailed(f"{path.name}: got sha256 {digest.of_bytes(data)}, pinned is {pinned}; pin what is meant")
        exports.observations(data, ref, path.name)
        files.write_bytes(kept / role, data)
        files.write_bytes(work.tmp / role, exports.prepared(data, ref, path.name))
    files.write_bytes(work.tmp / "policy.json", digest.canonical_json(imported.policy(context.plan)))
    files.write_bytes(work.tmp / "request.yaml", digest.canonical_json(imported.request(context.plan, found)))

    def asked(made: Path) -> Anchors:
        runs = {role: f"sha256:{digest.of_file(made / 'records' / f'{name}.json')}" for role, name in imported.SIDES.items()}
        return imported.question(context.plan, found, runs).anchors

    pack.evaluate(work, asked)


def _judge(context: Context) -> Judgement:
    ref, found = imported.imported(context.plan), artifacts.load(context.evidence("model"))
    comparison = invarlock.load(pack.certificate(context) / _REPORT, invarlock.Comparison)
    kept = {role: files.read_bytes(context.evidence("certify") / "exports" / role, "certify") for role in imported.SIDES}
    observed = {role: exports.observations(data, ref, f"exports/{role}", ToolFailed) for role, data in kept.items()}
    outcomes = (_completed(context), _coverage(context, observed), _regression(context, comparison))
    reports = {f"{role}-report.json": imported.side_report(context.plan, found, role, data) for role, data in kept.items()}
    return Judgement(outcomes=outcomes, reports=reports)


def _completed(context: Context) -> Outcome:
    ref, profile = imported.imported(context.plan), context.plan.release.certify.profile
    return check(
        "certify.completed",
        profile == "release",
        seen=f"InvarLock {pack.version(context)} on {ref.evaluator} {ref.version} ({ref.adapter}): {LABEL}; profile {profile}; "
        f"guards not run: {pack.GUARDS}",
        expected="profile release",
        remedy='Set certify.profile = "release" in release.toml, then run `nox -s certify`.',
        evidence="evidence/certify/certificate/manifest.json",
    )


def _coverage(context: Context, observed: Mapping[str, tuple[Observation, ...]]) -> Outcome:
    profile = context.plan.profile
    counts = {role: sum(case.score is not None for case in cases) for role, cases in observed.items()}
    rungs = [ladder.at_least(f"cases of the {role}", count, profile.min_cases) for role, count in counts.items()]
    rungs += [
        ladder.same(f"cases of the {role} without a score", len(cases) - counts[role], 0) for role, cases in observed.items()
    ]
    counted = "; ".join(f"{role}: {counts[role]} of {len(cases)} cases" for role, cases in observed.items())
    return check(
        "certify.coverage",
        ladder.holds(rungs),
        seen=f"{counted}; {LABEL}" if ladder.holds(rungs) else f"{counted}; {ladder.seen(rungs, '')}",
        expected=f"every case scored, at least {profile.min_cases} cases",
        remedy="Let the evaluator run more cases, and export all of them.",
        evidence="evidence/certify/baseline-report.json",
    )


def _regression(context: Context, comparison: invarlock.Comparison) -> Outcome:
    profile, metric, ref = context.plan.profile, comparison.metrics[0], imported.imported(context.plan)
    rungs = (ladder.same("InvarLock's decision", comparison.decision, "pass"), *scores.within(metric, profile))
    figures = f"{ref.metric} of {metric.baseline_mean} and {metric.subject_mean}, difference {metric.delta}"
    return check(
        "certify.regression",
        ladder.holds(rungs),
        seen="; ".join((figures, ladder.seen(rungs, "InvarLock says pass"), *metric.reasons)),
        expected=f"pass: the interval of candidate - baseline lets at most {profile.max_score_drop} be lost and is at most "
        f"{profile.max_score_interval_width} wide",
        remedy="Do not ship this candidate; compare the cases in the two reports of evidence/certify.",
        evidence=f"evidence/certify/certificate/{_REPORT}",
    )


def _verify(context: Context, work: Work) -> None:
    question = _evidence(context).question
    pack.verify(context, work, question.policy, question.anchors)


def _checks(context: Context) -> Mapping[str, Checks]:
    evidence = _evidence(context)
    found = {
        control: Checks(summary=f"{summary}; {LABEL}", look=partial(look, evidence))
        for control, look, summary in (
            ("verify.invarlock", captured_checks.receipt, "InvarLock's receipt: intact, replayed, decision pass"),
            (
                "verify.settings",
                captured_checks.settings,
                "profile, policy, request, interval, tools and locks of this release",
            ),
            ("verify.recomputed", imported.figures, "means, difference and interval recomputed from the exports"),
            ("verify.binding", imported.binding, "exports, models, runs and files agree by digest, scores case by case"),
            ("verify.keys", captured_checks.signatures, "signed by certify's evidence key, the receipt by this verifier's"),
        )
    }
    return {**found, "verify.witnessed": Checks(summary=LABEL, look=None)}


def _reports(context: Context) -> dict[str, bytes]:
    try:
        return {"recomputed.json": files.readable_json(scores.compare(_evidence(context).observed))}
    except VerificationFailed:
        return {}  # the outcome of verify.recomputed says why


def _evidence(context: Context) -> Evidence:
    return Evidence(
        plan=context.plan,
        root=context.root,
        model=context.evidence("model"),
        certify=context.evidence("certify"),
        verify=context.evidence("verify"),
        stated=statements.load(context.statement_path("certify")).predicate,
        verifier=pack.verifier(),
    )


ENGINE = Engine(
    decision="certificate/reports/evaluation.report.json",
    name="imported",
    environments=pack.NEEDS.environments,
    needs=lambda _: pack.NEEDS,
    verify_needs=lambda _: pack.NEEDS,
    inputs=_inputs,
    verify_inputs=lambda _: pack.verify_inputs(),
    certify=_certify,
    judge=_judge,
    verify=_verify,
    checks=_checks,
    reports=_reports,
)
