"""lock: is every environment pinned and hashed, and does each lock match its inputs? Judged offline, from the files alone.

Rules: a pin without a hash, a version or a plain name is a flaw; an input whose digest is not the one recorded in the lock is
drift, and so is a requirement that no pin satisfies; an environment without a lock, or a lock without an input, fails.
"""

import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sealrun import digest, files, locks
from sealrun.errors import InputMissing, UsageError
from sealrun.outcome import Finding, Judgement, OutcomeKind, check
from sealrun.reports.requirements import Pin, parse_lock
from sealrun.stage import Context, Stage, Work, read_report

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


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    if context.targets:
        return {path.as_posix(): digest.of_bytes(files.read_bytes(path, "lock")) for path in context.targets}
    folder = context.root / "requirements"
    names = [name for name in files.walk_files(folder) if Path(name).suffix in (".in", ".txt", ".overrides")]
    return {f"requirements/{entry.path}": entry.sha256 for entry in digest.describe_files(folder, names)}


def _gather(context: Context, work: Work) -> None:
    if context.targets:
        reports = [_examine(path, path.name, ()) for path in sorted(context.targets)]
    else:
        folder = context.root / "requirements"
        reports = [_examine_pair(folder, name) for name in sorted({path.stem for path in folder.glob("*.in")} | _locks(folder))]
    files.write_json(work.out / "locks.json", LocksReport(python=platform.python_version(), locks=tuple(reports)))


def _judge(context: Context) -> Judgement:
    report = read_report(context.evidence("lock") / "locks.json", LocksReport)
    problems = [problem for lock in report.locks for problem in lock.problems]
    unhashed = [problem for problem in problems if problem.kind == "flaw"]
    drifted = [problem for problem in problems if problem.kind == "drift"]
    pins = sum(lock.pins for lock in report.locks)
    counted = f"{len(report.locks)} locks, {pins} pins"
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


def _locks(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.txt")}


def _examine_pair(folder: Path, name: str) -> LockReport:
    """Examine `NAME.txt` against `NAME.in` and what that includes."""
    lock, source = folder / f"{name}.txt", folder / f"{name}.in"
    if not lock.is_file():
        problem = Problem(kind="drift", where=f"requirements/{source.name}", message=f"has no {lock.name}")
        return LockReport(path=f"requirements/{lock.name}", sha256=digest.of_bytes(b""), pins=0, problems=(problem,))
    return _examine(lock, f"requirements/{lock.name}", tuple(_drift(folder, name)))


def _examine(path: Path, where: str, drift: tuple[Problem, ...]) -> LockReport:
    data = files.read_bytes(path, "lock")
    pins = parse_lock(_text(data, where), where)
    flaws = tuple(
        Problem(kind="flaw", where=where, line=pin.line, message=f"{pin.name}: {pin.flaw}") for pin in pins if pin.flaw
    )
    if not pins:
        flaws = (Problem(kind="flaw", where=where, message="pins nothing"),)
    return LockReport(path=where, sha256=digest.of_bytes(data), pins=len(pins), problems=flaws + drift)


def _drift(folder: Path, name: str) -> Iterator[Problem]:
    """Yield each way in which the lock of environment *name* does not follow from its inputs."""
    where = f"requirements/{name}.txt"
    text = _text(files.read_bytes(folder / f"{name}.txt", "lock"), where)
    recorded = {found["name"]: found["sha256"] for found in _RECORDED.finditer(text)}
    try:
        actual = locks.input_digests(folder, name)
    except InputMissing:
        yield Problem(kind="drift", where=where, message="an input of it is missing")
        return
    for file in sorted(recorded.keys() | actual.keys()):
        if recorded.get(file) != actual.get(file):
            yield Problem(kind="drift", where=where, message=f"{file} changed since the lock was compiled")
    pins = {pin.name: pin for pin in parse_lock(text, where)}
    sources = [folder.parent / file for file in actual if not file.endswith(".txt")]
    replaced = {r.name for path in sources if path.suffix == ".overrides" for r in _requirements(path)}
    for path in sources:
        for requirement in _requirements(path):
            problem = _unsatisfied(requirement, pins)
            if problem and (path.suffix == ".overrides" or requirement.name not in replaced):
                yield Problem(kind="drift", where=where, message=f"{path.name}: {problem}")


def _requirements(path: Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in _text(path.read_bytes(), path.name).splitlines())
    try:
        found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    except InvalidRequirement as error:
        raise UsageError(f"requirements/{path.name}: {error}; expected one requirement per line") from error
    for requirement in found:
        requirement.name = canonicalize_name(requirement.name)
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def _unsatisfied(requirement: Requirement, pins: Mapping[str, Pin]) -> str:
    pin = pins.get(requirement.name)
    if pin is None:
        return f"{requirement.name} is not pinned"
    if pin.version and not requirement.specifier.contains(pin.version, prereleases=True):
        return f"{requirement} is not satisfied by {pin.version}"
    return ""


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
