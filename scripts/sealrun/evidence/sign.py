"""Signing: DSSE envelopes, one JSON object per line, the release statement first, then the statements it names.

Rules: the payload type is in-toto's and nothing else; a signature is known by the sha256 of its key's SubjectPublicKeyInfo,
no key signs a line twice, and signatures stand in the order of these ids; a line has one form (sorted, compact, standard
base64), so that no byte of it can be another; the release statement names the bundle, the report and every file of the
candidate by digest.

Source: DSSE v1.0; in-toto Statement v1; SLSA Verification Summary v1; docs/bundle-format.md.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import keys, manifest, signers
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, Sha256Set, StatementType

if TYPE_CHECKING:  # loaded by whoever signs; it costs 65 ms
    from securesystemslib.signer import Signer

SUFFIX = ".intoto.jsonl"
REPORT = "report.html"
MAX_ENVELOPES = 64 * 1024**2  # bytes of the whole file
MAX_REPORT = 32 * 1024**2  # bytes of report.html
MAX_SIGNATURES = 16  # on one line

type PayloadType = Literal["application/vnd.in-toto+json"]
type SummaryType = Literal["https://slsa.dev/verification_summary/v1"]
type Level = Literal["SEALRUN_PRODUCTION", "SEALRUN_RESEARCH", "FAILED"]
_PAYLOAD_TYPE: PayloadType = "application/vnd.in-toto+json"


class _Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: digest.Sha256
    sig: str


class _Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: PayloadType
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]


class Signed(Struct, frozen=True, kw_only=True):
    """An envelope: what was signed, and the signatures by key id."""

    payload: bytes
    signatures: Mapping[digest.Sha256, bytes]

    def signed_by(self, key: keys.PublicKey) -> bool:
        """Return whether *key* signed the payload."""
        head = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(self.payload)} ".encode("ascii")
        return key.keyid in self.signatures and key.signed(head + self.payload, self.signatures[key.keyid])


class Verifier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who judged: Sealrun, and its version."""

    id: Literal["urn:sealrun:verifier:v1"] = "urn:sealrun:verifier:v1"
    version: dict[Literal["sealrun"], str]


class Reference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resource descriptor by URI; here a member of the bundle by its path, or the policy by its name."""

    uri: str
    digest: Sha256Set


class Summary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """SLSA's verification summary: what was verified against which policy, with which statements, and how it ended."""

    verifier: Verifier
    time_verified: str
    resource_uri: str
    policy: Reference
    input_attestations: tuple[Reference, ...]
    verification_result: Literal["PASSED", "FAILED"]
    verified_levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=1)]


class ReleaseStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: an in-toto Statement over the bundle, the report and the candidate's files."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: tuple[Resource, ...]
    predicate_type: SummaryType = field(name="predicateType", default="https://slsa.dev/verification_summary/v1")
    predicate: Summary


def subjects(made: Mapping[str, digest.Sha256], candidate: digest.Manifest) -> tuple[Resource, ...]:
    """Return what a release is about: what was *made*, in its order, and the candidate's files."""
    named = [*made.items(), *((f"candidate/{entry.path}", entry.sha256) for entry in candidate)]
    return tuple(Resource(name=name, digest=Sha256Set(sha256=sha256)) for name, sha256 in named)


def release_statement(
    *, subjects: tuple[Resource, ...], title: str, policy: digest.Sha256, judged_at: str,
    posture: Literal["production", "research"], passed: bool, sealrun: str, attestations: Iterable[tuple[str, digest.Sha256]],
) -> ReleaseStatement:  # fmt: skip
    """Return the statement that a release makes; `attestations` are names and digests in the order of the lines."""
    level: Level = "FAILED" if not passed else "SEALRUN_PRODUCTION" if posture == "production" else "SEALRUN_RESEARCH"
    return ReleaseStatement(
        subject=subjects,
        predicate=Summary(
            verifier=Verifier(version={"sealrun": sealrun}),
            time_verified=f"{judged_at}T00:00:00Z",
            resource_uri=f"urn:sealrun:release:{title}",
            policy=Reference(uri="urn:sealrun:policy", digest=Sha256Set(sha256=policy)),
            input_attestations=tuple(Reference(uri=name, digest=Sha256Set(sha256=sha256)) for name, sha256 in attestations),
            verification_result="PASSED" if passed else "FAILED",
            verified_levels=(level,),
        ),
    )


def sign(payloads: Sequence[bytes], *signers: "Signer") -> bytes:
    """Return the envelopes of *payloads*, a line each, signed by every one of *signers*. Raises ToolFailed."""
    return b"".join(_line(payload, {_keyid(by): _signature(payload, by) for by in signers}) for payload in payloads)


def sign_also(envelopes: Sequence["Signed"], by: "Signer") -> bytes:
    """Return *envelopes* with one signature more on each line; one by the same key is replaced. Raises ToolFailed."""
    return b"".join(_line(made.payload, {**made.signatures, _keyid(by): _signature(made.payload, by)}) for made in envelopes)


def _keyid(by: "Signer") -> digest.Sha256:
    keyid: str = by.public_key.keyid
    return keyid


def _signature(payload: bytes, by: "Signer") -> bytes:
    from securesystemslib.dsse import Envelope

    return signers.signature_of(by, Envelope(payload, _PAYLOAD_TYPE, {}).pae())


def _line(payload: bytes, signatures: Mapping[digest.Sha256, bytes]) -> bytes:
    """Return the one form of an envelope."""
    made = [{"keyid": keyid, "sig": base64.b64encode(raw).decode("ascii")} for keyid, raw in sorted(signatures.items())]
    return digest.canonical_json(
        {"payload": base64.b64encode(payload).decode("ascii"), "payloadType": _PAYLOAD_TYPE, "signatures": made}
    )


def parse(data: bytes, where: str) -> tuple[Signed, ...]:
    """Return the envelopes in *data*. Raises VerificationFailed naming *where* and the line."""
    if not data.endswith(b"\n"):
        raise VerificationFailed(f"{where}: does not end with a whole line; it was cut short")
    return tuple(_parse_line(line + b"\n", f"{where}, line {number}") for number, line in enumerate(data[:-1].split(b"\n"), 1))


def _parse_line(data: bytes, where: str) -> Signed:
    line = files.decode(manifest.bounded(data, where), _Line, where, VerificationFailed)
    try:
        payload = base64.b64decode(line.payload, validate=True)
        signatures = {made.keyid: base64.b64decode(made.sig, validate=True) for made in line.signatures}
    except ValueError as problem:
        raise VerificationFailed(f"{where}: no base64 ({problem}); the envelope was changed") from problem
    if _line(payload, signatures) != data:
        raise VerificationFailed(f"{where}: not in the one form of an envelope; it was changed")
    return Signed(payload=payload, signatures=signatures)
