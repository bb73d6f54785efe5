"""InvarLock 0.17's evidence packs: made and verified by its own programs, for the engines that use it.

Rules: what it judged must be what was asked, by digest; its exit code, its printed result and what it signed must agree; the
evidence key signs packs, the verifier key receipts, and neither leaves the key folder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sealrun import digest, files, venvs
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import keys
from sealrun.evidence import statement as statements
from sealrun.reports import captured, invarlock
from sealrun.reports.captured import Anchors
from sealrun.reports.captured_checks import EVIDENCE_KEY
from sealrun.stage import Context, Needs, Work

NEEDS = Needs(
    environments=(venvs.Environment(name="certify", smoke=("invarlock", "--version")),), tools=(("invarlock", "certify"),)
)
GUARDS = "spectral, rmt, variance, invariants"  # of InvarLock 0.3, which 0.17 does not have
_VERIFIER_KEY = "invarlock-verifier"
_NOT_INTACT = (4, 6)  # inventory; signature, anchor or content
_POLICY_SAYS_NO = 7


def inputs() -> Mapping[str, digest.Sha256]:
    """Return the key that signs packs, by its fingerprint."""
    return {f"key/{EVIDENCE_KEY}": keys.identity(EVIDENCE_KEY)}


def verifier() -> digest.Sha256:
    """Return the fingerprint of the key that signs receipts."""
    return keys.identity(_VERIFIER_KEY)


def verify_inputs() -> Mapping[str, digest.Sha256]:
    """Return the key that signs receipts, by its fingerprint."""
    return {f"key/{_VERIFIER_KEY}": verifier()}


def version(context: Context) -> str:
    """Return InvarLock's version as locked."""
    return venvs.locked_version(venvs.lock_path(context.root, "certify"), "invarlock")


def certificate(context: Context) -> Path:
    """Return where the pack lies."""
    return context.evidence("certify") / "certificate"


def evaluate(work: Work, expected: Callable[[Path], Anchors]) -> None:
    """Let InvarLock judge and sign what lies in the temporary folder, and keep its pack.

    *expected* returns, for the folder of the pack, what had to be judged. Raises ToolFailed when it judged anything else.
    """
    argv = (
        "invarlock",
        "evaluate",
        "request.yaml",
        "--signing-key",
        str(keys.private(EVIDENCE_KEY)),
        "--fail-on-policy",
        "--json",
    )
    completed = work.run("evaluate", "certify", argv, success=(0, _POLICY_SAYS_NO), cwd=work.tmp)
    said = invarlock.parse_evaluated(completed.stdout.read_bytes())
    got = Anchors(
        baseline=said.baseline_run_digest,
        candidate=said.subject_run_digest,
        policy=said.policy_digest,
        request=said.request_digest,
    )
    made = work.tmp / "certificate"
    if got != (wanted := expected(made)):
        raise ToolFailed(f"invarlock evaluate: it judged {got}, expected {wanted}; install the environment again")
    if (said.decision == "pass") != (completed.exit_code == 0):
        raise ToolFailed(f"invarlock evaluate: it said {said.decision} and ended with exit code {completed.exit_code}")
    for name in files.walk_files(made):
        target = work.out / "certificate" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(target, files.read_bytes(made / name, "invarlock evaluate"))


def verify(context: Context, work: Work, policy: Mapping[str, Any], expected: Anchors) -> None:
    """Let InvarLock verify the pack against what it must be, and keep trust inputs, receipt and result. Raises ToolFailed."""
    signer = f"sha256:{_signer(context)}"
    files.write_bytes(work.out / "policy.json", digest.canonical_json(policy))
    files.write_json(work.out / "trust.json", captured.trust(expected, signer=signer, key=f"{_VERIFIER_KEY}.pem"))
    argv = (
        "invarlock", "verify", str(certificate(context).resolve()), "--policy", str(work.out.resolve() / "policy.json"),
        "--expected-baseline-run", expected.baseline, "--expected-subject-run", expected.candidate,
        "--expected-request-digest", expected.request, "--expected-signer", signer,
        "--verifier-signing-key", str(keys.private(_VERIFIER_KEY)), "--verifier-identity", captured.VERIFIER,
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


def _signer(context: Context) -> digest.Sha256:
    """Return the fingerprint of the evidence key that certify stated to sign with."""
    for resource in statements.load(context.statement_path("certify")).predicate.inputs:
        if resource.name == f"key/{EVIDENCE_KEY}":
            return resource.digest.sha256
    raise VerificationFailed("certify: its statement names no evidence key; run `nox -s certify` again")
