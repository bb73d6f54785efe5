"""What an audit covered: what is pinned, asked, answered and reported must be the same.

Rules: nothing found is worth nothing without coverage, so whatever is not proved to have been audited is a finding; a report
that says something else about a package than the facts do is a ToolFailed, whichever of the two is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from packaging.version import Version

from sealrun.errors import ToolFailed
from sealrun.outcome import Finding, OutcomeKind
from sealrun.reports import osv, snapshot
from sealrun.reports.lockfiles import Lock
from sealrun.reports.osv import Advisory
from sealrun.reports.pins import Pin
from sealrun.reports.pip_audit import Question, Report
from sealrun.reports.snapshot import Snapshot

type Package = tuple[str, str]
"""Canonical name and version."""


class Locks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`locks.json`: the pins audited, without their hashes; `unused` are our environments that a release uses nothing of."""

    locks: tuple[Lock, ...]
    unused: tuple[str, ...] = ()


class Audited(Struct, frozen=True, kw_only=True):
    """What was locked, known, asked and reported; `unused` as in `Locks`."""

    locks: tuple[Lock, ...]
    unused: tuple[str, ...] = ()
    snapshot: Snapshot
    facts: Mapping[str, tuple[Advisory, ...]]
    questions: tuple[Question, ...]
    report: Report

    def matching(self, package: Package) -> tuple[Advisory, ...]:
        """Return the advisories that hold for *package*, by the judge's own reading."""
        name, version = package
        return tuple(a for a in self.facts.get(name, ()) if osv.affects(a, name, Version(version)))


def pinned(locks: Sequence[Lock]) -> set[Package]:
    """Return every package that *locks* pin to a version."""
    return {(pin.name, pin.version) for lock in locks for pin in lock.pins if pin.version}


def require_agreement(audited: Audited) -> None:
    """Raise ToolFailed where service or pip-audit say something else than the facts do."""
    answered = {(q.name, q.version): frozenset(q.ids) for q in audited.questions}
    reported = {(d.name, d.version): [v.names for v in d.vulns] for d in audited.report.dependencies if not d.skip_reason}
    for package in sorted(answered.keys() | reported.keys()):
        matching = audited.matching(package)
        expected = frozenset(advisory.id for advisory in matching)
        known = frozenset(name for advisory in matching for name in advisory.names)
        said = frozenset(name for names in reported.get(package, ()) for name in names)
        if answered.get(package, expected) != expected or (package in reported and not (expected <= said <= known)):
            raise ToolFailed(
                f"pip-audit: {package[0]} {package[1]}: the service answered {_ids(answered.get(package))}, pip-audit reported "
                f"{_ids(said)}, expected {_ids(expected)} from the facts; read their log, then run `nox -s audit` again"
            )


def _ids(names: frozenset[str] | None) -> str:
    return ", ".join(sorted(names)) if names else "nothing"


def uncovered(audited: Audited) -> Iterator[Finding]:
    """Yield what is not proved to have been audited."""
    asked = {(question.name, question.version) for question in audited.questions}
    reported = {(d.name, d.version) for d in audited.report.dependencies if not d.skip_reason}
    skipped = {d.name: d.skip_reason for d in audited.report.dependencies if d.skip_reason}
    left_out = set(audited.snapshot.left_out)
    for lock in audited.locks:
        if not lock.pins:
            yield _gap(lock, None, "empty", "pins nothing")
        for pin in lock.pins:
            package = (pin.name, pin.version)
            if pin.flaw:
                yield _gap(lock, pin, "flaw", pin.flaw)
            if pin.name in skipped:
                yield _gap(lock, pin, "skipped", f"skipped by pip-audit ({skipped[pin.name]})")
            elif pin.version and package not in reported:
                yield _gap(lock, pin, "not-audited", "not in pip-audit's report")
            if pin.version and package not in asked:
                yield _gap(lock, pin, "not-asked", "pip-audit never asked about it")
            if pin.version and pin.name in left_out:
                yield _gap(lock, pin, "left-out", "its advisories were left out of the snapshot")
    for name, version in sorted((asked | reported) - pinned(audited.locks)):
        yield _finding("not-locked", f"{name} {version}: audited, but no lock pins it", package=name, version=version)
    names = sorted({name for name, _ in pinned(audited.locks)})
    for record in snapshot.rejected_about(audited.snapshot, names):
        yield _finding("rejected", f"the snapshot's record {record.name} cannot be evaluated ({record.reason})")


def _gap(lock: Lock, pin: Pin | None, rule: str, what: str) -> Finding:
    if pin is None:
        return _finding(rule, f"{lock.path}: {what}", path=lock.path, environment=lock.environment)
    return _finding(
        rule, f"{lock.path}:{pin.line}: {pin.name}: {what}", path=lock.path, line=pin.line, environment=lock.environment,
        package=pin.name, version=pin.version or None,
    )  # fmt: skip


def _finding(rule: str, message: str, **fields: str | int | None) -> Finding:
    return Finding(control="audit.coverage", rule=rule, outcome=OutcomeKind.FAILED, message=message, **fields)  # type: ignore[arg-type]
