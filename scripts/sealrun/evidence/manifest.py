"""What a bundle says about itself: the list of its members, and the plan that its statements were judged under.

Rules: the list names every other member with size and sha256, sorted; the plan's digest can be computed again from the
release file, the policy files and the day alone; every document of ours has one form (sorted keys, two blanks of indent, UTF-8,
final newline), and another form of the same value is refused.

Source: docs/bundle-format.md.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sealrun import digest, files
from sealrun.errors import VerificationFailed

PLAN = "plan.json"
RELEASE = "release.toml"
CHECKLIST = "policy/checklist.toml"
PUBLIC_KEY = "evidence/bundle/release.pub"
CERTIFICATE = "certificate/manifest.json"  # of the stage certify, as is the next
BASELINE_REPORT = "baseline-report.json"

type _Files = digest.Manifest
type _Sha256 = digest.Sha256
type Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.json`: every other member. Since version 2 the release statement names its digest, so that a member can be
    withheld and yet be proven."""

    format: Literal["sealrun/bundle-v1", "sealrun/bundle-v2"]
    title: str
    members: digest.Manifest


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long this evidence is to be kept: the policy's class, its days and reason, and the last day."""

    name: str
    days: int
    reason: str
    until: Day


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The commit that the release was made at, None where there is none, and whether the tree was exactly that commit."""

    commit: Annotated[str, Meta(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})\Z")] | None
    clean: bool


class PlanDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`plan.json`. `content` is the digest of release file and policy, `digest` that with the day of judgement."""

    format: Literal["sealrun/plan-v1"]
    name: str
    version: str
    posture: Literal["production", "research"]
    promotable: bool
    judged_at: Day
    release: _Sha256
    policy: _Sha256
    content: _Sha256
    digest: _Sha256
    retention: Retention
    source: Source

    @property
    def title(self) -> str:
        """NAME-VERSION."""
        return f"{self.name}-{self.version}"

    def check(self, release: _Sha256, policy: _Files) -> None:
        """Raise VerificationFailed unless this is the plan of the *release* file and the *policy* files."""
        _check_day(self.judged_at)
        content = digest.of_json([release, digest.of_manifest(policy)])
        for field, got, expected in (
            ("release", self.release, release),
            ("policy", self.policy, digest.of_manifest(policy)),
            ("content", self.content, content),
            ("digest", self.digest, digest.of_json([content, self.judged_at])),
        ):
            _same(f"{PLAN}: {field}", got, expected)


class Artifacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`evidence/model/digests.json`."""

    baseline: digest.Manifest
    candidate: digest.Manifest
    data: digest.Manifest


NO_ARTIFACTS = Artifacts(baseline=(), candidate=(), data=())
DIGESTS = "evidence/model/digests.json"
_MAX_VALUES = 1_000_000


def describe(title: str, members: Mapping[str, bytes]) -> bytes:
    """Return `manifest.json` for *members*."""
    entries = (digest.FileDigest(path=name, sha256=digest.of_bytes(data), size=len(data)) for name, data in members.items())
    return files.readable_json(Manifest(format="sealrun/bundle-v2", title=title, members=tuple(sorted(entries))))


def decode[T](data: bytes, kind: type[T], where: str) -> T:
    """Return the document *data* of ours as a *kind*. Raises VerificationFailed, also for another form of the same value."""
    bounded(data, where)
    value = files.decode(data, kind, where, VerificationFailed)
    try:
        same = files.readable_json(value) == data
    except ValueError:  # text that has no UTF-8 form
        same = False
    if not same:
        raise VerificationFailed(f"{where}: not in the one form of a bundle's documents; it was not written by Sealrun")
    return value


def bounded(data: bytes, where: str) -> bytes:
    """Return *data* when it holds at most a million values, so that its size bounds what decoding takes."""
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        raise VerificationFailed(f"{where}: more than {_MAX_VALUES} values")
    return data


def _same(where: str, got: str, expected: str) -> None:
    if got != expected:
        raise VerificationFailed(f"{where}: got {got}, expected {expected}; the plan is of another release or policy")


def _check_day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError as problem:
        raise VerificationFailed(f"{PLAN}: judged_at: got {text}, expected a day of the calendar") from problem
