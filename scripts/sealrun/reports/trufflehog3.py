"""What the secret scan was asked to read, and what it found there.

Rules: a finding carries a fingerprint, never the secret nor its neighbours; every file listed is either scanned, under the
digest it was listed with, or skipped with a reason; allow entries are data of policy, not code.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sealrun import digest, files
from sealrun.errors import UsageError
from sealrun.evidence.shards import Shard

_Layer = Literal["archive", "base64", "hex", "octal", "url"]
LISTING = "listing.json"
SCAN = "scan.json"
FOUND = "found.json"  # what a shard leaves


class Past(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The history to scan: what the tips reach, less what `since` reaches; a shallow one ends before its beginning."""

    tips: tuple[str, ...]
    since: str = ""
    shallow: bool = False


class Listing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files to scan, with their digests, and those left out, name to reason."""

    format: Literal["sealrun/secrets-listing-v2"] = "sealrun/secrets-listing-v2"
    files: digest.Manifest
    skipped: dict[str, str]
    history: Past | None = None


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
    """A file that was read to its end, how, in how many texts (an archive has one for each member), how many texts of it were
    decoded, by what they were under, and the members that were not read."""

    path: str
    sha256: digest.Sha256
    read_as: Literal["text", "utf-16", "latin-1", "strings", "archive"]
    members: int
    decoded: dict[_Layer, int]
    skipped: dict[str, str]

    @property
    def plain(self) -> int:
        """How many of its texts stand in the file itself: one, or none when it is an archive."""
        return self.members - self.decoded.get("archive", 0)


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the history was scanned: unique blobs, commits and tags, what of them was decoded, and members of archives that
    were not read."""

    blobs: int
    commits: int
    tags: int
    scanned: int
    decoded: dict[_Layer, int]
    skipped: dict[str, str]


class SecretFinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One secret in one file: the rule, its first line, the commit that brought it in, the encodings around it, and its
    fingerprint under that rule."""

    rule: str
    message: str
    severity: Literal["low", "medium", "high"]
    path: str
    line: int | None
    commit: str | None
    layers: tuple[_Layer, ...]
    where: Literal["tree", "history", "message"]
    fingerprint: Annotated[str, Meta(pattern="^scrypt:[0-9a-f]{32}$")]


class Pragma(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line whose comment takes a finding."""

    path: str
    line: int | None
    where: Literal["tree", "history"]


class SecretScan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`scan.json`, written by `inside/scan_secrets.py`. `aside` counts by reason what looked like a secret and is none,
    `unreported` the secrets beyond the number it reports, `pragmas` says where an inline comment takes one."""

    format: Literal["sealrun/secret-scan-v3"]
    rules: Annotated[int, Meta(ge=1)]
    rules_sha256: digest.Sha256
    scanned: tuple[Scanned, ...]
    history: History | None
    findings: tuple[SecretFinding, ...]
    unreported: Annotated[int, Meta(ge=0)]
    aside: dict[str, Annotated[int, Meta(ge=0)]]
    allowlisted: dict[str, Annotated[int, Meta(ge=0)]]
    pragmas: tuple[Pragma, ...]


def job(
    manifest: digest.Manifest, places: Mapping[str, Path], policy: Path, *, history: Mapping[str, object] | None = None,
    cache: Path | None = None, filters: Path | None = None, pragmas: bool = False, shard: Shard | None = None,
    parts: Sequence[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return what `inside/scan_secrets.py` is to scan: the files of *manifest*, which lie at *places*, under the rules of the
    folder *policy*; *parts* are the folders that shards left. Raises UsageError for an allow list that cannot be read."""
    listed = [{"path": e.path, "file": os.fspath(places[e.path]), "sha256": e.sha256} for e in manifest]
    kept = {name: os.fspath(path) for name, path in (("cache", cache), ("filters", filters)) if path}
    return {
        "files": listed, "allow": read_allowed(policy / "allow.toml").allow, "policy": os.fspath(policy), "pragmas": pragmas,
        **({"history": history} if history else {}), **kept, "parts": [os.fspath(part / FOUND) for part in parts],
        **({"shard": [shard.number, shard.of]} if shard else {}),
    }  # fmt: skip


def read_allowed(where: Path) -> Allowed:
    """Return policy's allow list. Raises UsageError for a pattern that does not compile."""
    allowed = files.load_toml(where, Allowed)
    for entry in allowed.allow:
        for pattern in (entry.secret, entry.line, entry.before):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(f"{where}: {entry.id}: got {pattern!r} ({error}), expected a regular expression") from error
    return allowed
