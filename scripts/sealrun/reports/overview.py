"""What a release was looked at with: how much each look covered, for the report.

Rules: numbers are counted in the evidence that a statement names; a look without evidence is said to be missing; evidence that
is named but cannot be read is a failure.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from sealrun import digest, files
from sealrun.errors import ToolFailed
from sealrun.evidence.statement import StageStatement
from sealrun.reports import snapshot
from sealrun.reports.pip_audit import Questions
from sealrun.reports.snapshot import Snapshot
from sealrun.reports.trufflehog3 import SCAN, SecretScan


class Fact(Struct, frozen=True, kw_only=True):
    """One look and what it covered; `sha256` is the digest of what it was held against, when there is one."""

    name: str
    value: str
    sha256: str = ""


class _Sbom(Struct, frozen=True, kw_only=True):
    """The part of a CycloneDX document that is counted."""

    format: Literal["CycloneDX"] = field(name="bomFormat")
    components: tuple[dict[str, Any], ...]


def facts(statements: Mapping[str, StageStatement], evidence: Path) -> tuple[Fact, ...]:
    """Return what the stages behind *statements* covered. Raises ToolFailed when their evidence cannot be read."""
    looks: tuple[tuple[str, str, Callable[[Path], Fact]], ...] = (
        ("audit", snapshot.SNAPSHOT, _advisories),
        ("audit", "questions.json", _audited),
        ("secrets", SCAN, _scanned),
    )
    found = []
    for stage, name, read in looks:
        left = statements[stage].digests() if stage in statements else {}
        found.append(read(evidence / stage / name) if name in left else Fact(name=stage, value=f"no {name}: not looked at"))
    return (*found, *_sboms(statements, evidence))


def _advisories(path: Path) -> Fact:
    taken = _read(path, Snapshot)
    value = f"as of {taken.as_of}, {taken.records} records of which {taken.facts} are about locked packages; {taken.origin}"
    return Fact(name="advisory snapshot", value=value, sha256=taken.sha256)


def _audited(path: Path) -> Fact:
    return Fact(name="audited", value=f"{len(_read(path, Questions).questions)} packages, each asked about")


def _scanned(path: Path) -> Fact:
    scan = _read(path, SecretScan)
    value = f"{len(scan.scanned)} files by {scan.rules} rules"
    return Fact(name="scanned for secrets", value=value, sha256=scan.rules_sha256)


def _sboms(statements: Mapping[str, StageStatement], evidence: Path) -> list[Fact]:
    """Return one fact for each environment's SBOM."""
    left = statements["sbom"].digests() if "sbom" in statements else {}
    names = [name for name in left if name.endswith(".cdx.json")]
    if not names:
        return [Fact(name="SBOM", value="none")]
    return [_sbom(evidence / "sbom" / name, left[name]) for name in sorted(names)]


def _sbom(path: Path, sha256: digest.Sha256) -> Fact:
    count = len(_read(path, _Sbom).components)
    return Fact(name=f"SBOM {path.name.removesuffix('.cdx.json')}", value=f"{count} components", sha256=sha256)


def _read[T](path: Path, kind: type[T]) -> T:
    return files.decode(files.read_bytes(path, "evidence"), kind, path.name, ToolFailed)
