"""SBOM: what is in every environment, with hashes, as CycloneDX 1.6?

Rules: an environment that a release installs, and the one that runs Sealrun, are read as installed (licences, edges); any
other lock is read as written, and its document says so; which of the two never depends on what happens to be installed;
hashes come from the lock; every document is held against the strict schema, and its components against the lock's pins.

Leaves: `NAME.cdx.json` for each lock, `sbom.json` over all of them, `environments.json` (what was expected), `validation.json`.
"""

import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from sealrun import digest, files, settings, venvs
from sealrun.engines import engine_of
from sealrun.errors import ToolFailed
from sealrun.outcome import Finding, Judgement, Outcome, OutcomeKind, check
from sealrun.policy.judge import listed
from sealrun.policy.model import Plan
from sealrun.reports import cyclonedx, lock_formats, requirements
from sealrun.reports.cyclonedx import Document
from sealrun.reports.lockfiles import Lock, lock_files, read_locks
from sealrun.stage import Context, Needs, Stage, Work, read_report
from sealrun.venvs import Environment

MERGED = "sbom.json"
_RUNNER = "runner"
_SUFFIX = ".cdx.json"
_AT_ONCE = 2
_TOOL = Environment(name="sbom", smoke=("cyclonedx-py", "--version"))
_ALWAYS = (
    _TOOL,
    Environment(name="audit", smoke=("pip-audit", "--version")),
    Environment(name="model", smoke=("picklescan", "--help")),
    Environment(name="secrets", smoke=("trufflehog3", "--help")),
)


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lock: its environment, its file, and the name and version of each pin that applies here."""

    environment: str
    path: str
    pins: tuple[tuple[str, str], ...]


class Environments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`environments.json`."""

    environments: tuple[Expected, ...]


class Validation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`validation.json`: the first violation of each document, by file name."""

    violations: dict[str, str | None]


def publish(context: Context, target: Path) -> None:
    """Copy the document over all environments to *target*; its folder must exist. Raises InputMissing, VerificationFailed."""
    context.upstream("sbom")
    files.write_bytes(target, files.read_bytes(context.evidence("sbom") / MERGED, "sbom"))


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    locks = read_locks(context.root, context.targets)
    return {
        **{lock.path: lock.sha256 for lock in locks},
        **{
            f"installed/{lock.environment}": digest.of_json(sorted(path.name for path in folder.glob("*.dist-info")))
            for lock in locks
            if (folder := _packages(context, lock))
        },
    }


def _gather(context: Context, work: Work) -> None:
    locks = read_locks(context.root, context.targets)
    arguments = [_arguments(context, work, number, lock) for number, lock in enumerate(locks)]
    running = []
    for number in range(_AT_ONCE):
        job = work.tmp / f"job-{number}.json"
        files.write_json(job, arguments[number::_AT_ONCE])
        running.append(work.start(f"cyclonedx-py-{number}", "sbom", work.inside("write_sboms.py", str(job))))
    for program in running:
        work.finish(program)
    documents = _joined(context, work, locks)
    expected = tuple(_expected(lock) for lock in locks)
    files.write_json(work.out / "environments.json", Environments(environments=expected))
    report = work.tmp / "validation.json"
    work.run("validate", "sbom", work.inside("validate_sbom.py", str(report), *map(str, documents)))
    validation = Validation(violations=read_report(report, dict[str, str | None]))
    files.write_json(work.out / "validation.json", validation)


def _arguments(context: Context, work: Work, number: int, lock: Lock) -> tuple[str, ...]:
    """Return cyclonedx-py's arguments for *lock*: its environment where a release installs it, else the lock itself."""
    common = ("--output-reproducible", "--no-validate", "--sv", "1.6", "--of", "JSON", "-o", str(_raw(work, number)))
    if python := _python(context, lock):
        return "environment", *common, str(python)
    path = lock_files(context.root, context.targets)[lock.environment]
    if lock_formats.is_lock(path.name):
        path = work.tmp / f"lock-{number}.txt"
        files.write_bytes(path, requirements.write(lock.pins).encode())
    return "requirements", *common, str(path)


def _python(context: Context, lock: Lock) -> Path | None:
    """Return the interpreter of the environment installed from *lock*, None when it is read as written."""
    if context.targets or context.home:
        return None
    if lock.environment == _RUNNER:
        return Path(settings.interpreter())
    installed = lock.environment in _installed(context)
    return venvs.existing(context.root, lock.environment).python if installed else None


def _chosen(plan: Plan) -> tuple[Environment, ...]:
    """Return the environments that the engine and the runtimes of a release need."""
    engine = engine_of(plan)
    return engine.needs(plan).environments + engine.verify_needs(plan).environments


def _installed(context: Context) -> set[str]:
    return {environment.name for environment in (*_ALWAYS, *_chosen(context.plan))}


def _packages(context: Context, lock: Lock) -> Path | None:
    python = _python(context, lock)
    if python is None or lock.environment == _RUNNER:
        return python and Path(sysconfig.get_path("purelib"))
    return Path(sysconfig.get_path("purelib", vars={"base": str(python.parent.parent)}))


