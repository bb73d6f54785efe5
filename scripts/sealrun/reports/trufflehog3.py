"""What the secret scan was asked to read, and what trufflehog3 found in it.

Rules: a finding carries a fingerprint, never the secret nor its neighbours; every file listed is either scanned, under the
digest it was listed with, or skipped with a reason; allow entries are data of policy, not code.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sealrun import digest

LISTING = "listing.json"
SCAN = "scan.json"


class Listing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files to scan, with their digests, and those left out, name to reason."""

    format: Literal["sealrun/secrets-listing-v1"] = "sealrun/secrets-listing-v1"
    files: digest.Manifest
    skipped: dict[str, str]


class Allow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule may match without being a secret; `line` is a pattern in which SECRET stands for what was found, `before`
    one for the line before it."""

    id: Annotated[str, Meta(pattern="^[a-z0-9-]+$")]
    rules: tuple[str, ...]
    secret: str
    line: str
    before: str = ""
    reason: Annotated[str, Meta(min_length=1)]


class Allowed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/secrets/allow.toml`."""

    format: Literal["sealrun/secrets-allow-v1"]
    allow: tuple[Allow, ...]


class Scanned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that the scanner read to its end, and how: as text, decoded to text, or the strings of a binary file."""

    path: str
    sha256: digest.Sha256
    read_as: Literal["text", "utf-16", "latin-1", "strings"]


class SecretFinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One secret in one file: the rule, the first line of text it stands on, and its fingerprint under that rule."""

    rule: str
    message: str
    severity: Literal["low", "medium", "high"]
    path: str
    line: int | None
    fingerprint: Annotated[str, Meta(pattern="^scrypt:[0-9a-f]{32}$")]


class SecretScan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`scan.json`, written by `inside/scan_secrets.py`. `unreported` counts findings beyond the number it reports."""

    format: Literal["sealrun/secret-scan-v1"]
    rules: Annotated[int, Meta(ge=1)]
    rules_sha256: digest.Sha256
    scanned: tuple[Scanned, ...]
    findings: tuple[SecretFinding, ...]
    unreported: Annotated[int, Meta(ge=0)]
    allowlisted: dict[str, Annotated[int, Meta(ge=0)]]
