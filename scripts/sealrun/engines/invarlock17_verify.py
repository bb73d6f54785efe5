"""Engine invarlock-0.17, verified: InvarLock's own verifier under expectations of ours, and our recomputation from the records.

Rules: everything that the certificate must say is computed here first, from the records, the data, the policy and the model
gate's digests, never read from the certificate; InvarLock's own `verify` must agree under its signed receipt.

Leaves: `policy.json` and `trust.json` (what was expected), `receipt.json` and `verified.json` (what InvarLock said),
`recomputed.json` (our own figures). Anyone can repeat InvarLock's part with these, a verifier key of their own and
`invarlock verify certificate --trust-profile trust.json --receipt NEW.json`.
"""

from collections.abc import Mapping
from pathlib import Path

from sealrun import digest, files, scoring
from sealrun.engines import Look
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import keys
from sealrun.evidence import statement as statements
from sealrun.reports import artifacts, captured, invarlock, recompute
from sealrun.reports.records import Records, parse_records, report, require_cases
from sealrun.stage import Context, Work

_EVIDENCE_KEY, _KEY = "invarlock-evidence", "invarlock-verifier"
_NOT_INTACT = (4, 6)  # inventory; signature, anchor or content
_POLICY_SAYS_NO = 7


def inputs(context: Context) -> Mapping[str, digest.Sha256]:
    """Return what verify reads beyond the release's own files: its key, by fingerprint."""
    return {f"key/{_KEY}": keys.fingerprint(keys.private(_KEY))}


def verify(context: Context, work: Work) -> None:
    """Compute what the certificate must say, and let InvarLock hold it against that. Raises ToolFailed, VerificationFailed."""
    scored, cases = _scored(context), scoring.cases_of(context)
    for role, records in scored.items():
        require_cases(records, cases, f"{role}.jsonl", VerificationFailed)
    question = captured.question(context.plan, cases, scored, artifacts.load(context.evidence("model")))
    trust = captured.trust(question.anchors, signer=f"sha256:{_signer(context)}", key=f"{_KEY}.pem")
    files.write_bytes(work.out / "policy.json", digest.canonical_json(question.policy))
    files.write_json(work.out / "trust.json", trust)
    _verify(context, work, question.anchors)


def _verify(context: Context, work: Work, expected: captured.Anchors) -> None:
    """Let InvarLock verify the certificate, and keep its receipt and result. Raises ToolFailed when they disagree."""
    argv = (
        "invarlock", "verify", str(_certificate(context).resolve()), "--policy", str(work.out.resolve() / "policy.json"),
        "--expected-baseline-run", expected.baseline, "--expected-subject-run", expected.candidate,
        "--expected-request-digest", expected.request, "--expected-signer", f"sha256:{_signer(context)}",
        "--verifier-signing-key", str(keys.private(_KEY)), "--verifier-identity", captured.VERIFIER,
        "--receipt", str(work.tmp / "receipt.json"), "--json",
    )  # fmt: skip
    completed = work.run("verify", "certify", argv, success=(0, *_NOT_INTACT, _POLICY_SAYS_NO))
    said = files.decode(completed.stdout.read_bytes(), invarlock.Verified, "invarlock verify --json", ToolFailed)
    receipt = invarlock.load(work.tmp / "receipt.json", invarlock.Receipt)
    status = receipt.statement.verdict.verification_status
    if said.ok != (completed.exit_code == 0) or status != completed.exit_code:
        raise ToolFailed(f"invarlock verify: exit code {completed.exit_code}, receipt {status}, result ok={said.ok}")
    files.write_bytes(work.out / "receipt.json", (work.tmp / "receipt.json").read_bytes())
    files.write_json(work.out / "verified.json", said)


def looks(context: Context) -> Mapping[str, Look]:
    """Return the checks of this engine's certificates, by control."""
    return {
        "verify.invarlock": lambda: _invarlock_agrees(context),
        "verify.recomputed": lambda: _recomputation_agrees(context),
        "verify.binding": lambda: _bound_to_the_model_gate(context),
        "verify.keys": lambda: _keys_differ(context),
    }


def _invarlock_agrees(context: Context) -> tuple[bool, str]:
    folder = context.evidence("verify")
    statement = invarlock.load_receipt(folder / "receipt.json").statement
    expected = invarlock.load(folder / "trust.json", captured.Trust, VerificationFailed).anchors
    policy = f"sha256:{digest.of_file(folder / 'policy.json')}"
    pack = f"sha256:{digest.of_file(_certificate(context) / 'manifest.json')}"
    for what, got, wanted in (
        ("certificate", statement.pack_manifest_digest, pack),
        ("policy", statement.anchors.policy_digest, policy),
        ("baseline run", statement.anchors.baseline_run_digest, expected.baseline_run_digest),
        ("candidate run", statement.anchors.subject_run_digest, expected.subject_run_digest),
        ("request", statement.anchors.request_digest, expected.request_digest),
        ("signer", statement.anchors.signer_fingerprint, expected.evidence_signer_fingerprint),
        ("verifier", statement.verifier.identity, captured.VERIFIER),
    ):
        if got != wanted:
            return False, f"the receipt is about another {what}: {got}"
    verdict = statement.verdict
    said = f"receipt: intact {verdict.integrity_ok}, replay {statement.replay_status}, decision {verdict.decision}"
    return verdict.ok and verdict.integrity_ok and statement.replay_status == "completed", said