def _joined(context: Context, work: Work, locks: Sequence[Lock]) -> list[Path]:
    """Write one document per lock, and one over all; return their paths."""
    tool = venvs.locked_version(venvs.lock_path(context.tools, "sbom"), "cyclonedx-bom")
    joined: dict[str, dict[str, Any]] = {}
    for number, lock in enumerate(locks):
        path = _raw(work, number)
        if not path.is_file():
            raise ToolFailed(f"{lock.path}: cyclonedx-py wrote no document; read its log, then run `nox -s sbom` again")
        written = cyclonedx.parse_written(files.read_bytes(path, "sbom"), f"cyclonedx-py on {lock.path}")
        installed = _python(context, lock) is not None
        joined[_file(lock.environment)] = cyclonedx.join(written, lock, installed=installed, tool=tool)
    joined[MERGED] = cyclonedx.combine(list(joined.values()), tool=tool)
    for name, document in joined.items():
        files.write_json(work.out / name, document)
    return [work.out / name for name in joined]


def _raw(work: Work, number: int) -> Path:
    return work.tmp / f"raw-{number}.json"


def _file(environment: str) -> str:
    return environment.replace("/", "--") + _SUFFIX


def _expected(lock: Lock) -> Expected:
    pins = sorted((pin.name, pin.version) for pin in lock.pins if pin.applies or pin.flaw)
    return Expected(environment=lock.environment, path=lock.path, pins=tuple(pins))


def _judge(context: Context) -> Judgement:
    folder = context.evidence("sbom")
    expected = read_report(folder / "environments.json", Environments).environments
    validation = read_report(folder / "validation.json", Validation)
    documents = {lock.environment: _document(folder / _file(lock.environment)) for lock in expected}
    invalid = tuple(_invalid(validation, {_file(lock.environment): lock for lock in expected}))
    gaps = tuple(gap for lock in expected for gap in _gaps(lock, documents[lock.environment]))
    return Judgement(outcomes=(_generated(documents, invalid), _complete(documents, gaps)), findings=(*invalid, *gaps))


def _document(path: Path) -> Document:
    return read_report(path, Document)


def _invalid(validation: Validation, locks: Mapping[str, Expected]) -> Iterator[Finding]:
    """Yield each document that breaks the schema or was not held against it."""
    for name in sorted({*locks, MERGED}):
        if name not in validation.violations:
            yield _finding("sbom.generated", "not-validated", f"{name}: was not held against the schema", path=name)
        elif violation := validation.violations[name]:
            yield _finding("sbom.generated", "invalid", f"{name}: breaks the schema ({violation[:200]})", path=name)


def _gaps(lock: Expected, document: Document) -> Iterator[Finding]:
    """Yield what is pinned and not named, named and not pinned, or named without a hash."""
    pinned = set(lock.pins)
    named = {(component.name, component.version) for component in document.components}
    hashed = {(component.name, component.version) for component in document.components if component.hashes}
    where = {"path": lock.path, "environment": lock.environment}
    for name, version in sorted(pinned - named):
        text = f"{lock.path}: pins {name} {version}, which its SBOM does not name"
        yield _finding("sbom.complete", "missing", text, package=name, version=version, **where)
    for name, version in sorted(named - pinned):
        text = f"{lock.path}: its environment holds {name} {version}, which it does not pin"
        yield _finding("sbom.complete", "not-pinned", text, package=name, version=version, **where)
    for name, version in sorted((pinned & named) - hashed):
        text = f"{lock.path}: {name} {version} has no hash"
        yield _finding("sbom.complete", "no-hash", text, package=name, version=version, **where)
    if not pinned:
        yield _finding("sbom.complete", "empty", f"{lock.path}: pins nothing", **where)


def _finding(control: str, rule: str, message: str, **fields: str) -> Finding:
    return Finding(control=control, rule=rule, outcome=OutcomeKind.FAILED, message=message, **fields)  # type: ignore[arg-type]


def _generated(documents: Mapping[str, Document], invalid: Sequence[Finding]) -> Outcome:
    counted = f"{len(documents)} SBOMs and one over all of them, each valid CycloneDX 1.6"
    return check(
        "sbom.generated", not invalid, seen=listed([each.message for each in invalid]) if invalid else counted,
        expected="one valid CycloneDX 1.6 document for every lock",
        remedy="read logs/sbom/validate.stderr and the document named, then run `nox -s sbom` again",
        evidence=f"evidence/sbom/{MERGED}",
    )  # fmt: skip


def _complete(documents: Mapping[str, Document], gaps: Sequence[Finding]) -> Outcome:
    components = sum(len(document.components) for document in documents.values())
    counted = f"{components} components in {len(documents)} environments, each pinned and hashed"
    return check(
        "sbom.complete", not gaps, seen=listed([gap.message for gap in gaps]) if gaps else counted,
        expected="components equal the pins of the lock, each with a hash",
        remedy="install the environment from its lock again: remove its folder below .nox/venvs (for runner: .venv, then "
        "scripts/bootstrap.py) and run `nox -s sbom`", evidence="evidence/sbom/environments.json",
    )  # fmt: skip


STAGE = Stage(
    name="sbom",
    summary="Write and check a CycloneDX SBOM for every environment",
    controls=("sbom.generated", "sbom.complete"),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    takes_targets=True,
    environments=(_TOOL,),
    also=lambda plan: Needs(environments=(*_ALWAYS, *_chosen(plan))),
    tools=(("cyclonedx-bom", "sbom"), ("cyclonedx-python-lib", "sbom")),
)
