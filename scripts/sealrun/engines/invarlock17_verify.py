"""Engine invarlock-0.17, verified: InvarLock's own verifier under expectations of ours, our recomputation, and a second look.

Rules: everything that the certificate must say is computed here first, from the records, the data, the policy and the model
gate's digests, never read from the certificate; InvarLock's own `verify` must agree under its signed receipt; a sample of cases
is scored again from the named bytes, in a process of its own.

Leaves: `policy.json` and `trust.json` (what was expected), `receipt.json` and `verified.json` (what InvarLock said), `witness/`
(the cases scored again) and `recomputed.json` (our own figures). Anyone can repeat InvarLock's part with these, a verifier key
of their own and `invarlock verify certificate --trust-profile trust.json --receipt NEW.json`.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from sealrun import digest, files, sandbox, scoring
from sealrun.engines import Checks, pack
from sealrun.errors import VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.reports import artifacts, captured, captured_checks, recompute, witness
from sealrun.reports.captured_checks import Evidence
from sealrun.reports.records import Case, Records, parse_records, require_cases
from sealrun.stage import Context, Work


def inputs(context: Context) -> Mapping[str, digest.Sha256]:
    """Return what verify reads beyond the release's own data: the models that it scores again, and its key by fingerprint."""
    models = {
        f"{role}/{entry.path}": digest.of_file(scoring.pinned(context, role, entry.path))
        for role in scoring.ROLES
        for entry in artifacts.load(context.evidence("model")).model(role)
    }
    return {**models, **pack.verify_inputs()}


def verify(context: Context, work: Work) -> None:
    """Compute what the certificate must say, and let InvarLock hold it against that. Raises ToolFailed, VerificationFailed."""
    scored, cases = _scored(context), scoring.cases_of(context)
    for role, records in scored.items():
        require_cases(records, cases, f"{role}.jsonl", VerificationFailed)
    question = captured.question(context.plan, cases, scored, artifacts.load(context.evidence("model")))
    running = _start_witness(context, work, cases, scored)
    try:
        _recompute(scored, work)
        pack.verify(context, work, question.policy, question.anchors)
    finally:
        for started in running:
            work.finish(started)


def _recompute(scored: Mapping[str, Records], work: Work) -> None:
    """Leave our own figures, none when they cannot be reached: the outcome of verify.recomputed says why."""
    with suppress(VerificationFailed):
        figures = recompute.compare(scored["baseline"].cases, scored["candidate"].cases)
        files.write_json(work.out / captured_checks.RECOMPUTED, figures)


def _start_witness(
    context: Context, work: Work, cases: tuple[Case, ...], scored: Mapping[str, Records]
) -> list[sandbox.Running]:
    """Start to score the sample again, each model in a process of its own."""
    (work.out / "witness").mkdir()
    chosen = witness.sample(scored, context.plan.profile.witness_cases)
    data = work.tmp / "witness.jsonl"
    files.write_bytes(data, witness.data(cases, chosen, context.plan.release.data))
    return [scoring.start(context, work, role, data, work.out / "witness" / f"{role}.jsonl") for role in scoring.ROLES]


def checks(context: Context) -> Mapping[str, Checks]:
    """Return the checks of this engine's certificates, by control."""
    evidence = _evidence(context)
    return {
        control: Checks(summary=summary, look=partial(look, evidence))
        for control, look, summary in (
            ("verify.invarlock", captured_checks.receipt, "InvarLock's receipt: intact, replayed, decision pass"),
            (
                "verify.settings",
                captured_checks.settings,
                "profile, policy, request, interval, tools and locks of this release",
            ),
            ("verify.recomputed", captured_checks.figures, "means, ratio, interval and decision recomputed from the records"),
            ("verify.witnessed", captured_checks.witnessed, "a sample of cases scored again from the named bytes"),
            ("verify.binding", captured_checks.binding, "models, tokenizers, data, runs and files agree by digest"),
            ("verify.keys", captured_checks.signatures, "signed by certify's evidence key, the receipt by this verifier's"),
        )
    }


def pairs(context: Context) -> Mapping[str, tuple[float, float]]:
    """Return each case's two losses. Raises VerificationFailed."""
    scored = _scored(context)
    return recompute.paired(scored["baseline"].cases, scored["candidate"].cases)


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


def _scored(context: Context) -> dict[str, Records]:
    folder = context.evidence("certify") / "records"
    return {
        role: parse_records(files.read_bytes(folder / f"{role}.jsonl", "certify"), f"{role}.jsonl", VerificationFailed)
        for role in scoring.ROLES
    }
