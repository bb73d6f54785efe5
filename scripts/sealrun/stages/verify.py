"""Verify: does an independent look agree with the certificate?

Rules: what the certificate must say is computed, never read from it; the engine's own verifier must agree; the metric is
recomputed by code that shares nothing with the capture; a check that cannot be made is a check that failed.
"""

from collections.abc import Mapping
from pathlib import Path

from sealrun import digest
from sealrun.engines import Look, engine_of
from sealrun.errors import VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.outcome import Judgement, Outcome, OutcomeKind, check
from sealrun.stage import Context, Stage, Work

_CONTROLS = ("verify.invarlock", "verify.recomputed", "verify.binding", "verify.keys")


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    return {"data": digest.of_file(context.data()), **engine_of(context.plan).verify_inputs(context)}


def _gather(context: Context, work: Work) -> None:
    if not _no_certificate(context):
        engine_of(context.plan).verify(context, work)


def _judge(context: Context) -> Judgement:
    if missing := _no_certificate(context):
        return Judgement(outcomes=tuple(_outcome(control, lambda: (False, missing)) for control in _CONTROLS))
    engine = engine_of(context.plan)
    looks = engine.looks(context)
    outcomes = tuple(_outcome(control, looks[control]) for control in _CONTROLS)
    return Judgement(outcomes=outcomes, reports=engine.reports(context))


def _outcome(control: str, look: Look) -> Outcome:
    """Return the outcome of one check; a check that cannot be made has failed."""
    expected, remedy, evidence = {
        "verify.invarlock": (
            "InvarLock verifies the certificate against what was computed here, decision pass",
            "Run `nox -s certify` and `nox -s verify` again from untouched inputs; a regression is the candidate's to mend.",
            "evidence/verify/receipt.json",
        ),
        "verify.recomputed": (
            "means, ratio and difference recomputed from the records equal the certificate's",
            "Records or certificate were changed or cases have no number: run `nox -s certify` again.",
            "evidence/verify/recomputed.json",
        ),
        "verify.binding": (
            "models, tokenizers and data of records and certificate are those that the model gate saw",
            "Run `nox -s model`, then `nox -s certify`: the certificate belongs to other files.",
            "evidence/verify/trust.json",
        ),
        "verify.keys": (
            "the certificate is signed by certify's evidence key, the receipt by a different key",
            "Remove invarlock-verifier.pem from the key folder (SEALRUN_KEYS); a new one is made on the next run.",
            "evidence/verify/receipt.json",
        ),
    }[control]
    try:
        ok, seen = look()
    except VerificationFailed as error:
        ok, seen = False, str(error)
    if ok is None:
        return Outcome(control=control, outcome=OutcomeKind.NOT_APPLICABLE, seen=seen, expected=expected)
    return check(control, ok, seen=seen, expected=expected, remedy=remedy, evidence=evidence)


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
    controls=_CONTROLS,
    requires=("model", "certify"),
    also=lambda plan: engine_of(plan).verify_needs(plan),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
)
