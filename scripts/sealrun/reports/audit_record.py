"""The record of an audit: what was pinned, what of it is known to be vulnerable, what excuses that; all formats come from it.

Rules: one vulnerability is one entry for each pin, its twins (records that share a name) merged once; its level is the worst
that any of its records says; the threshold is that of the pin's environment, and nothing is held against an environment that
the release installs and runs nothing of; what excuses an entry stands in it, and so does why it, or somebody's VEX about it,
does not count."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Literal

from msgspec import Struct, structs
from packaging.version import Version

from sealrun import digest
from sealrun.outcome import Finding, OutcomeKind, Severity
from sealrun.policy import judge as policy
from sealrun.policy import vex
from sealrun.policy.model import Plan, Waiver
from sealrun.reports import osv, severity
from sealrun.reports.coverage import Audited
from sealrun.reports.lockfiles import Lock
from sealrun.reports.osv import Advisory
from sealrun.reports.pins import Pin

FILE = "audit.json"
UNUSED = "the release uses nothing of this environment"
_PREFERRED = ("PYSEC-", "GHSA-", "CVE-", "MAL-")


class Entry(Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """One vulnerability of one pin. `outcome` is `passed` below the threshold; `excuse` says what waives it; `notes` what does
    not count. `justification` is VEX's, where somebody says that the pin is not affected."""

    environment: str
    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    path: str
    line: int
    severity: Severity
    score: float | None
    vector: str
    fixed: tuple[str, ...]
    threshold: Severity
    outcome: OutcomeKind
    status: str = "under_investigation"
    justification: str = ""
    reason: str = ""
    excuse: str = ""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every name it goes by."""
        return frozenset((self.id, *self.aliases))

    @property
    def purl(self) -> str:
        """The package URL of the pin."""
        return f"pkg:pypi/{self.package}@{self.version}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version known"

    @property
    def text(self) -> str:
        """One line that says all of it."""
        others = f" ({', '.join(self.aliases)})" if self.aliases else ""
        level = f"{self.severity} {self.score:.1f}" if self.score is not None else str(self.severity)
        said = "".join(f"; not counted: {note}" for note in self.notes)
        where = f"{self.package} {self.version} in {self.path}"
        return f"{where}: {self.id}{others}, severity {level}, {self.remedy}{said}"


class Pinned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lock that was audited: its environment, file, digest, and (name, version) of each pin."""

    environment: str
    path: str
    sha256: digest.Sha256
    pins: tuple[tuple[str, str], ...]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`audit.json`. `enforced` is false for a report that was asked for as one: nothing may be released on it."""

    format: Literal["sealrun/audit-v1"] = "sealrun/audit-v1"
    enforced: bool
    verdict: Literal["passed", "failed"]
    judged_at: date
    tool: str
    origin: str
    as_of: date
    age_days: int
    snapshot: digest.Sha256
    locks: tuple[Pinned, ...]
    entries: tuple[Entry, ...]
    gaps: tuple[str, ...]

    @property
    def stamp(self) -> str:
        """What stands on everything that is written of a report that is not enforced."""
        return "" if self.enforced else "NOT ENFORCED: a report only; no gate was applied and no release may rest on it"


def entries(plan: Plan, audited: Audited) -> tuple[Entry, ...]:
    """Return what pip-audit found, once for each pin that has it, as far as VEX excuses it; waivers come later."""
    reported = {(d.name, d.version): [v.names for v in d.vulns] for d in audited.report.dependencies}
    found = [
        _excused(
            plan, _entry(plan, audited.facts.get(pin.name, ()), lock, pin, names, used=lock.environment not in audited.unused)
        )
        for lock in audited.locks
        for pin in lock.pins
        for names in groups(reported.get((pin.name, pin.version), ()))
    ]
    return tuple(sorted(found))


def groups(names: Sequence[frozenset[str]]) -> Iterator[frozenset[str]]:
    """Yield the *names* of vulnerabilities, those that share one joined, also by way of a third."""
    left = list(names)
    while left:
        group = left.pop(0)
        while twins := [other for other in left if other & group]:
            group = group.union(*twins)
            left = [other for other in left if other not in twins]
        yield group


def _entry(plan: Plan, facts: Sequence[Advisory], lock: Lock, pin: Pin, names: frozenset[str], *, used: bool) -> Entry:
    version = Version(pin.version)
    records = [advisory for advisory in facts if advisory.names & names and osv.affects(advisory, pin.name, version)]
    rated = severity.rate(records)
    gate = plan.gates.audit
    threshold = gate.threshold(lock.environment)
    fails = policy.counts(rated.level, fail_on=threshold, unknown_is=Severity(gate.unknown_is))
    first, *others = sorted(names, key=_preference)
    return Entry(
        environment=lock.environment, package=pin.name, version=pin.version, id=first, aliases=tuple(others), path=lock.path,
        line=pin.line, severity=rated.level, score=rated.score, vector=rated.vector, threshold=threshold,
        fixed=tuple(map(str, sorted({Version(at) for r in records for at in osv.fixes(r, pin.name, version)}))),
        outcome=OutcomeKind.FAILED if fails and used else OutcomeKind.PASSED, notes=() if used else (UNUSED,),
    )  # fmt: skip


def _preference(name: str) -> tuple[int, str]:
    return next((rank for rank, prefix in enumerate(_PREFERRED) if name.startswith(prefix)), len(_PREFERRED)), name


def _excused(plan: Plan, entry: Entry) -> Entry:
    claim, notes = vex.excuse(plan.vex, plan.gates.vex, entry.names, entry.package, entry.version, plan.judged_at)
    if claim is None or entry.outcome is not OutcomeKind.FAILED:
        return structs.replace(entry, notes=(*entry.notes, *notes))
    by = " and ".join(claim.authors)
    return structs.replace(
        entry, outcome=OutcomeKind.WAIVED, status="not_affected", justification=claim.justification, notes=notes,
        reason=f"{by} says so in {claim.file}", excuse=f"VEX of {by}, {claim.said[:10]}: {claim.justification}",
    )  # fmt: skip


def finding(entry: Entry) -> Finding:
    """Return *entry* as a finding of the control `audit.clean`."""
    return Finding(
        control="audit.clean", rule=entry.id, outcome=entry.outcome, message=entry.text, severity=entry.severity,
        path=entry.path, line=entry.line, package=entry.package, version=entry.version, advisory=entry.id,
        environment=entry.environment,
    )  # fmt: skip


def waived(found: Sequence[Entry], judged: Sequence[Finding], waivers: Mapping[Finding, Waiver]) -> tuple[Entry, ...]:
    """Return the entries as *judged*, in the same order, with the waiver of each waived one."""
    return tuple(_waived(entry, waivers[each]) if each in waivers else entry for entry, each in zip(found, judged, strict=True))


def _waived(entry: Entry, waiver: Waiver) -> Entry:
    return structs.replace(
        entry, outcome=OutcomeKind.WAIVED, status=waiver.status, justification=waiver.justification, reason=waiver.reason,
        excuse=f"waived until {waiver.expires} by {waiver.approver}",
    )  # fmt: skip


def aliases(found: Sequence[Entry]) -> Mapping[str, frozenset[str]]:
    """Return the other names of each vulnerability, by the one that is used for it."""
    names: dict[str, frozenset[str]] = {}
    for entry in found:
        names[entry.id] = names.get(entry.id, frozenset()) | entry.names
    return names
