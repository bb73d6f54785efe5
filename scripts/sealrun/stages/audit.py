"""Audit: is any locked package known to be vulnerable, exceptions documented?

Rules: pip-audit asks a service of ours on the loopback, over the pinned advisories; a pass needs a proof of coverage: locked =
asked = audited, whatever a pin's marker says of this platform, and no package whose advisories were left out; in each batch
goes a canary that must be found, so that a chain which finds nothing is an error; what pip-audit reports must equal what
the judge reads from the same facts by itself.

Leaves: `locks.json` (what is pinned), `facts.json` and `snapshot.json` (the advisories used), `questions.json` (asked and
answered), `pip-audit.json` (reported); derived from these, `audit.json` (the record), and from that every other format:
`audit.sarif`, `junit.xml`, `gl-dependency-scanning-report.json`, `audit.md`, `audit.txt`, and `openvex.json` when
something was found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from sealrun import digest, files, venvs
from sealrun.engines import unused
from sealrun.errors import InputMissing, ToolFailed
from sealrun.outcome import Finding, Judgement, Outcome, Verdict, check, verdict
from sealrun.policy import judge as policy
from sealrun.policy.model import AuditGate, Plan
from sealrun.reports import audit_formats, audit_record, index, openvex, osv, pip_audit, snapshot
from sealrun.reports.audit_record import Entry, Pinned, Record
from sealrun.reports.coverage import Audited, Locks, Package, pinned, require_agreement, uncovered
from sealrun.reports.lockfiles import Lock, read_locks
from sealrun.reports.osv import Advisory, Affected, Event
from sealrun.reports.pip_audit import Question, Questions, Report
from sealrun.reports.snapshot import Facts, Snapshot
from sealrun.stage import Context, Stage, Work, read_report

_CANARY, _CANARY_VERSION, _CANARY_ID = "sealrun-canary", "1", "SEALRUN-CANARY-1"
_CLOCK_SKEW_DAYS = 1


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    locks = read_locks(context.root, context.targets)
    taken, _ = _known(context, locks)
    return {
        **{lock.path: lock.sha256 for lock in locks},
        f"advisories/{snapshot.FACTS}": taken.facts_sha256,
        f"advisories/{snapshot.SNAPSHOT}": digest.of_bytes(files.readable_json(taken)),
    }


def _gather(context: Context, work: Work) -> None:
    locks = read_locks(context.root, context.targets)
    taken, facts = _known(context, locks)
    snapshot.write(work.out, taken, facts)
    files.write_json(work.out / "locks.json", Locks(locks=tuple(map(_without_hashes, locks)), unused=_unused(context, locks)))
    files.write_json(work.tmp / "facts.json", Facts(advisories=(*facts.advisories, _canary())))
    batches = [_batch(work.tmp, number, packages) for number, packages in enumerate(_batches(locks))]
    job = {"facts": str(work.tmp / "facts.json"), "log": str(work.tmp / "questions.jsonl"), "batches": batches}
    files.write_json(work.tmp / "job.json", job)
    work.run("pip-audit", "audit", work.inside("osv_service.py", str(work.tmp / "job.json")), loopback=True)
    reports = [_checked(Path(batch["report"])) for batch in batches]
    files.write_json(work.out / "pip-audit.json", pip_audit.merge(reports))
    files.write_json(work.out / "questions.json", Questions(questions=_questions(work.tmp / "questions.jsonl")))


def _judge(context: Context) -> Judgement:
    plan, evidence = context.plan, _read(context.evidence("audit"))
    require_agreement(evidence)
    found = audit_record.entries(plan, evidence)
    asked = [audit_record.finding(entry) for entry in found]
    judged = policy.judge_findings(
        plan, "audit.clean", asked, aliases=audit_record.aliases(found), unused_fails=not context.targets
    )  # fmt: skip
    found = audit_record.waived(found, judged.findings, dict(judged.waived))
    gaps = tuple(uncovered(evidence))
    outcomes = (_coverage(evidence, gaps), _clean(context, evidence, judged, found), _fresh(plan, evidence.snapshot))
    record = _record(context, evidence, found, gaps, verdict(outcomes))
    vex = openvex.document(record, author=f"Sealrun audit of {plan.title}")
    return Judgement(
        outcomes=outcomes,
        findings=(*gaps, *judged.findings),
        reports={
            audit_record.FILE: files.readable_json(record),
            **audit_formats.all_of(record),
            **({"openvex.json": vex} if vex else {}),
        },
    )


def _known(context: Context, locks: Sequence[Lock]) -> tuple[Snapshot, Facts]:
    """Return what is known of the packages in *locks*: by the advisories of the judged repository, else by our own.

    Raises InputMissing, also for others than those that its organisation names.
    """
    if context.advisories:
        return snapshot.load(context.advisories)
    place = context.root if index.has_any(context.root) else context.tools
    taken, facts = index.known(place, _names(locks))
    if context.plan.advisories not in ("", taken.sha256):
        raise InputMissing(
            f"advisories: got those with sha256 {taken.sha256}, expected {context.plan.advisories} as policy/repository.toml "
            "names; run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`"
        )
    return taken, facts


def _unused(context: Context, locks: Sequence[Lock]) -> tuple[str, ...]:
    """Return which of our own *locks* the release uses nothing of; another repository's, and locks named, are all used."""
    if context.home is not None or context.targets:
        return ()
    return tuple(sorted(unused(context.plan) & {lock.environment for lock in locks}))


