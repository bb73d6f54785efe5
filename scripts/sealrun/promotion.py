"""Promote a bundle: everything is looked at again on the real day, then one signed line goes into the ledger.

Rules: only a whole bundle that verifies by the trusted keys and passed under the production posture is promoted; ages, waivers
and retention are judged by the real clock, under the policy of the checkout that promotes and the waivers of the bundle; what
was superseded does not come back; the same bundle for the same stage changes nothing. Judging and writing happen under one
lock, so two at once cannot both be next.
"""

import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from sealrun import __version__, digest, files
from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence import attest, bundle, ledger
from sealrun.evidence.trust import Trust
from sealrun.evidence.trust import load as load_trust
from sealrun.evidence.verify import Verification
from sealrun.outcome import Outcome, Verdict, check
from sealrun.policy import waivers
from sealrun.policy.model import Name, Waiver, Waivers

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

POLICY = Path("policy", "promotion.toml")
LEDGER = Path("ledger", "promotions.intoto.jsonl")

_AGAIN = "Release it again: `invoke release` judges everything anew."


class Rules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old, in days, evidence and its advisory snapshot may be when a bundle is promoted to a stage."""

    max_evidence_days: Annotated[int, Meta(ge=0)]
    max_snapshot_days: Annotated[int, Meta(ge=0)]


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/promotion.toml`."""

    format: Literal["sealrun/promotion-v1"]
    stage: dict[Name, Rules]


class Evidence(Struct, frozen=True, kw_only=True):
    """What a verified bundle says that ages: the day of its advisory snapshot, and the waivers it relies on."""

    snapshot: date | None
    waivers: tuple[Waiver, ...]


class _Taken(Struct, frozen=True, kw_only=True):
    """The part of the advisory snapshot that ages."""

    as_of: date


class Promoted(Struct, frozen=True, kw_only=True):
    """How a promotion ended: the outcomes, the line that stands for it (None when a check said no), and whether it is new."""

    outcomes: tuple[Outcome, ...]
    line: ledger.Line | None
    added: bool


def ledger_at(root: Path, named: Path | None) -> Path:
    """Return the ledger *named*, else the checkout's."""
    return named or root.resolve() / LEDGER


def trusted_at(root: Path, named: Path | None) -> tuple[Path, Trust]:
    """Return where the keys are that bundles and ledger must be signed by, those *named*, else the checkout's, and whom that
    is. Raises UsageError when it is nobody."""
    place = named or root.resolve() / "policy" / "trust"
    found = load_trust(place, None, None)
    if not found.keys:
        raise UsageError(f"trust: no key in {place}; copy release.pub of the releaser's key folder there, or name --trust")
    return place, found


def load_policy(root: Path, stage: str) -> tuple[Rules, digest.Sha256]:
    """Return the rules of *stage* and the digest of the file they stand in. Raises UsageError for an unknown stage."""
    path = root / POLICY
    policy = files.load_toml(path, Policy)
    if stage not in policy.stage:
        raise UsageError(f"--to: got {stage!r}, expected a stage of {POLICY}: {', '.join(sorted(policy.stage))}")
    return policy.stage[stage], digest.of_file(path)


def read_evidence(path: Path, found: Verification) -> Evidence:
    """Return what ages in the bundle at *path*, which was verified as *found*. Raises VerificationFailed."""
    with bundle.opened(path) as archive:
        if archive.sha256 != found.sha256:
            raise VerificationFailed(f"{path.name}: changed after it was verified; copy it to a place of your own")

        def member(name: str) -> bytes:
            return archive.read(name) if name in archive.members and name not in found.withheld else b""

        seen = member(attest.SNAPSHOT)
        taken = files.decode(seen, _Taken, attest.SNAPSHOT, VerificationFailed).as_of if seen else None
        granted = _toml(member(f"policy/{waivers.FILE}"), Waivers, f"policy/{waivers.FILE}")
        recorded = _toml(member(f"policy/{waivers.BASELINE}"), waivers.Baseline, f"policy/{waivers.BASELINE}")
    return Evidence(
        snapshot=taken,
        waivers=(*(granted.waiver if granted else ()), *(recorded.waivers() if recorded else ())),
    )


