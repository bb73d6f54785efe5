"""OpenSSF Model Signing (OMS v1): the manifest of a model as an in-toto statement, and signatures over it.

Rules: one file is one resource, by its sha256; what the stock tool passes over (git's files at the top) is not listed and is
named as ignored, and so is documentation that no pin names; a signature made elsewhere is only as good as the key that policy
names for it, and holds for exactly the files that it lists. OMS knows no Ed25519: a release key of that kind is stood in for by
a P-256 key beside it.

Source: the OMS specification v1.0 (predicate, resources, root digest, sigstore bundle); DSSE v1.0; RFC 5480.
"""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct, field

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import keys, signers

SUFFIX = ".model.sig"
SIGNATURE = "model.sig"  # the name under which the stock tool leaves a signature in a model's folder
MAX_SIGNATURE = 16 * 1024**2  # bytes
KEY = "models"

_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
_HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}  # by the bits of the curve


class _Resource(Struct, frozen=True, kw_only=True):
    name: str
    algorithm: str
    digest: str


class _Serialization(Struct, frozen=True, kw_only=True):
    method: str
    hash_type: str


class _Predicate(Struct, frozen=True, kw_only=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Subject(Struct, frozen=True, kw_only=True):
    digest: dict[str, str]


class _Statement(Struct, frozen=True, kw_only=True):
    type_: str = field(name="_type")
    predicate_type: str = field(name="predicateType")
    subject: tuple[_Subject, ...]
    predicate: _Predicate


class _Signature(Struct, frozen=True, kw_only=True):
    sig: str


class _Envelope(Struct, frozen=True, kw_only=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


class _Bundle(Struct, frozen=True, kw_only=True, rename="camel"):
    media_type: str
    dsse_envelope: _Envelope


def statement(name: str, manifest: digest.Manifest, ignored: Iterable[str] = ()) -> bytes:
    """Return the OMS statement over the files of *manifest*; *ignored* names what may lie beside them unsigned."""
    signed = sorted(entry for entry in manifest if entry.path.partition("/")[0] not in _GIT)
    root = hashlib.sha256(b"".join(bytes.fromhex(entry.sha256) for entry in signed)).hexdigest()
    value: dict[str, Any] = {
        "_type": _TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {
            # links are followed: a hub's cache is made of them, and it is bytes that are signed
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": True, "ignore_paths": sorted({*_GIT, *ignored}),
            },
            "resources": [{"name": e.path, "algorithm": "sha256", "digest": e.sha256} for e in signed],
        },
    }  # fmt: skip
    return files.readable_json(value)


def public_key() -> keys.PublicKey:
    """Return the public half of the key that signs models, which is made now if there is none. Raises UsageError."""
    stood_for = keys.stands_for(KEY)
    if stood_for.is_file():
        return keys.parse_public(stood_for.read_bytes(), stood_for.name)
    release = signers.release_public()
    return release if release.kind == "p256" else keys.public_key(keys.private(KEY, p256=True))


def sign(payload: bytes) -> bytes:
    """Return the signature file over the statement *payload*. Raises UsageError, ToolFailed."""
    public = public_key()
    signer = signers.release() if public == signers.release_public() else signers.of_file(keys.private(KEY, p256=True))
    value = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": digest.of_bytes(public.pem)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [
                {"sig": base64.b64encode(signers.signature_of(signer, _encoded(payload))).decode("ascii"), "keyid": ""}
            ],
        },
    }
    return files.readable_json(value)


def is_over(data: bytes, payload: bytes, public: keys.PublicKey) -> bool:
    """Return whether the signature file *data* is one by *public* over *payload*."""
    try:
        return _opened(data, public.pem, "signature") == payload
    except VerificationFailed:
        return False


def verify(data: bytes, pem: bytes, where: str) -> dict[str, digest.Sha256]:
    """Return the files that the signature file *data* is about, name to sha256, once the key in *pem* verified it.

    Raises VerificationFailed naming *where*.
    """
    said = files.decode(_opened(data, pem, where), _Statement, where, VerificationFailed)
    made = said.predicate.serialization
    if (said.type_, said.predicate_type) != (_TYPE, _PREDICATE):
        raise VerificationFailed(f"{where}: signs {said.predicate_type!r}, expected {_PREDICATE!r}")
    resources = said.predicate.resources
    if (made.method, made.hash_type) != ("files", "sha256") or any(r.algorithm != "sha256" for r in resources):
        raise VerificationFailed(
            f"{where}: lists {made.method} by {made.hash_type}, expected files by sha256; ask for such one"
        )
    signed = {resource.name: resource.digest for resource in resources}
    root = hashlib.sha256(b"".join(_raw(resource.digest, where) for resource in resources)).hexdigest()
    if len(signed) != len(resources) or [subject.digest.get("sha256") for subject in said.subject] != [root]:
        raise VerificationFailed(f"{where}: its digest over all files is not that of the files it lists")
    return signed


def _opened(data: bytes, pem: bytes, where: str) -> bytes:
    """Return what was signed. Raises VerificationFailed unless the key in *pem* did."""
    envelope = files.decode(data, _Bundle, where, VerificationFailed).dsse_envelope
    try:
        payload, *signatures = (base64.b64decode(text) for text in (envelope.payload, *(s.sig for s in envelope.signatures)))
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size not in _HASHES:
            raise VerificationFailed(f"{where}: the key that policy names is none of P-256, P-384 or P-521, as OMS has them")
        (signature,) = signatures
        key.verify(signature, _encoded(payload), ec.ECDSA(_HASHES[key.key_size]))
    except InvalidSignature as problem:
        raise VerificationFailed(f"{where}: is not by the key that policy names, or was changed") from problem
    except ValueError as problem:
        raise VerificationFailed(f"{where}: cannot be read ({problem}); expected one DSSE signature and a PEM key") from problem
    if envelope.payload_type != _PAYLOAD_TYPE:
        raise VerificationFailed(f"{where}: signs {envelope.payload_type!r}, expected {_PAYLOAD_TYPE!r}")
    return payload


def _encoded(payload: bytes) -> bytes:
    """Return what DSSE signs of *payload*."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)


def _raw(sha256: str, where: str) -> bytes:
    try:
        return bytes.fromhex(sha256)
    except ValueError as problem:
        raise VerificationFailed(f"{where}: holds a digest that is none") from problem


def write(path: Path, payload: bytes) -> None:
    """Sign *payload* into *path*, unless this key's signature over it lies there already."""
    if not path.is_file() or not is_over(files.read_bytes(path, path.name, limit=MAX_SIGNATURE), payload, public_key()):
        files.write_bytes(path, sign(payload))
