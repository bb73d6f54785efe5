"""Audit: is any locked package known to be vulnerable, exceptions documented?

Rules: pip-audit asks a service of ours on the loopback, over the pinned advisories; a pass needs a proof of coverage: locked =
asked = audited, whatever a pin's marker says of this platform, and every package inside the snapshot's scope; in each batch goes
a canary that must be found, so that a chain which finds nothing is an error; what pip-audit reports must equal what the judge
reads from the same facts by itself.

Leaves: `locks.json` (what is pinned), `facts.json` and `snapshot.json` (the advisories used), `questions.json` (asked and
answered), `pip-audit.json` (reported), `openvex.json` (when something was found).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, structs
from packaging.version import Version

from sealrun import digest, files, venvs
from sealrun.errors import ToolFailed
from sealrun.outcome import Finding, Judgement, Outcome, OutcomeKind, check
from sealrun.policy import judge as policy
from sealrun.policy.model import Plan
from sealrun.reports import openvex, osv, pip_audit, snapshot
from sealrun.reports.osv import Advisory, Affected, Event
from sealrun.reports.pip_audit import Question, Questions, Report, Vulnerability
from sealrun.reports.requirements import Lock, Pin, read_locks
from sealrun.reports.snapshot import Facts, Snapshot
from sealrun.stage import Context, Stage, Work, read_report

_CANARY, _CANARY_VERSION, _CANARY_ID = "sealrun-canary", "1", "SEALRUN-CANARY-1"
_CLOCK_SKEW_DAYS = 1

type Package = tuple[str, str]
"""Canonical name and version."""


class Locks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`locks.json`: the pins audited, without their hashes."""

    locks: tuple[Lock, ...]


class Evidence(Struct, frozen=True, kw_only=True):
    """What was gathered."""

    locks: tuple[Lock, ...]
    snapshot: Snapshot
    facts: Mapping[str, tuple[Advisory, ...]]
    questions: tuple[Question, ...]
    report: Report

    def matching(self, package: Package) -> tuple[Advisory, ...]:
        """Return the advisories that hold for *package*, by the judge's own reading."""
        name, version = package
        return tuple(a for a in self.facts.get(name, ()) if osv.affects(a, name, Version(version)))


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    folder = context.root / snapshot.FOLDER
    advisories = {name: files.read_bytes(folder / name, "advisories") for name in (snapshot.FACTS, snapshot.SNAPSHOT)}
    return {
        **{lock.path: lock.sha256 for lock in read_locks(context.root, context.targets)},
        **{f"advisories/{name}": digest.of_bytes(data) for name, data in advisories.items()},
    }


def _gather(context: Context, work: Work) -> None:
    locks = read_locks(context.root, context.targets)
    taken, facts = snapshot.load(context.root / snapshot.FOLDER)
    snapshot.write(work.out, taken, facts)
    files.write_json(work.out / "locks.json", Locks(locks=tuple(map(_without_hashes, locks))))
    files.write_json(work.tmp / "facts.json", Facts(advisories=(*facts.advisories, _canary())))
    batches = [_batch(work.tmp, number, packages) for number, packages in enumerate(_batches(locks))]
    job = {"facts": str(work.tmp / "facts.json"), "log": str(work.tmp / "questions.jsonl"), "batches": batches}
    files.write_json(work.tmp / "job.json", job)
    work.run("pip-audit", "audit", work.inside("osv_service.py", str(work.tmp / "job.json")), loopback=True)
    reports = [_checked(Path(batch["report"])) for batch in batches]
    files.write_json(work.out / "pip-audit.json", pip_audit.merge(reports))
    files.write_json(work.out / "questions.json", Questions(questions=_questions(work.tmp / "questions.jsonl")))


def _judge(context: Context) -> Judgement:
    evidence = _read(context.evidence("audit"))
    _require_agreement(evidence)
    aliases, found = _findings(context.plan, evidence)
    judged = policy.judge_findings(context.plan, "audit.clean", found, aliases=aliases, unused_fails=not context.targets)
    uncovered = tuple(_uncovered(evidence))
    vex = openvex.document(
        judged.findings, dict(judged.waived), aliases, author=f"Sealrun audit of {context.plan.title}",
        judged_at=context.plan.judged_at,
    )  # fmt: skip
    return Judgement(
        outcomes=(_coverage(evidence, uncovered), _clean(context.plan, evidence, judged), _fresh(context.plan, evidence.snapshot)),
        findings=(*uncovered, *judged.findings),
        reports={"openvex.json": vex} if vex else {},
    )


def _without_hashes(lock: Lock) -> Lock:
    return structs.replace(lock, pins=tuple(structs.replace(pin, hashes=()) for pin in lock.pins))


def _canary() -> Advisory:
    """Return an advisory about a package that does not exist: the chain must find it."""
    affected = Affected(package=_CANARY, ranges=((Event(introduced="0"),),))
    return Advisory(id=_CANARY_ID, modified="2000-01-01T00:00:00Z", affected=(affected,))


