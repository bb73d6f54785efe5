"""The ladder of checks under a captured certificate of InvarLock 0.17: what each control of the stage verify rests on.

Rules: pure; what the certificate, the receipt and the trust inputs must say is computed from the records, the texts they are
bound to, the plan and the model gate's digests, and compared; nothing is taken from the certificate that another rung does not
hold against something outside of it; missing is failed.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files, venvs
from sealrun.errors import SealrunError, VerificationFailed
from sealrun.evidence import keys
from sealrun.evidence.statement import StagePredicate
from sealrun.policy.model import Plan, Profile
from sealrun.reports import artifacts, captured, invarlock, recompute, scores, witness
from sealrun.reports.ladder import Rung, at_least, different, near, same
from sealrun.reports.records import Case, Records, parse_records, report, require_cases

EVIDENCE_KEY = "invarlock-evidence"
RECOMPUTED = "recomputed.json"  # our own figures, as verify leaves them
_SIDES = {"baseline": "baseline", "candidate": "subject"}
_PACK = {
    "baseline": "records/baseline.json",
    "subject": "records/subject.json",
    "policy": "inputs/policy.json",
    "report": "reports/evaluation.report.json",
    "request": "request.json",
}


class _Row(Struct, frozen=True, kw_only=True):
    """The part of a run's record that names the case."""

    id: str
    input: str
    expected: str


