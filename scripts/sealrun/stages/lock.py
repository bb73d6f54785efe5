"""lock: is every environment pinned and hashed, and does each lock match its inputs? Judged offline, from the files alone.

Rules: a pin without a hash, a version or a plain name is a flaw; an input whose digest is not the one recorded in the lock is
drift, and so is a requirement that no pin satisfies; an environment without a lock, or a lock without an input, fails.
"""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sealrun import digest, files, locks
from sealrun.errors import InputMissing, UsageError
from sealrun.outcome import Finding, Judgement, OutcomeKind, check
from sealrun.policy.judge import listed
from sealrun.reports import lock_formats
from sealrun.reports.lockfiles import Lock, elsewhere, lock_files, read_locks
from sealrun.reports.pins import Pin
from sealrun.stage import Context, Stage, Work, read_report

_FOLDER = "requirements"
_LOWEST_PYTHON = Version("3.12")
_RECORDED = re.compile(r"^# input: (?P<name>\S+) sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)


class Problem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with a lock, and where."""

    kind: str
    where: str
    line: int = 0
    message: str


class LockReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lock: its file, digest, number of pins, and what is wrong with it."""

    path: str
    sha256: digest.Sha256
    pins: int
    problems: tuple[Problem, ...]


class LocksReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`locks.json`."""

    python: str
    locks: tuple[LockReport, ...]
    unread: tuple[str, ...] = ()


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    read = {name: digest.of_file(path) for name, path in lock_files(context.root, context.targets).items()}
    folder = context.root / _FOLDER
    if context.targets or not folder.is_dir():
        return read
    names = [name for name in files.walk_files(folder) if Path(name).suffix in (".in", ".txt", ".overrides")]
    return read | {f"{_FOLDER}/{entry.path}": entry.sha256 for entry in digest.describe_files(folder, names)}


def _gather(context: Context, work: Work) -> None:
    folder = context.root / _FOLDER
    found = read_locks(context.root, context.targets)
    recorded = {lock.path: _recorded(context.root / lock.path) for lock in found if not context.targets}
    reports = [_report(lock, _drift(folder, lock, recorded)) for lock in found]
    if not context.targets:
        reports += [_without_lock(path) for path in sorted(folder.glob("*.in")) if not path.with_suffix(".txt").is_file()]
    unread = () if context.targets else elsewhere(context.root)
    report = LocksReport(python=platform.python_version(), locks=tuple(reports), unread=unread)
    files.write_json(work.out / "locks.json", report)


def _judge(context: Context) -> Judgement:
    report = read_report(context.evidence("lock") / "locks.json", LocksReport)
    problems = [problem for lock in report.locks for problem in lock.problems]
    unhashed = [problem for problem in problems if problem.kind == "flaw"]
    drifted = [problem for problem in problems if problem.kind == "drift"]
    pins = sum(lock.pins for lock in report.locks)
    unread = f"; not read, name them to have them judged: {listed(report.unread)}" if report.unread else ""
    counted = f"{len(report.locks)} locks, {pins} pins{unread}"
    return Judgement(
        outcomes=(
            check(
                "lock.hashed", bool(pins) and not unhashed, seen=_seen(unhashed, counted), evidence="evidence/lock/locks.json",
                expected="every pin has one version and a sha256", remedy="run `nox -s lock -- --write` and commit the locks",
            ),
            check(
                "lock.current", bool(pins) and not drifted, seen=_seen(drifted, counted), evidence="evidence/lock/locks.json",
                expected="every lock was compiled from its inputs as they are and satisfies them",
                remedy="run `nox -s lock -- --write` and commit the locks",
            ),
            check(
                "python.version", Version(report.python) >= _LOWEST_PYTHON, seen=f"Python {report.python}",
                expected=f"Python >= {_LOWEST_PYTHON}", remedy="name one in SEALRUN_PYTHON, run scripts/bootstrap.py",
            ),
        ),
        findings=tuple(
            Finding(
                control="lock.hashed" if problem.kind == "flaw" else "lock.current", rule=problem.kind,
                outcome=OutcomeKind.FAILED, message=problem.message, path=problem.where, line=problem.line or None,
            )
            for problem in problems
        ),
    )  # fmt: skip


def _seen(problems: list[Problem], counted: str) -> str:
    if not problems:
        return counted
    first = problems[0]
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{first.where}{f':{first.line}' if first.line else ''}: {first.message}{more}"


def _without_lock(source: Path) -> LockReport:
    problem = Problem(kind="drift", where=f"{_FOLDER}/{source.name}", message=f"has no {source.stem}.txt")
    return LockReport(path=f"{_FOLDER}/{source.stem}.txt", sha256=digest.of_bytes(b""), pins=0, problems=(problem,))


def _report(lock: Lock, drift: Iterable[Problem]) -> LockReport:
    flaws = tuple(
        Problem(kind="flaw", where=lock.path, line=pin.line, message=f"{pin.name}: {pin.flaw}") for pin in lock.pins if pin.flaw
    )
    if not lock.pins:
        flaws = (Problem(kind="flaw", where=lock.path, message="pins nothing"),)
    return LockReport(path=lock.path, sha256=lock.sha256, pins=len(lock.pins), problems=(*flaws, *drift))


def _drift(folder: Path, lock: Lock, recorded: Mapping[str, Mapping[str, str]]) -> Iterable[Problem]:
    """Return each way in which *lock* does not follow from its inputs, as far as these are known.

    Where one lock records the digests of its inputs all of `requirements/` must: taking a record away is no way out.
    """
    path = folder.parent / lock.path
    if path.parent == folder and (any(recorded.values()) or path.with_suffix(".in").is_file()):
        return _compiled(folder, lock, recorded[lock.path] if any(recorded.values()) else None)
    project = path.with_name("pyproject.toml")
    return _of_project(project, lock) if lock_formats.is_lock(path.name) and project.is_file() else ()


def _recorded(path: Path) -> Mapping[str, str]:
    """Return the digests of the inputs that the lock *path* was compiled from, as it records them."""
    return {found["name"]: found["sha256"] for found in _RECORDED.finditer(_text(path.read_bytes(), path.name))}


def _of_project(project: Path, lock: Lock) -> Iterator[Problem]:
    """Yield each requirement of the project beside *lock* that no pin of it satisfies."""
    declared = files.load_toml(project, dict[str, Any]).get("project", {})
    for line in declared.get("dependencies", []) if isinstance(declared, dict) else []:
        problem = _unsatisfied(_requirement(str(line), project.name), lock.pins)
        if problem:
            yield Problem(kind="drift", where=lock.path, message=f"{project.name}: {problem}")


def _compiled(folder: Path, lock: Lock, recorded: Mapping[str, str] | None) -> Iterator[Problem]:
    """Yield each way in which the lock of `requirements/NAME.in` does not follow from it, digests included where recorded."""
    name, where = lock.environment, lock.path
    try:
        actual = locks.input_digests(folder, name)
    except InputMissing:
        yield Problem(kind="drift", where=where, message="an input of it is missing")
        return
    known = actual if recorded is None else recorded
    for file in sorted(known.keys() | actual.keys()):
        if known.get(file) != actual.get(file):
            yield Problem(kind="drift", where=where, message=f"{file} changed since the lock was compiled")
    sources = [folder.parent / file for file in actual if not file.endswith(".txt")]
    replaced = {r.name for path in sources if path.suffix == ".overrides" for r in _requirements(path)}
    for path in sources:
        for requirement in _requirements(path):
            problem = _unsatisfied(requirement, lock.pins)
            if problem and (path.suffix == ".overrides" or requirement.name not in replaced):
                yield Problem(kind="drift", where=where, message=f"{path.name}: {problem}")


def _requirements(path: Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in _text(path.read_bytes(), path.name).splitlines())
    found = [_requirement(line, f"{_FOLDER}/{path.name}") for line in lines if line and not line.startswith(("#", "-"))]
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def _requirement(line: str, where: str) -> Requirement:
    try:
        found = Requirement(line)
    except InvalidRequirement as error:
        raise UsageError(f"{where}: {error}; expected one requirement per line") from error
    found.name = canonicalize_name(found.name)
    return found


def _unsatisfied(requirement: Requirement, pins: Sequence[Pin]) -> str:
    """Return why no pin satisfies *requirement*, "" when one does or its marker does not hold here."""
    if requirement.marker and not requirement.marker.evaluate():
        return ""
    versions = [pin.version for pin in pins if pin.name == requirement.name]
    if not versions:
        return f"{requirement.name} is not pinned"
    fits = any(not version or requirement.specifier.contains(version, prereleases=True) for version in versions)
    return "" if fits else f"{requirement} is not satisfied by {', '.join(versions)}"


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 ({error.reason}); write it as UTF-8") from error


STAGE = Stage(
    name="lock",
    summary="Judge that every environment is locked with hashes and matches its inputs",
    controls=("lock.hashed", "lock.current", "python.version"),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    takes_targets=True,
)