def _recomputation_agrees(context: Context) -> tuple[bool, str]:
    scored, found = _scored(context), artifacts.load(context.evidence("model"))
    for role, records in scored.items():
        written = files.read_bytes(context.evidence("certify") / f"{role}-report.json", "certify")
        if written != report(records, role=role, models=found.model(role)):
            return False, f"{role}-report.json is not what its records say"
    ours = recompute.compare(scored["baseline"].cases, scored["candidate"].cases)
    path = _certificate(context) / "reports" / "evaluation.report.json"
    theirs = invarlock.load(path, invarlock.Comparison, VerificationFailed).metrics[0]
    tolerance = context.plan.gates.profile[context.plan.release.certify.profile].recompute_tolerance
    for name, mine, claimed in (
        ("baseline mean", ours.baseline_mean, theirs.baseline_mean),
        ("candidate mean", ours.candidate_mean, theirs.subject_mean),
        ("ratio", ours.ratio, theirs.ratio),
        ("difference", ours.delta, theirs.delta),
        ("cases", ours.cases, theirs.count),
    ):
        if claimed is None or not abs(mine - claimed) <= tolerance:
            return False, f"{name}: recomputed {mine!r}, the certificate says {claimed!r}"
    return True, f"ratio {ours.ratio:.9f} and means over {ours.cases} cases, recomputed from the records"


def _bound_to_the_model_gate(context: Context) -> tuple[bool, str]:
    found, release = artifacts.load(context.evidence("model")), context.plan.release
    compared = 0
    for role, model in (("baseline", release.baseline), ("candidate", release.candidate)):
        header = _scored(context)[role].header
        for what, got, wanted in (
            (f"{role} model", header.model_sha256, artifacts.sha256_of(found.model(role), model.artifact)),
            (f"{role} tokenizer", header.tokenizer_sha256, artifacts.sha256_of(found.model(role), model.tokenizer)),
            (f"{role} data", header.data_sha256, artifacts.sha256_of(found.data, release.data.path)),
            (f"{role} window", header.window, release.certify.window),
        ):
            if got != wanted:
                return False, f"{what}: the records name {got}, the model gate {wanted}"
            compared += 1
    manifest = invarlock.load(_certificate(context) / "manifest.json", invarlock.Manifest, VerificationFailed)
    trust = invarlock.load(context.evidence("verify") / "trust.json", captured.Trust, VerificationFailed).anchors
    for role, got, wanted in (
        ("baseline", manifest.files["baseline"].digest, trust.baseline_run_digest),
        ("candidate", manifest.files["subject"].digest, trust.subject_run_digest),
    ):
        if got != wanted:
            return False, f"{role} run: the certificate names {got}, computed from records and gate {wanted}"
        compared += 1
    return True, f"{compared} digests of models, tokenizers, data and runs agree"


def _keys_differ(context: Context) -> tuple[bool, str]:
    receipt = invarlock.load_receipt(context.evidence("verify") / "receipt.json")
    manifest = invarlock.load(_certificate(context) / "manifest.json", invarlock.Manifest, VerificationFailed)
    evidence, verifier = manifest.signing_key_fingerprint, receipt.statement.verifier.signing_key_fingerprint
    if evidence != f"sha256:{_signer(context)}":
        return False, f"the certificate is signed by {evidence}, certify stated {_signer(context)}"
    return evidence != verifier, f"evidence key {evidence}, verifier key {verifier}"


def reports(context: Context) -> dict[str, bytes]:
    """Return our own figures as a report, none when they cannot be reached."""
    try:
        scored = _scored(context)
        value = recompute.compare(scored["baseline"].cases, scored["candidate"].cases)
    except VerificationFailed:
        return {}  # the outcome of verify.recomputed says why
    return {"recomputed.json": files.readable_json(value)}


def _scored(context: Context) -> dict[str, Records]:
    folder = context.evidence("certify") / "records"
    return {
        role: parse_records(files.read_bytes(folder / f"{role}.jsonl", "certify"), f"{role}.jsonl", VerificationFailed)
        for role in ("baseline", "candidate")
    }


def _certificate(context: Context) -> Path:
    return context.evidence("certify") / "certificate"


def _signer(context: Context) -> digest.Sha256:
    """Return the fingerprint of the evidence key that certify stated to sign with."""
    for resource in statements.load(context.statement_path("certify")).predicate.inputs:
        if resource.name == f"key/{_EVIDENCE_KEY}":
            return resource.digest.sha256
    raise VerificationFailed("certify: its statement names no evidence key; run `nox -s certify` again")
