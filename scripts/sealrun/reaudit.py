"""Audit an old bundle again: what became known since of what it pinned, offline and without the repository that made it.

Rules: locks, thresholds, waivers and VEX are the bundle's own, the day is today's, the advisories are those named, else those
of this checkout; advisories older than the bundle's prove nothing and are refused; what is over its threshold and excused by
nothing that still holds fails, whether it became known since or its waiver lapsed since; a pin that the advisories cannot judge
fails too.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from msgspec import Struct
from packaging.version import Version

from sealrun import advisories, digest, files
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.evidence import bundle
from sealrun.evidence.statement import StageStatement
from sealrun.outcome import Finding, Outcome, OutcomeKind, Verdict, check, verdict
from sealrun.policy import judge as policy
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan
from sealrun.reports import audit_record, coverage, index, osv, snapshot
from sealrun.reports.audit_record import Entry
from sealrun.reports.coverage import Audited, Locks
from sealrun.reports.pip_audit import Dependency, Report, Vulnerability
from sealrun.reports.snapshot import Facts, Snapshot

_AUDIT = "evidence/audit/"
_STATEMENT = "statements/audit.json"


class Reaudited(Struct, frozen=True, kw_only=True):
    """What an old bundle looks like today. `since` are the ids that became known since, in the order of the findings."""

    sha256: digest.Sha256
    title: str
    judged_at: date
    taken: Snapshot
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    since: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Passed when nothing over its threshold is left open."""
        return verdict(self.outcomes)


class _Old(Struct, frozen=True, kw_only=True):
    """What a bundle said on its day."""

    plan: Plan
    sha256: digest.Sha256
    judged_at: date
    locks: Locks
    taken: Snapshot
    report: Report


def reaudit(path: Path, root: Path, source: Path | None, today: date) -> Reaudited:
    """Return what the bundle *path* looks like *today* by the advisories *source*, else those of the checkout *root*.

    Raises InputMissing, UsageError, or VerificationFailed when the bundle is not what its own statements say.
    """
    with files.private_folder() as folder:
        old = _read(path, folder, today)
        names = sorted({name for name, _ in coverage.pinned(old.locks.locks)})
        if source:
            advisories.refresh(folder, str(source))
        taken, facts = index.known(folder if source else root, names)
    if taken.as_of < old.taken.as_of:
        raise InputMissing(
            f"reaudit: got advisories as of {taken.as_of}, expected newer ones than the bundle's of {old.taken.as_of}; name a "
            "newer export with --advisories, or run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`"
        )
    return _judge(old, taken, facts)


def _read(path: Path, folder: Path, today: date) -> _Old:
    with bundle.opened(path) as archive:
        statement = files.decode(archive.read(_STATEMENT), StageStatement, _STATEMENT, VerificationFailed)
        stated = statement.digests()
        for name in sorted(archive.members):
            if name == "release.toml" or (name.startswith("policy/") and not name.startswith(f"{snapshot.FOLDER.as_posix()}/")):
                target = folder / files.relative_name(name, path.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(target, archive.read(name), durable=False)

        def member[T](name: str, kind: type[T]) -> T:
            data = archive.read(_AUDIT + name)
            if digest.of_bytes(data) != stated.get(name):
                raise VerificationFailed(f"{path.name}: {_AUDIT}{name} is not what {_STATEMENT} names")
            return files.decode(data, kind, name, VerificationFailed)

        return _Old(
            plan=load_plan(folder, folder / "release.toml", today), sha256=archive.sha256,
            judged_at=date.fromisoformat(statement.predicate.judged_at), locks=member("locks.json", Locks),
            taken=member(snapshot.SNAPSHOT, Snapshot), report=member("pip-audit.json", Report),
        )  # fmt: skip


def _judge(old: _Old, taken: Snapshot, facts: Facts) -> Reaudited:
    by_package = osv.by_package(facts.advisories)
    report = _report(old.locks, by_package)
    audited = Audited(
        locks=old.locks.locks, unused=old.locks.unused, snapshot=taken, facts=by_package, questions=(), report=report
    )
    found = audit_record.entries(old.plan, audited)
    judged = policy.judge_findings(
        old.plan, "audit.clean", [audit_record.finding(entry) for entry in found], aliases=audit_record.aliases(found),
        unused_fails=False,
    )  # fmt: skip
    before = {(d.name, d.version): frozenset(name for v in d.vulns for name in v.names) for d in old.report.dependencies}
    since = tuple(e.id for e in found if not e.names & before.get((e.package, e.version), frozenset()))
    return Reaudited(
        sha256=old.sha256, title=old.plan.title, judged_at=old.judged_at, taken=taken, since=since,
        findings=judged.findings, outcomes=(_known(old, taken, found, judged.findings, since), _covered(old, taken)),
    )  # fmt: skip


def _report(locks: Locks, facts: Mapping[str, tuple[osv.Advisory, ...]]) -> Report:
    """Return what the advisories say of each pin, in the form of pip-audit's report."""
    found = []
    for name, version in sorted(coverage.pinned(locks.locks)):
        holding = [a for a in facts.get(name, ()) if osv.affects(a, name, Version(version))]
        vulns = tuple(Vulnerability(id=a.id, aliases=a.aliases, fix_versions=()) for a in holding)
        found.append(Dependency(name=name, version=version, vulns=vulns))
    return Report(dependencies=tuple(found))


def _known(
    old: _Old, taken: Snapshot, found: Sequence[Entry], judged: Sequence[Finding], since: Sequence[str]
) -> Outcome:  # fmt: skip
    open_ = [finding for finding in judged if finding.outcome is OutcomeKind.FAILED]
    new = [finding.message for finding in open_ if finding.rule in since]
    lapsed = [f"{finding.message} (known then)" for finding in open_ if finding.rule not in since]
    packages = len(coverage.pinned(old.locks.locks))
    seen = (
        f"{packages} packages, {len({e.id for e in found})} known advisories, {len(set(since))} of them since {old.judged_at}"
    )
    return check(
        "reaudit.known", not open_, seen=f"{seen}: {policy.listed([*new, *lapsed])}" if open_ else seen,
        expected=f"nothing over its threshold by the advisories as of {taken.as_of}",
        remedy="Release again with the fixed versions, or withdraw the release; a waiver that lapsed has to be granted anew.",
    )  # fmt: skip


def _covered(old: _Old, taken: Snapshot) -> Outcome:
    names = sorted({name for name, _ in coverage.pinned(old.locks.locks)})
    gaps = [f"the advisories about {name} were left out" for name in names if name in taken.left_out]
    gaps += [f"{record.name} cannot be evaluated" for record in snapshot.rejected_about(taken, names)]
    return check(
        "reaudit.coverage", not gaps, seen=policy.listed(gaps) if gaps else f"{len(names)} packages, none left out",
        expected="advisories that can judge every pin of the bundle",
        remedy="Name a whole export with --advisories, or run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`.",
    )  # fmt: skip
