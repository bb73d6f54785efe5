"""Verify: does an independent look agree with the certificate?

Rules: what the certificate must say is computed, never read from it; the engine's own verifier must agree; the metric is
recomputed by code that shares nothing with the capture; a check that cannot be made is a check that failed.

Leaves, beside what the engine leaves: `ladder.json`, every check with both of its sides.
"""

from collections.abc import Mapping
from pathlib import Path

from sealrun import digest, files
from sealrun.engines import Checks, engine_of
from sealrun.evidence import statement as statements
from sealrun.outcome import Judgement, Outcome, OutcomeKind, check
from sealrun.reports import ladder
from sealrun.stage import Context, Stage, Work

# control -> what was expected, what to do, where the evidence lies
_CONTROLS = {
    "verify.invarlock": (
        "InvarLock verifies the certificate against what was computed here, decision pass",
        "Run `nox -s certify` and `nox -s verify` again from untouched inputs; a regression is the candidate's to mend.",
        "evidence/verify/receipt.json",
    ),
    "verify.settings": (
        "the certificate was made under this release's profile, by the locked tools",
        "Run `nox -s certify` again: policy, request, a tool or a lock is not this release's.",
        "evidence/verify/ladder.json",
    ),
    "verify.recomputed": (
        "means, ratio, difference, interval and decision recomputed from the records equal the certificate's",
        "Records or certificate were changed or cases have no number: run `nox -s certify` again.",
        "evidence/verify/recomputed.json",
    ),
    "verify.witnessed": (
        "the sampled cases, scored again by another process, agree with the records",
        "The records were not made by these models on this kind of machine: run `nox -s certify` again.",
        "evidence/verify/witness",
    ),
    "verify.binding": (
        "models, tokenizers and data of records and certificate are those that the model gate saw",
        "Run `nox -s model`, then `nox -s certify`: the certificate belongs to other files.",
        "evidence/verify/trust.json",
    ),
    "verify.keys": (
        "the certificate is signed by certify's evidence key, the receipt by a different key, this verifier's own",
        "Remove invarlock-verifier.pem from the key folder (SEALRUN_KEYS) when both are one; a new one will be made.",
        "evidence/verify/receipt.json",
    ),
}


class _Line(ladder.Rung, frozen=True, kw_only=True):
    """A check as `ladder.json` lists it, with the control that it belongs to."""

    control: str


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    return {"data": digest.of_file(context.data()), **engine_of(context.plan).verify_inputs(context)}


def _gather(context: Context, work: Work) -> None:
    if not _no_certificate(context):
        engine_of(context.plan).verify(context, work)


def _judge(context: Context) -> Judgement:
    if missing := _no_certificate(context):
        rung = ladder.Rung(name="certificate", got=missing, expected="one", holds=False)
        return Judgement(outcomes=tuple(_outcome(control, "", (rung,)) for control in _CONTROLS))
    engine = engine_of(context.plan)
    checks = engine.checks(context)
    climbed = {control: ladder.climb(look) for control in _CONTROLS if (look := checks[control].look)}
    lines = [
        _Line(control=control, name=rung.name, got=rung.got, expected=rung.expected, holds=rung.holds)
        for control, rungs in climbed.items()
        for rung in rungs
    ]
    outcomes = tuple(
        _outcome(control, checks[control].summary, climbed[control])
        if control in climbed
        else _absent(control, checks[control])
        for control in _CONTROLS
    )
    return Judgement(outcomes=outcomes, reports={"ladder.json": files.readable_json(lines), **engine.reports(context)})


def _outcome(control: str, summary: str, rungs: tuple[ladder.Rung, ...]) -> Outcome:
    expected, remedy, evidence = _CONTROLS[control]
    seen = ladder.seen(rungs, summary)
    return check(control, ladder.holds(rungs), seen=seen, expected=expected, remedy=remedy, evidence=evidence)


def _absent(control: str, checks: Checks) -> Outcome:
    """Return the outcome of a control that the engine has nothing of the kind for."""
    expected, _, _ = _CONTROLS[control]
    return Outcome(control=control, outcome=OutcomeKind.NOT_APPLICABLE, seen=checks.summary, expected=expected)


def _no_certificate(context: Context) -> str:
    """Return why there is no certificate to verify, empty when there is one."""
    if _certificate(context).is_dir():
        return ""
    certify = statements.load(context.statement_path("certify")).predicate
    seen = {outcome.control: outcome.seen for outcome in certify.outcomes}
    return f"no certificate: certify {seen.get('certify.completed', certify.verdict.value)}"


def _certificate(context: Context) -> Path:
    return context.evidence("certify") / "certificate"


STAGE = Stage(
    name="verify",
    summary="Check the certificate independently",
    controls=tuple(_CONTROLS),
    requires=("model", "certify"),
    also=lambda plan: engine_of(plan).verify_needs(plan),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
)