def judge(
    found: Verification, evidence: Evidence, rules: Rules, stage: str, lines: Sequence[ledger.Line], today: date
) -> tuple[Outcome, ...]:
    """Return whether the verified bundle may be promoted to *stage* after *lines*, check by check."""
    plan, day = found.plan, date.fromisoformat(found.plan.judged_at)
    lapsed = [f"{waiver.rule} on {waiver.target}, {waiver.expires}" for waiver in evidence.waivers if waiver.expires < today]
    age = (today - day).days
    old = (today - evidence.snapshot).days if evidence.snapshot else None
    return (
        check(
            "promote.posture", plan.promotable and found.verdict is Verdict.PASSED,
            seen=f"{plan.posture}, {found.verdict.value}", expected="production, passed",
            remedy='Set posture = "production" in release.toml, mend what the release warns of, and release it again.',
        ),
        check(
            "promote.whole", not found.withheld,
            seen=f"{len(found.withheld)} members are withheld", expected="the whole bundle, not a customer edition",
            remedy="Promote the bundle that the customer edition was made of.",
        ),
        check(
            "promote.evidence", 0 <= age <= rules.max_evidence_days,
            seen=f"judged on {day}, {age} days before {today}", expected=f"at most {rules.max_evidence_days} days, none ahead",
            remedy=_AGAIN,
        ),
        check(
            "promote.advisories", old is not None and 0 <= old <= rules.max_snapshot_days,
            seen="no advisory snapshot" if old is None else f"advisories as of {evidence.snapshot}, {old} days before {today}",
            expected=f"at most {rules.max_snapshot_days} days",
            remedy="Import newer advisories with `nox -s advisories -- --from FILE`, then release it again.",
        ),
        check(
            "promote.waivers", not lapsed,
            seen=f"lapsed: {'; '.join(lapsed)}" if lapsed else f"{len(evidence.waivers)} waivers hold",
            expected=f"every waiver of the bundle still holds on {today}",
            remedy="Mend what was waived, or have the waiver granted again; then release it again.",
        ),
        check(
            "promote.retention", date.fromisoformat(plan.retention.until) >= today,
            seen=f"kept until {plan.retention.until}", expected=f"evidence that is to be kept on {today}", remedy=_AGAIN,
        ),
        _superseded(found, stage, lines),
    )  # fmt: skip


def promote(
    found: Verification, evidence: Evidence, *, root: Path, stage: str, path: Path, trusted: Trust,
    now: datetime, by: "Signer",
) -> Promoted:  # fmt: skip
    """Judge the verified bundle and add its line to the ledger at *path*, or find that it stands there already.

    Raises UsageError (unknown stage), VerificationFailed (the ledger does not hold) or OSError; nothing is added then.
    """
    rules, policy = load_policy(root, stage)
    path.parent.mkdir(exist_ok=True)
    with ledger.writing(path, trusted) as (lines, add):
        last = ledger.current(lines).get((stage, found.plan.name))
        if last and last.promotion.bundle == found.sha256:
            return Promoted(outcomes=(), line=last, added=False)
        outcomes = judge(found, evidence, rules, stage, lines, now.date())
        if any(outcome.remedy for outcome in outcomes):
            return Promoted(outcomes=outcomes, line=None, added=False)
        time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        made = ledger.line(found, stage=stage, lines=lines, time=time, policy=policy, sealrun=__version__, by=by)
        whole = ledger.parse(b"".join([*(line.data for line in lines), made]), path.name, trusted)  # by a key that may
        add(made)
    return Promoted(outcomes=outcomes, line=whole[-1], added=True)


def _superseded(found: Verification, stage: str, lines: Sequence[ledger.Line]) -> Outcome:
    newer = next(_newer(found, stage, lines), "")
    return check(
        "promote.superseded", not newer,
        seen=newer or f"nothing newer of {found.plan.name} in {stage}",
        expected="the newest release of its name, and one bundle for each version",
        remedy="Release it under a new version; a ledger does not go back.",
    )  # fmt: skip


def _newer(found: Verification, stage: str, lines: Sequence[ledger.Line]) -> Iterator[str]:
    """Yield what the ledger holds that this bundle may not follow."""
    plan = found.plan
    own = [line.promotion for line in lines if line.promotion.name == plan.name]
    here = [known for known in own if known.stage == stage]
    for known in own:
        if known.version == plan.version and known.bundle != found.sha256:
            yield f"another bundle of {plan.title}, sha256:{known.bundle}, was promoted to {known.stage}"
    if here and here[-1].bundle != found.sha256:
        if any(known.bundle == found.sha256 for known in here):
            yield f"it was superseded in {stage} by {here[-1].title}"
        if here[-1].judged_at > plan.judged_at:
            yield f"{here[-1].title} in {stage} was judged later, on {here[-1].judged_at}"


def _toml[T](data: bytes, kind: type[T], where: str) -> T | None:
    if not data:
        return None
    try:
        return files.convert(tomllib.loads(data.decode("utf-8")), kind, where, VerificationFailed)
    except (ValueError, RecursionError) as problem:
        raise VerificationFailed(f"{where}: not acceptable TOML ({problem}); it was not written for this version") from problem