class _Run(Struct, frozen=True, kw_only=True):
    """The part of a run that names its cases."""

    records: tuple[_Row, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is looked at: the evidence folders of the three stages, what certify stated, and our verifier key's fingerprint.

    Reading raises VerificationFailed or InputMissing.
    """

    plan: Plan
    root: Path
    model: Path
    certify: Path
    verify: Path
    stated: StagePredicate
    verifier: digest.Sha256
    assurance: str = "recomputed"
    interval_method: str = "paired_percentile_bootstrap_sha256_v1"

    @property
    def metric_name(self) -> str:
        """What is compared."""
        return captured.METRIC

    @property
    def pack(self) -> Path:
        """The certificate."""
        return self.certify / "certificate"

    @property
    def profile(self) -> Profile:
        """The profile that the release names."""
        return self.plan.profile

    @cached_property
    def found(self) -> artifacts.Artifacts:
        """What the model gate found."""
        return artifacts.load(self.model)

    @cached_property
    def scored(self) -> dict[str, Records]:
        """The records, by side."""
        return {side: _records(self.certify / "records" / f"{side}.jsonl") for side in _SIDES}

    @cached_property
    def again(self) -> dict[str, Records]:
        """The records of the cases that verify scored again, by side."""
        return {side: _records(self.verify / "witness" / f"{side}.jsonl") for side in _SIDES}

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The texts, as the certificate holds them, each the one whose digest the records carry."""
        run = self.loaded(_PACK["baseline"], _Run)
        cases = tuple(Case(id=row.id, text=row.expected, prompt=row.input) for row in run.records)
        for side, records in self.scored.items():
            require_cases(records, cases, f"{side}.jsonl", VerificationFailed)
        return cases

    @cached_property
    def question(self) -> captured.Question:
        """What InvarLock had to be asked."""
        return captured.question(self.plan, self.cases, self.scored, self.found)

    @cached_property
    def comparison(self) -> invarlock.Comparison:
        """What InvarLock said."""
        return self.loaded(_PACK["report"], invarlock.Comparison)

    @cached_property
    def manifest(self) -> invarlock.Manifest:
        """The certificate's list of its files."""
        return self.loaded("manifest.json", invarlock.Manifest)

    @cached_property
    def receipt(self) -> invarlock.Receipt:
        """The verifier's receipt, under a good signature."""
        return invarlock.load_receipt(self.verify / "receipt.json")

    @property
    def signer(self) -> str | None:
        """The evidence key that certify stated to sign with."""
        named = {resource.name: resource.digest.sha256 for resource in self.stated.inputs}
        signer = named.get(f"key/{EVIDENCE_KEY}")
        return f"sha256:{signer}" if signer else None

    def loaded[T](self, name: str, kind: type[T]) -> T:
        """Return a file of the certificate as a *kind*."""
        return invarlock.load(self.pack / name, kind, VerificationFailed)


def receipt(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of what InvarLock's verifier was told and what it said."""
    statement, asked = evidence.receipt.statement, evidence.question.anchors
    anchors, verdict = statement.anchors, statement.verdict
    yield same("certificate that the receipt is about", statement.pack_manifest_digest, _named(evidence.pack / "manifest.json"))
    yield same("policy of the receipt", anchors.policy_digest, asked.policy)
    yield same("baseline run of the receipt", anchors.baseline_run_digest, asked.baseline)
    yield same("candidate run of the receipt", anchors.subject_run_digest, asked.candidate)
    yield same("request of the receipt", anchors.request_digest, asked.request)
    yield same("signer of the receipt", anchors.signer_fingerprint, evidence.signer)
    yield same("subject of the receipt", statement.subject, {"kind": "captured_run", "run_digest": asked.candidate})
    yield same("verifier of the receipt", statement.verifier.identity, captured.VERIFIER)
    said = invarlock.load(evidence.verify / "verified.json", invarlock.Verified, VerificationFailed)
    for flag, wanted in (("decision", "pass"), ("policy_verdict", "pass"), ("integrity_ok", True), ("ok", True)):
        yield same(f"{flag} of the receipt", getattr(verdict, flag), wanted)
        yield same(f"{flag} of the result", getattr(said, flag), wanted)
    yield same("errors of the result", said.errors, ())
    yield same("verification status of the receipt", verdict.verification_status, 0)
    yield same("replay", statement.replay_status, "completed")
    yield same("scoring assurance", _assurance(statement), {evidence.assurance})
    comparison = evidence.comparison
    yield same("decision of the certificate", comparison.decision, "pass")
    for metric in comparison.metrics:
        yield same(f"decision on {metric.name}", metric.decision, "pass")
        yield same(f"reasons of {metric.name}", metric.reasons, ())
        yield same(f"cases without a number of {metric.name}", metric.missing_ids, ())
    expected = captured.trust(asked, signer=evidence.signer or "", key="invarlock-verifier.pem")
    yield same("trust inputs", invarlock.load(evidence.verify / "trust.json", captured.Trust, VerificationFailed), expected)
    yield same("policy beside the trust inputs", _named(evidence.verify / "policy.json"), asked.policy)


def settings(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of how it was judged: profile, policy, request, flags, interval, tools and locks."""
    asked, profile = evidence.question, evidence.profile
    manifest, comparison = evidence.manifest, evidence.comparison
    metric = comparison.metrics[0]
    yield same("profile", evidence.plan.release.certify.profile, "release")
    yield same("policy of the certificate", _named(evidence.pack / _PACK["policy"]), asked.anchors.policy)
    yield same("policy that the decision names", comparison.bindings.policy, asked.anchors.policy)
    yield same("request of the certificate", _named(evidence.pack / _PACK["request"]), asked.anchors.request)
    yield same("request that the manifest names", manifest.request_digest, asked.anchors.request)
    shape = ("nats_per_utf8_byte", "ratio") if evidence.assurance == "recomputed" else ("score", None)
    yield same("metric", metric.name, evidence.metric_name)
    yield same("unit of the metric and of its interval", (metric.unit, metric.interval_unit), shape)
    yield same("assurance of the metric", metric.scoring_assurance, evidence.assurance)
    yield same("slice", metric.slice, "overall")
    interval = metric.interval
    yield same("mass of the interval", interval and interval.mass, 0.95)
    yield same("method of the interval", interval and interval.method, evidence.interval_method)
    yield at_least("replicates of the interval", metric.replicates, profile.min_replicates)
    for tool in evidence.stated.tools:
        locked = venvs.locate(evidence.root, tool.environment).lock
        version = venvs.locked_version(venvs.lock_path(evidence.root, tool.environment), tool.name)
        yield same(f"lock of {tool.environment}, for {tool.name}", tool.lock, locked)
        yield same(f"version of {tool.name}", tool.version, version)
    versions = {tool.name: tool.version for tool in evidence.stated.tools}
    yield same("InvarLock among the tools", "invarlock" in versions, True)
    for side, records in evidence.scored.items():
        header = records.header
        yield same(
            f"runtime of the {side}, {header.runtime}", header.runtime_version, versions.get(header.runtime, "not stated")
        )


def figures(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of every figure against our own, and of the decision against the figures."""
    scored, profile, found = evidence.scored, evidence.profile, evidence.found
    for side, records in scored.items():
        written = files.read_bytes(evidence.certify / f"{side}-report.json", "certify")
        wanted = report(records, role=side, models=found.model(side))
        yield same(f"{side}-report.json against the records", digest.of_bytes(written), digest.of_bytes(wanted))
    pairs = recompute.paired(scored["baseline"].cases, scored["candidate"].cases)  # says why where nothing was kept
    kept = files.decode(
        files.read_bytes(evidence.verify / RECOMPUTED, "verify"), recompute.Comparison, RECOMPUTED, VerificationFailed
    )
    ours = recompute.compare_pairs(pairs, known=kept.interval)
    yield same(f"{RECOMPUTED} against the records", kept, ours)
    theirs = evidence.comparison.metrics[0]
    for name, got, wanted_number in (
        ("baseline mean", theirs.baseline_mean, ours.baseline_mean),
        ("candidate mean", theirs.subject_mean, ours.candidate_mean),
        ("ratio", theirs.ratio, ours.ratio),
        ("difference", theirs.delta, ours.delta),
        ("cases", theirs.count, ours.cases),
    ):
        yield near(name, got, wanted_number, profile.recompute_tolerance)
    within = max(profile.recompute_tolerance, profile.interval_tolerance * ours.interval.width)
    yield near("lower end of the interval", theirs.lower, ours.interval.lower, within)
    yield near("upper end of the interval", theirs.upper, ours.interval.upper, within)
    yield same("pass against the figures", theirs.decision == "pass", _within(theirs, profile))
    wanted_names = [metric["name"] for metric in evidence.question.policy["metrics"]]
    yield same("metrics", [metric.name for metric in evidence.comparison.metrics], wanted_names)
    for other in evidence.comparison.metrics[1:]:
        answers = {side: scores.of_records(records) for side, records in scored.items()}
        yield from scores.agree(scores.compare(answers, matches=True), other, profile)


def binding(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks that certificate and records are about the bytes that the model gate saw."""
    found, release, asked = evidence.found, evidence.plan.release, evidence.question.anchors
    for side, model in (("baseline", release.baseline), ("candidate", release.candidate)):
        records = evidence.scored[side]
        header, manifest = records.header, found.model(side)
        artifact = artifacts.sha256_of(manifest, model.artifact)
        yield same(f"{side} model", header.model_sha256, artifact)
        yield same(f"{side} model of each record", {record.model_sha256 for record in records.cases}, {artifact})
        yield same(f"{side} tokenizer", header.tokenizer_sha256, artifacts.sha256_of(manifest, model.tokenizer))
        yield same(f"{side} data", header.data_sha256, artifacts.sha256_of(found.data, release.data.path))
        yield same(f"{side} window", header.window, release.certify.window)
        run = asked.baseline if side == "baseline" else asked.candidate
        name, bindings = _SIDES[side], evidence.comparison.bindings
        yield same(f"{side} run in the certificate", _named(evidence.pack / _PACK[name]), run)
        yield same(f"{side} run that the decision names", getattr(bindings, name), run)
    yield from inventory(evidence)


def inventory(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks that the certificate's files are those that it lists."""
    for name, path in _PACK.items():
        entry = evidence.manifest.files.get(name)  # type: ignore[call-overload]
        yield same(f"{name} that the manifest names", entry and entry.digest, _named(evidence.pack / path))
    yield same("files of the certificate", _checksums(evidence), evidence.manifest.checksums_sha256_digest)


def signatures(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of who signed what."""
    signer, manifest = evidence.signer, files.read_bytes(evidence.pack / "manifest.json", "certificate")
    signature = evidence.loaded("manifest.signature.json", invarlock.ManifestSignature)
    key = _key(signature.public_key.value)
    verifier = evidence.receipt.statement.verifier.signing_key_fingerprint
    yield same("evidence key that certify stated", evidence.manifest.signing_key_fingerprint, signer)
    yield same("evidence key of the signature", signature.signing_key_fingerprint, signer)
    yield same("evidence key itself", f"sha256:{digest.of_bytes(key.raw)}", signer)
    yield same("signature of the certificate", _signed(key, manifest, signature.signature.value), True)
    yield same("verifier key", verifier, f"sha256:{evidence.verifier}")
    yield different("verifier key against the evidence key", verifier, signer)


def witnessed(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of the cases scored again against the records."""
    return witness.compared(evidence.profile, evidence.scored, evidence.again)


def _within(metric: invarlock.Metric, profile: Profile) -> bool:
    """Return whether the certificate's own figures are within the limits that InvarLock was given."""
    if metric.width is None or metric.upper is None or metric.count < profile.min_cases:
        return False
    return metric.width <= profile.max_interval_width and metric.upper <= profile.max_ratio


def _checksums(evidence: Evidence) -> str:
    """Return the digest of the checksum file that the certificate's files ask for."""
    lines = "".join(f"{digest.of_file(evidence.pack / path)}  {path}\n" for path in sorted(_PACK.values()))
    written = files.read_bytes(evidence.pack / "checksums.sha256", "certificate")
    return digest.of_bytes(written) if written == lines.encode() else "of other files"


def _assurance(statement: invarlock.ReceiptStatement) -> set[str]:
    return {entry.get("scoring_assurance", "none") for entry in statement.scoring_assurance or ()}


def _records(path: Path) -> Records:
    return parse_records(files.read_bytes(path, "records"), path.name, VerificationFailed)


def _named(path: Path) -> str:
    return f"sha256:{digest.of_bytes(files.read_bytes(path, 'evidence'))}"


def _key(pem: str) -> keys.PublicKey:
    try:
        return keys.parse_public(pem.encode(), "manifest.signature.json")
    except SealrunError as problem:
        raise VerificationFailed(str(problem)) from problem


def _signed(key: keys.PublicKey, message: bytes, signature: str) -> bool:
    try:
        return key.signed(message, base64.b64decode(signature, validate=True))
    except (binascii.Error, ValueError):
        return False
