"""A revocation: a signed statement that a key, or one bundle, is no longer to be relied upon.

Rules: one envelope in one file; it is believed when the key it speaks of signed it, or a key to which the recipient gave the
role `revoke` (of a bundle: also a key that the recipient trusts for releases); a compromised key is void for every bundle,
since its holder can write any date; a superseded one for bundles judged on that day or later.

Source: docs/bundle-format.md, section 8.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from sealrun import digest, files
from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence import manifest, sign
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, Sha256Set, StatementType

SUFFIX = ".revocation.json"
_LIMIT = 64 * 1024  # bytes of one file

type Reason = Literal["compromised", "superseded", "withdrawn"]
type What = Literal["key", "bundle"]
type RevocationType = Literal["urn:sealrun:revocation:v1"]


class Revoked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, since which day (None: from the beginning), and which key takes its place (None: none is named)."""

    reason: Reason
    since: manifest.Day | None
    successor: digest.Sha256 | None
    note: str


class RevocationStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The in-toto Statement; its one subject is the key by its id, or the bundle by its digest."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: Annotated[tuple[Resource, ...], Meta(min_length=1, max_length=1)]
    predicate_type: RevocationType = field(name="predicateType", default="urn:sealrun:revocation:v1")
    predicate: Revoked


class Revocation(Struct, frozen=True, kw_only=True):
    """A revocation as it was read: where from, what it says, and its envelope."""

    where: str
    what: What
    sha256: digest.Sha256
    said: Revoked
    envelope: sign.Signed

    def applies(self, day: str) -> bool:
        """Return whether what it speaks of is void for a bundle judged on *day*."""
        return self.said.since is None or self.said.reason == "compromised" or day >= self.said.since

    def __str__(self) -> str:
        since = f" since {self.said.since}" if self.said.since else ""
        successor = f", in favour of sha256:{self.said.successor}" if self.said.successor else ""
        note = f" ({self.said.note})" if self.said.note else ""
        return f"{self.said.reason}{since}{successor}{note}, says {self.where}"


def statement(what: What, sha256: digest.Sha256, said: Revoked) -> bytes:
    """Return the payload that revokes the key or bundle *sha256*. Raises UsageError when the reason does not go with it."""
    if said.reason == "superseded" and (what == "bundle" or said.since is None):
        raise UsageError("revocation: superseded is said of a key since a day; give --since, or another reason")
    subject = Resource(name=what, digest=Sha256Set(sha256=sha256))
    return files.readable_json(RevocationStatement(subject=(subject,), predicate=said))


def load(place: Path) -> tuple[Revocation, ...]:
    """Return the revocation in the file *place*, or those in the folder *place*. Raises UsageError, InputMissing."""
    found = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
    return tuple(parse(files.read_bytes(path, "revocation", limit=_LIMIT), path.name) for path in found)


def parse(data: bytes, where: str) -> Revocation:
    """Return the revocation in *data*, whose signature is not looked at yet. Raises UsageError."""
    try:
        (envelope,) = sign.parse(data, where)
        said = manifest.decode(envelope.payload, RevocationStatement, where)
        what = said.subject[0].name
        if what not in ("key", "bundle"):
            raise VerificationFailed(f"{where}: revokes {what!r}, expected key or bundle")  # noqa: TRY301
    except (VerificationFailed, ValueError) as problem:
        raise UsageError(f"{where}: no revocation ({problem}); remove it, or get it again") from problem
    return Revocation(
        where=where,
        what="key" if what == "key" else "bundle",
        sha256=said.subject[0].digest.sha256,
        said=said.predicate,
        envelope=envelope,
    )