def _record(
    context: Context, evidence: Audited, found: tuple[Entry, ...], gaps: Sequence[Finding], said: Verdict
) -> Record:  # fmt: skip
    plan, taken = context.plan, evidence.snapshot
    return Record(
        enforced=not context.report_only, verdict="passed" if said is Verdict.PASSED else "failed", judged_at=plan.judged_at,
        tool=f"pip-audit {venvs.locked_version(venvs.lock_path(context.tools, 'audit'), 'pip-audit')}",
        origin=taken.origin, as_of=taken.as_of, age_days=(plan.judged_at - taken.as_of).days, snapshot=taken.sha256,
        locks=tuple(
            Pinned(environment=lock.environment, path=lock.path, sha256=lock.sha256,
                   pins=tuple((pin.name, pin.version) for pin in lock.pins))
            for lock in evidence.locks
        ),
        entries=found, gaps=tuple(gap.message for gap in gaps),
    )  # fmt: skip


def _names(locks: Sequence[Lock]) -> set[str]:
    return {name for name, _ in pinned(locks)}


def _without_hashes(lock: Lock) -> Lock:
    return structs.replace(lock, pins=tuple(structs.replace(pin, hashes=()) for pin in lock.pins))


def _canary() -> Advisory:
    """Return an advisory about a package that does not exist: the chain must find it."""
    affected = Affected(package=_CANARY, ranges=((Event(introduced="0"),),))
    return Advisory(id=_CANARY_ID, modified="2000-01-01T00:00:00Z", affected=(affected,))


def _batches(locks: Sequence[Lock]) -> list[list[Package]]:
    """Return every package that *locks* pin, once, in as few lists as keep each name to one version a list."""
    batches: list[dict[str, str]] = [{_CANARY: _CANARY_VERSION}]
    for name, version in sorted(pinned(locks)):
        fitting = next((batch for batch in batches if name not in batch), None)
        if fitting is None:
            batches.append(fitting := {_CANARY: _CANARY_VERSION})
        fitting[name] = version
    return [sorted(batch.items()) for batch in batches]


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


def _read(folder: Path) -> Audited:
    taken, facts = snapshot.load(folder)
    pinned_there = read_report(folder / "locks.json", Locks)
    return Audited(
        locks=pinned_there.locks,
        unused=pinned_there.unused,
        snapshot=taken,
        facts=osv.by_package(facts.advisories),
        questions=read_report(folder / "questions.json", Questions).questions,
        report=read_report(folder / "pip-audit.json", Report),
    )