def _batches(locks: Sequence[Lock]) -> list[list[Package]]:
    """Return every package that *locks* pin, once, in as few lists as keep each name to one version a list."""
    batches: list[dict[str, str]] = [{_CANARY: _CANARY_VERSION}]
    for name, version in sorted(_pinned(locks)):
        fitting = next((batch for batch in batches if name not in batch), None)
        if fitting is None:
            batches.append(fitting := {_CANARY: _CANARY_VERSION})
        fitting[name] = version
    return [sorted(batch.items()) for batch in batches]


def _pinned(locks: Sequence[Lock]) -> set[Package]:
    return {(pin.name, pin.version) for lock in locks for pin in lock.pins if pin.version}


def _batch(folder: Path, number: int, packages: Sequence[Package]) -> dict[str, str]:
    """Write the requirements of one batch; return it as the service's job has it."""
    requirements, report = folder / f"batch-{number}.txt", folder / f"batch-{number}.json"
    files.write_bytes(requirements, "".join(f"{name}=={version}\n" for name, version in packages).encode())
    return {"requirements": str(requirements), "report": str(report)}


def _checked(path: Path) -> Report:
    """Return the report of one batch without its canary. Raises ToolFailed when the canary was not found."""
    report = pip_audit.parse_report(_written(path), path.name)
    canaries = [each for each in report.dependencies if each.name == _CANARY]
    if [vulnerability.id for each in canaries for vulnerability in each.vulns] != [_CANARY_ID]:
        raise ToolFailed(
            f"{path.name}: the planted advisory {_CANARY_ID} was not found, so nothing else would have been; "
            "read pip-audit's log, then run `nox -s audit` again"
        )
    return Report(dependencies=tuple(each for each in report.dependencies if each not in canaries))


def _questions(path: Path) -> tuple[Question, ...]:
    questions = pip_audit.parse_questions(_written(path), path.name)
    return tuple(sorted({question for question in questions if question.name != _CANARY}))


def _written(path: Path) -> bytes:
    if not path.is_file():
        raise ToolFailed(f"{path.name}: pip-audit or its service wrote none; read their log")
    return files.read_bytes(path, "report")


def _read(folder: Path) -> Evidence:
    taken, facts = snapshot.load(folder)
    return Evidence(
        locks=read_report(folder / "locks.json", Locks).locks,
        snapshot=taken,
        facts=osv.by_package(facts.advisories),
        questions=read_report(folder / "questions.json", Questions).questions,
        report=read_report(folder / "pip-audit.json", Report),
    )


def _require_agreement(evidence: Evidence) -> None:
    """Raise ToolFailed where service or pip-audit say something else than the facts do."""
    answered = {(q.name, q.version): frozenset(q.ids) for q in evidence.questions}
    reported = {
        (d.name, d.version): [v.names for v in d.vulns] for d in evidence.report.dependencies if not d.skip_reason
    }
    for package in sorted(answered.keys() | reported.keys()):
        matching = evidence.matching(package)
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


def _uncovered(evidence: Evidence) -> Iterator[Finding]:
    """Yield what is not proved to have been audited."""
    asked = {(question.name, question.version) for question in evidence.questions}
    audited = {(d.name, d.version) for d in evidence.report.dependencies if not d.skip_reason}
    skipped = {d.name: d.skip_reason for d in evidence.report.dependencies if d.skip_reason}
    scope = set(evidence.snapshot.packages)
    for lock in evidence.locks:
        if not lock.pins:
            yield _gap(lock, None, "empty", "pins nothing")
        for pin in lock.pins:
            package = (pin.name, pin.version)
            if pin.flaw:
                yield _gap(lock, pin, "flaw", f"has or is {pin.flaw}")
            if pin.name in skipped:
                yield _gap(lock, pin, "skipped", f"skipped by pip-audit ({skipped[pin.name]})")
            elif pin.version and package not in audited:
                yield _gap(lock, pin, "not-audited", "not in pip-audit's report")
            if pin.version and package not in asked:
                yield _gap(lock, pin, "not-asked", "pip-audit never asked about it")
            if pin.version and pin.name not in scope:
                yield _gap(lock, pin, "out-of-scope", "outside the scope of the advisory snapshot")
    for name, version in sorted((asked | audited) - _pinned(evidence.locks)):
        yield _finding("not-locked", f"{name} {version}: audited, but no lock pins it", package=name, version=version)
    names = sorted({name for name, _ in _pinned(evidence.locks)})
    for record in snapshot.rejected_about(evidence.snapshot, names):
        yield _finding("rejected", f"the snapshot's record {record.name} cannot be evaluated ({record.reason})")


def _gap(lock: Lock, pin: Pin | None, rule: str, what: str) -> Finding:
    if pin is None:
        return _finding(rule, f"{lock.path}: {what}", path=lock.path, environment=lock.environment)
    return _finding(
        rule, f"{lock.path}:{pin.line}: {pin.name} {what}", path=lock.path, line=pin.line, environment=lock.environment,
        package=pin.name, version=pin.version or None,
    )  # fmt: skip


