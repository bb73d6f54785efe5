"""InvarLock 0.17's own JSON, as values.

Rules: everything is decoded strictly, so an unknown shape is a failure and never a pass; a receipt is written by the
tool also when verification failed, so what counts is `statement.verdict` under a good signature, never that the file
exists.

Source: the JSON schemas that invarlock 0.17 ships (multi_metric_comparison, evidence_pack_v2,
evidence_verification_receipt_v3).
"""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta, Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, ToolFailed, VerificationFailed

type Named = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
type Decision = Literal["pass", "regression", "insufficient_evidence"]


class Failure(Struct, frozen=True, kw_only=True):
    """What `evaluate --json` prints when it did not evaluate."""

    ok: Literal[False]
    errors: tuple[str, ...]


class Evaluated(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `evaluate --json` prints. `evidence` is an absolute path: this value stays out of what is kept."""

    format_version: Literal["invarlock/evaluation-result-v2"]
    kind: Literal["captured"]
    ok: Literal[True]
    evidence: str
    comparison_id: Named
    baseline_run_digest: Named
    subject_run_digest: Named
    policy_digest: Named
    request_digest: Named
    pack_manifest_digest: Named
    authentication: Literal["signed"]
    policy_verdict: Decision
    decision: Decision


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A 95 % interval of the ratio, and how it was reached."""

    lower: float
    upper: float
    mass: float
    method: str
    replicates: int


class Metric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One compared metric over one slice; means absent when a case has no number. Likelihood is in nats per UTF-8 byte and its
    interval is of the ratio; a recorded score has its own unit and its interval is of the difference."""

    name: str
    slice: str
    kind: Literal["normalized_nll_per_utf8_byte", "exact_match", "recorded"]
    unit: Literal["nats_per_utf8_byte", "score"]
    direction: Literal["lower", "higher"]
    aggregation: Literal["mean"]
    scoring_assurance: Literal["recomputed", "recorded"]
    interval_unit: Literal["ratio"] | None = None
    count: int
    missing_ids: tuple[str, ...]
    baseline_mean: float | None
    subject_mean: float | None
    delta: float | None
    ratio: float | None = None
    interval: Interval | None
    decision: Decision
    reasons: tuple[str, ...]

    @property
    def lower(self) -> float | None:
        """The lower end of the interval, when there is one."""
        return self.interval.lower if self.interval else None

    @property
    def upper(self) -> float | None:
        """The upper end of the interval, when there is one."""
        return self.interval.upper if self.interval else None

    @property
    def width(self) -> float | None:
        """The width of the interval, when there is one."""
        return self.interval.upper - self.interval.lower if self.interval else None

    @property
    def replicates(self) -> int | None:
        """How many replicates the interval rests on, when there is one."""
        return self.interval.replicates if self.interval else None


class Bindings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Digests of what was compared."""

    baseline: Named
    subject: Named
    policy: Named


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reports/evaluation.report.json`: InvarLock's judgement of the change."""

    format: Literal["invarlock/multi-metric-comparison-v1"]
    decision: Decision
    bindings: Bindings
    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1, max_length=2)]
    limitations: tuple[str, ...]


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the evidence pack."""

    path: str
    digest: Named


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.json` of a signed evidence pack."""

    format: Literal["invarlock/evidence-pack-v2"]
    kind: Literal["captured"]
    authentication: Literal["signed"]
    comparison_id: Named
    request_digest: Named
    signing_key_fingerprint: Named
    files: dict[Literal["request", "policy", "baseline", "subject", "report"], File]
    checksums: Literal["checksums.sha256"]
    checksums_sha256_digest: digest.Sha256
    signature: Literal["manifest.signature.json"]


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the verifier says; only `ok` is a pass."""

    ok: bool
    integrity_ok: bool
    decision: Decision | None
    policy_verdict: Literal["pass", "fail"] | None
    verification_status: Literal[0, 4, 6, 7]


class ReceiptAnchors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the verifier was told to expect."""

    baseline_run_digest: Named
    subject_run_digest: Named
    policy_digest: Named
    request_digest: Named
    signer_fingerprint: Named


class Verifier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who verified, with which key and trust inputs."""

    identity: str
    signing_key_fingerprint: Named
    trust_profile_digest: Named | None


class ReceiptStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a receipt states."""

    format: Literal["invarlock/evidence-verification-receipt-v3"]
    kind: Literal["captured"]
    pack_format: Literal["invarlock/evidence-pack-v2"]
    pack_manifest_digest: Named
    anchors: ReceiptAnchors
    subject: dict[str, str]
    verifier: Verifier
    verification_scope: Literal["captured_comparison"]
    replay_status: Literal["not_started", "failed", "completed"]
    scoring_assurance: tuple[dict[str, str], ...] | None
    verdict: Verdict


class PublicKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An Ed25519 public key."""

    encoding: Literal["pem"]
    value: str


class ReceiptSignature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Ed25519 signature over the canonical JSON of the statement."""

    format: Literal["invarlock/evidence-verification-receipt-signature-v1"]
    algorithm: Literal["ed25519"]
    public_key: PublicKey
    value: str


class Encoded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signature's 64 bytes."""

    encoding: Literal["base64"]
    value: str


class ManifestSignature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.signature.json`: the Ed25519 signature over the bytes of `manifest.json`."""

    format: Literal["invarlock/evidence-pack-signature-v1"]
    algorithm: Literal["ed25519"]
    signing_key_fingerprint: Named
    public_key: PublicKey
    signature: Encoded


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verification receipt."""

    statement: ReceiptStatement
    signature: ReceiptSignature


class Verified(Struct, frozen=True, kw_only=True):
    """What `verify --json` prints, passed or not; fields that only one of the two has are left out."""

    format_version: Literal["invarlock/evidence-pack-verify-v2"]
    kind: Literal["captured"]
    ok: bool
    integrity_ok: bool
    decision: Decision | None
    policy_verdict: Literal["pass", "fail"] | None
    errors: tuple[str, ...] = ()


def parse_evaluated(data: bytes) -> Evaluated:
    """Return the result of `evaluate --json`. Raises ToolFailed, with the tool's own reasons when it gives some."""
    value = files.parse_json(data, "invarlock evaluate --json", ToolFailed)
    if isinstance(value, dict) and value.get("ok") is False:
        said = files.convert(value, Failure, "invarlock evaluate --json", ToolFailed)
        raise ToolFailed(f"invarlock evaluate: {'; '.join(said.errors)}")
    return files.convert(value, Evaluated, "invarlock evaluate --json", ToolFailed)


def load[T](path: Path, kind: type[T], error: type[SealrunError] = ToolFailed) -> T:
    """Return the JSON file *path* as a *kind* of this module. Raises *error* when it is missing or not that."""
    try:
        data = files.read_bytes(path, "invarlock")
    except InputMissing as missing:
        raise error(f"invarlock: {path.name} is missing; run the stage again") from missing
    return files.decode(data, kind, path.name, error)


def load_receipt(path: Path) -> Receipt:
    """Return the receipt at *path*, its signature checked against the key it names.

    Whose key that is, and what the verdict is, remains for the caller to judge. Raises VerificationFailed.
    """
    receipt = load(path, Receipt, VerificationFailed)
    statement: Any = files.parse_json(path.read_bytes(), path.name, VerificationFailed)["statement"]
    key = _public_key(receipt.signature.public_key.value)
    try:
        key.verify(base64.b64decode(receipt.signature.value, validate=True), digest.canonical_json(statement))
    except (InvalidSignature, binascii.Error) as problem:
        raise VerificationFailed(f"{path.name}: the signature is not over this statement; verify again") from problem
    if fingerprint(key) != receipt.statement.verifier.signing_key_fingerprint:
        raise VerificationFailed(f"{path.name}: signed by {fingerprint(key)}, but names another verifier key")
    return receipt


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return InvarLock's name of a key: `sha256:` over its 32 raw bytes."""
    return f"sha256:{digest.of_bytes(key.public_bytes_raw())}"


def _public_key(pem: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as problem:
        raise VerificationFailed(f"receipt: its public key cannot be read ({problem})") from problem
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationFailed("receipt: its key is not Ed25519")
    return key