def _coverage(evidence: Audited, gaps: Sequence[Finding]) -> Outcome:
    pins = sum(len(lock.pins) for lock in evidence.locks)
    counted = f"{len(evidence.locks)} locks, {pins} pins, {len(pinned(evidence.locks))} packages"
    rejected = f", {len(evidence.snapshot.rejected)} records of the snapshot rejected" if evidence.snapshot.rejected else ""
    seen = policy.listed([gap.message for gap in gaps]) if gaps else f"{counted}, each asked and answered{rejected}"
    return check(
        "audit.coverage", not gaps, seen=seen, expected="every pin hashed, asked about, answered, none left out",
        remedy=_coverage_remedy(gaps), evidence="evidence/audit/questions.json",
    )  # fmt: skip


def _coverage_remedy(gaps: Sequence[Finding]) -> str:
    rules = {gap.rule for gap in gaps}
    if rules == {"rejected"}:
        return "have the record named mended at its source, then import it again: `nox -s advisories`"
    if rules & {"left-out", "rejected"}:
        return "import a snapshot that knows these packages: `nox -s advisories`"
    if rules & {"flaw", "empty"}:
        return "compile the lock again with hashes: `nox -s lock -- --write`"
    return "read logs/audit/pip-audit.stderr, then run `nox -s audit` again"


def _clean(context: Context, evidence: Audited, judged: policy.Judged, found: Sequence[Entry]) -> Outcome:
    gate = context.plan.gates.audit
    known = len({entry.id for entry in found})
    vexed = [
        f"{entry.id} on {entry.package} {entry.version}: {entry.excuse}" for entry in found if entry.excuse.startswith("VEX")
    ]
    said = f", {len(vexed)} excused by VEX ({policy.listed(vexed)})" if vexed else ""
    spared = {entry.id for entry in found if entry.environment in evidence.unused}
    if spared:
        said += f", {len(spared)} of them in environments that the release uses nothing of ({', '.join(evidence.unused)})"
    outcome = judged.outcome(
        "audit.clean", seen=f"{len(pinned(evidence.locks))} packages, {known} known advisories{said}",
        expected=f"no advisory at {_thresholds(gate)} or above (unknown counts as {gate.unknown_is}) without a valid waiver",
        remedy="upgrade with `nox -s lock -- --upgrade`, or `invoke policy.waive` proposes an expiring waiver; "
        "remove or renew the waivers named", evidence=f"evidence/audit/{audit_record.FILE}",
    )  # fmt: skip
    missing = sorted(gate.environment.keys() - {lock.environment for lock in evidence.locks})
    if missing and not context.targets and context.home is None:  # elsewhere they are our own defaults
        odd = f"audit.environment in policy/gates.toml names {', '.join(missing)}, which no lock is for"
        outcome = structs.replace(outcome, warning="; ".join(filter(None, (outcome.warning, odd))))
    return outcome


def _thresholds(gate: AuditGate) -> str:
    own = ", ".join(f"{level} in {name}" for name, level in sorted(gate.environment.items()))
    return f"{gate.fail_on} ({own})" if own else gate.fail_on


def _fresh(plan: Plan, taken: Snapshot) -> Outcome:
    age, longest = (plan.judged_at - taken.as_of).days, plan.gates.audit.max_snapshot_age_days
    return policy.deployment_check(
        plan, "audit.fresh", -_CLOCK_SKEW_DAYS <= age <= longest,
        seen=f"advisories as of {taken.as_of}, {age} days before the day of judgement, sha256 {taken.sha256}",
        expected=f"at most {longest} days", remedy="import a newer snapshot: `nox -s advisories`",
        evidence="evidence/audit/snapshot.json",
    )  # fmt: skip


STAGE = Stage(
    name="audit",
    summary="Ask pip-audit about every locked package, over pinned advisories",
    controls=("audit.coverage", "audit.clean", "audit.fresh"),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    takes_targets=True,
    environments=(venvs.Environment(name="audit", smoke=("pip-audit", "--version")),),
    tools=(("pip-audit", "audit"),),
)