def _finding(rule: str, message: str, **fields: str | int | None) -> Finding:
    return Finding(control="audit.coverage", rule=rule, outcome=OutcomeKind.FAILED, message=message, **fields)  # type: ignore[arg-type]


def _findings(plan: Plan, evidence: Evidence) -> tuple[Mapping[str, frozenset[str]], tuple[Finding, ...]]:
    """Return the other names of each advisory found, and a finding for each in each environment."""
    vulns = {(d.name, d.version): d.vulns for d in evidence.report.dependencies}
    aliases: dict[str, frozenset[str]] = {}
    found = []
    for lock in evidence.locks:
        for pin in lock.pins:
            for vulnerability in vulns.get((pin.name, pin.version), ()):
                aliases[vulnerability.id] = aliases.get(vulnerability.id, frozenset()) | vulnerability.names
                found.append(_vulnerable(plan, evidence, lock, pin, vulnerability))
    return aliases, tuple(found)


def _vulnerable(plan: Plan, evidence: Evidence, lock: Lock, pin: Pin, vulnerability: Vulnerability) -> Finding:
    records = [a for a in evidence.matching((pin.name, pin.version)) if a.names & vulnerability.names]
    severity = policy.worst([advisory.severity for advisory in records])
    gate = plan.gates.audit
    fails = policy.counts(severity, fail_on=gate.fail_on, unknown_is=gate.unknown_is)
    fixed = sorted({version for a in records for version in osv.fixes(a, pin.name, Version(pin.version))}, key=Version)
    others = f" ({', '.join(vulnerability.aliases)})" if vulnerability.aliases else ""
    remedy = f"fixed in {', '.join(fixed)}" if fixed else "no fixed version known"
    return Finding(
        control="audit.clean", rule=vulnerability.id, outcome=OutcomeKind.FAILED if fails else OutcomeKind.PASSED,
        message=f"{pin.name} {pin.version} in {lock.path}: {vulnerability.id}{others}, severity {severity}, {remedy}",
        severity=severity, path=lock.path, line=pin.line, package=pin.name, version=pin.version, advisory=vulnerability.id,
        environment=lock.environment,
    )  # fmt: skip


def _coverage(evidence: Evidence, uncovered: Sequence[Finding]) -> Outcome:
    pins = sum(len(lock.pins) for lock in evidence.locks)
    counted = f"{len(evidence.locks)} locks, {pins} pins, {len(_pinned(evidence.locks))} packages"
    rejected = f", {len(evidence.snapshot.rejected)} records of the snapshot rejected" if evidence.snapshot.rejected else ""
    seen = policy.listed([gap.message for gap in uncovered]) if uncovered else f"{counted}, each asked and answered{rejected}"
    return check(
        "audit.coverage", not uncovered, seen=seen, expected="every pin hashed, asked about, answered, and in the snapshot's scope",
        remedy=_coverage_remedy(uncovered), evidence="evidence/audit/questions.json",
    )  # fmt: skip


def _coverage_remedy(uncovered: Sequence[Finding]) -> str:
    rules = {gap.rule for gap in uncovered}
    if rules & {"out-of-scope", "rejected"}:
        return "import advisories for these packages: `nox -s advisories -- --from FILE`"
    if rules & {"flaw", "empty"}:
        return "compile the lock again with hashes: `nox -s lock -- --write`"
    return "read logs/audit/pip-audit.stderr, then run `nox -s audit` again"


def _clean(plan: Plan, evidence: Evidence, judged: policy.Judged) -> Outcome:
    known = len({finding.advisory for finding in judged.findings})
    packages = len(_pinned(evidence.locks))
    gate = plan.gates.audit
    return judged.outcome(
        "audit.clean", seen=f"{packages} packages, {known} known advisories",
        expected=f"no advisory of severity {gate.fail_on} or above (unknown counts as {gate.unknown_is}) without a valid waiver",
        remedy="upgrade with `nox -s lock -- --upgrade`, or grant an expiring waiver in policy/waivers.toml; "
        "remove or renew the waivers named", evidence="evidence/audit/pip-audit.json",
    )  # fmt: skip


def _fresh(plan: Plan, taken: Snapshot) -> Outcome:
    age, longest = (plan.judged_at - taken.as_of).days, plan.gates.audit.max_snapshot_age_days
    return policy.deployment_check(
        plan, "audit.fresh", -_CLOCK_SKEW_DAYS <= age <= longest,
        seen=f"advisories as of {taken.as_of}, {age} days before the day of judgement",
        expected=f"at most {longest} days", remedy="run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`",
        evidence="evidence/audit/snapshot.json",
    )  # fmt: skip


STAGE = Stage(
    name="audit",
    summary="Ask pip-audit about every locked package, over pinned advisories",
    controls=("audit.coverage", "audit.clean", "audit.fresh"),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    environments=(venvs.Environment(name="audit", smoke=("pip-audit", "--version")),),
    tools=(("pip-audit", "audit"),),
)
