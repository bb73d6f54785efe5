"""Whom a recipient trusts, for what and when: keys with roles and days, how many must have signed, and what was revoked.

Rules: a folder holds `*.pub`, perhaps `trust.toml`, perhaps `*.revocation.json`; without `trust.toml` every key may sign
releases, at any time, and one suffices; with it every key of the folder stands in it, once. A key counts when it has a role
that signs releases, held on the day that the bundle was judged, and is not revoked. What cannot be read is wrong use, never
less trust.

Source: docs/bundle-format.md, section 8; policy/trust/README.md.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence import keys, plain, revocation, sign
from sealrun.evidence.keys import PublicKey

FILE = "trust.toml"

_FORMAT = "sealrun/trust-v1"
_LIMIT = 64 * 1024  # bytes of trust.toml
_FIELDS = {"file", "roles", "since", "until"}


class Role(StrEnum):
    """What a key may do: sign releases from anywhere, sign them on a hosted build alone, promote, revoke other keys."""

    RELEASE = "release"
    HOSTED = "hosted"
    PROMOTE = "promote"
    REVOKE = "revoke"


SIGNING = frozenset((Role.RELEASE, Role.HOSTED))


class TrustedKey(Struct, frozen=True, kw_only=True):
    """A key by its id, and itself where it is known; `since` and `until` are days, empty without a bound."""

    keyid: digest.Sha256
    key: PublicKey | None = None
    roles: frozenset[Role] = frozenset((Role.RELEASE,))
    since: str = ""
    until: str = ""

    def held(self, day: str) -> bool:
        """Return whether the key is trusted for what was judged on *day*."""
        return self.since <= day and (not self.until or day <= self.until)


class Trust(Struct, frozen=True, kw_only=True):
    """The keys, how many of them must have signed a release, and the revocations."""

    keys: tuple[TrustedKey, ...]
    threshold: int = 1
    revocations: tuple[revocation.Revocation, ...] = ()

    def having(self, role: Role) -> tuple[PublicKey, ...]:
        """Return the keys known here that have *role*."""
        return tuple(trusted.key for trusted in self.keys if trusted.key and role in trusted.roles)


def load(place: Path | None, fingerprint: str | None, revoked: Path | None) -> Trust:
    """Return whom the recipient named: keys at *place*, or the one key *fingerprint*; and what is *revoked* besides.

    Raises UsageError, InputMissing.
    """
    if fingerprint is not None and place is not None:
        raise UsageError("trust: got --trust and --fingerprint, expected one of them")
    more = revocation.load(revoked) if revoked else ()
    if fingerprint is not None:
        return Trust(keys=(TrustedKey(keyid=_keyid(fingerprint)),), revocations=more)
    if place is None:
        return Trust(keys=(), revocations=more)
    found = _load(place)
    return Trust(keys=found.keys, threshold=found.threshold, revocations=(*found.revocations, *more))


def judge(trust: Trust, signed: Mapping[digest.Sha256, PublicKey], bundle: digest.Sha256, day: str) -> tuple[TrustedKey, ...]:
    """Return the keys of *trust* that count for the *bundle*, judged on *day* and *signed* by these keys, all verified.

    Raises VerificationFailed when they are too few or the bundle is revoked, UsageError for a revocation by nobody.
    """
    reasons, counted = [], []
    for trusted in trust.keys:
        if trusted.keyid not in signed or not trusted.roles & SIGNING:
            continue
        problem = _problem(trusted, trust, signed, day)
        reasons += [f"sha256:{trusted.keyid} {problem}"] if problem else []
        counted += [] if problem else [trusted]
    if len(counted) < trust.threshold:
        missing = f"got {len(counted)} signatures that count, expected {trust.threshold}"
        raise VerificationFailed(f"signature: {missing}; {'; '.join(reasons) or 'the others are not trusted for releases'}")
    for found in trust.revocations:
        if (found.what, found.sha256) == ("bundle", bundle):
            _believed(found, [*trust.having(Role.REVOKE), *trust.having(Role.RELEASE), *(signed[key.keyid] for key in counted)])
            raise VerificationFailed(f"bundle: revoked: {found}")
    return tuple(counted)


def may_promote(trust: Trust, line: sign.Signed, day: str) -> bool:
    """Return whether a key that may promote signed *line* on *day*: one with the role; where none has it, a release key."""
    role = Role.PROMOTE if trust.having(Role.PROMOTE) else Role.RELEASE
    return any(
        line.signed_by(trusted.key) and not _problem(trusted, trust, {trusted.keyid: trusted.key}, day)
        for trusted in trust.keys
        if trusted.key and role in trusted.roles
    )


def _problem(trusted: TrustedKey, trust: Trust, signed: Mapping[digest.Sha256, PublicKey], day: str) -> str:
    """Return why a key does not count; empty when it does."""
    if not trusted.held(day):
        return f"is trusted from {trusted.since or 'the beginning'} to {trusted.until or 'the end'}, the bundle is of {day}"
    for found in trust.revocations:
        if (found.what, found.sha256) == ("key", trusted.keyid):
            _believed(found, [*trust.having(Role.REVOKE), signed[trusted.keyid]])
            if found.applies(day):
                return f"is revoked: {found}"
    return ""


def _believed(found: revocation.Revocation, by: list[PublicKey]) -> None:
    if not any(found.envelope.signed_by(key) for key in by):
        raise UsageError(
            f"{found.where}: revokes what this bundle relies on, but is signed neither by it nor by a key with the role "
            "revoke; find out who put it there"
        )


def _load(place: Path) -> Trust:
    if not place.is_dir():
        return Trust(keys=(_trusted(place),))
    files_found = {path.name: path for path in sorted(place.glob("*.pub"))}
    revoked = revocation.load(place)
    if not (place / FILE).exists():
        known = {trusted.keyid: trusted for trusted in map(_trusted, files_found.values())}
        return Trust(keys=tuple(known.values()), revocations=revoked)
    data = files.read_bytes(place / FILE, "trust", limit=_LIMIT)
    head, tables = plain.parse(data, str(place / FILE), _FORMAT, "key", UsageError)
    named = [str(table.get("file", "")) for table in tables]
    if sorted(named) != list(files_found):
        raise UsageError(f"{place / FILE}: names {sorted(named)}, expected each key of the folder once: {list(files_found)}")
    found = tuple(_described(files_found[name], table, place) for name, table in zip(named, tables, strict=True))
    if len({trusted.keyid for trusted in found}) != len(found):
        raise UsageError(f"{place / FILE}: one key stands in two files; keep one of them, or a threshold would count it twice")
    return Trust(keys=found, threshold=_threshold(head, found, place), revocations=revoked)


def _trusted(path: Path) -> TrustedKey:
    key = keys.parse_public(files.read_bytes(path, "trust", limit=_LIMIT), str(path))
    return TrustedKey(keyid=key.keyid, key=key)


def _described(path: Path, table: plain.Table, place: Path) -> TrustedKey:
    texts = {name: value for name, value in table.items() if isinstance(value, str)}
    roles = texts.get("roles", "").split(" ")
    if set(table) - _FIELDS or texts.keys() != table.keys() or not set(roles) <= set(Role):
        expected = f"{', '.join(sorted(_FIELDS))}, with roles among {', '.join(Role)}"
        raise UsageError(f"{place / FILE}: {path.name}: got {table}, expected {expected}")
    for day in (texts.get("since", ""), texts.get("until", "")):
        _check_day(day, f"{place / FILE}: {path.name}")
    found = _trusted(path)
    return TrustedKey(
        keyid=found.keyid, key=found.key, roles=frozenset(map(Role, roles)),
        since=texts.get("since", ""), until=texts.get("until", ""),
    )  # fmt: skip


def _threshold(head: plain.Table, found: tuple[TrustedKey, ...], place: Path) -> int:
    text = head.get("threshold", "1")
    distinct = {trusted.keyid for trusted in found if trusted.roles & SIGNING}
    if set(head) - {"threshold"} or not isinstance(text, str) or text not in map(str, range(1, len(distinct) + 1)):
        raise UsageError(f"{place / FILE}: got {head}, expected threshold between 1 and {len(distinct)}, the keys that sign")
    return int(text)


def _check_day(text: str, where: str) -> None:
    if text and (len(text) != 10 or not text.isascii()):
        raise UsageError(f"{where}: got {text!r}, expected a day such as 2026-01-31")
    try:
        date.fromisoformat(text or "2026-01-31")
    except ValueError as problem:
        raise UsageError(f"{where}: got {text!r}, expected a day such as 2026-01-31") from problem


def _keyid(text: str) -> digest.Sha256:
    name, _, value = text.partition(":")
    if name != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise UsageError(f"--fingerprint: got {text!r}, expected sha256: and 64 lower-case hex digits")
    return value
