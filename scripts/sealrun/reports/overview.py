"""What the evidence of a release shows at a glance, for the report: figures, digests, and how much each look covered.

Rules: numbers are read or counted in the evidence that a statement names; what a stage did not leave is said to be missing;
what it left and cannot be read is a failure.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from sealrun import digest, files
from sealrun.errors import ToolFailed
from sealrun.evidence.statement import StageStatement
from sealrun.policy.model import ModelRef, Plan
from sealrun.reports import artifacts, invarlock, snapshot
from sealrun.reports.pip_audit import Questions
from sealrun.reports.snapshot import Snapshot
from sealrun.reports.trufflehog3 import SCAN, SecretScan

_BAR = 1000  # units of a bar's full width
_COMPARISON = "certificate/reports/evaluation.report.json"
_SBOM = ".cdx.json"

type Statements = Mapping[str, StageStatement]


class Files(Struct, frozen=True, kw_only=True):
    """The files of one role (baseline, candidate, data): name and sha256."""

    role: str
    origin: str
    files: tuple[tuple[str, digest.Sha256], ...]


class Bar(Struct, frozen=True, kw_only=True):
    """One bar of the comparison; `width` in thousandths of the longest."""

    name: str
    value: float
    width: int
    over: bool


class Figures(Struct, frozen=True, kw_only=True):
    """The comparison: means in nats per UTF-8 byte, and the interval of their ratio against its limit."""

    engine: str
    profile: str
    cases: int
    baseline: float
    candidate: float
    ratio: float
    lower: float
    upper: float
    limit: float

    @property
    def limit_value(self) -> float:
        """The candidate's mean at the limit."""
        return self.baseline * self.limit

    @property
    def limit_at(self) -> int:
        """Where the limit is marked on a bar."""
        return self._width(self.limit_value) - 3

    @property
    def bars(self) -> tuple[Bar, Bar]:
        """The two bars; the candidate's is over when its interval ends above the limit."""
        over = self.upper > self.limit
        return (
            Bar(name="baseline", value=self.baseline, width=self._width(self.baseline), over=False),
            Bar(name="candidate", value=self.candidate, width=self._width(self.candidate), over=over),
        )

    def _width(self, value: float) -> int:
        return round(_BAR * value / max(self.baseline, self.candidate, self.limit_value))


class Fact(Struct, frozen=True, kw_only=True):
    """One look and what it covered; `sha256` is the digest of what it was held against, when there is one."""

    name: str
    value: str
    sha256: str = ""


def models(plan: Plan, statements: Statements, evidence: Path) -> tuple[Files, ...]:
    """Return the digests that the model stage found; none when it left none. Raises VerificationFailed."""
    if artifacts.FILE not in _left(statements, "model"):
        return ()
    found, release = artifacts.load(evidence / "model"), plan.release
    return tuple(
        Files(role=role, origin=origin, files=tuple((entry.path, entry.sha256) for entry in manifest))
        for role, origin, manifest in (
            ("baseline", _origin(release.baseline), found.baseline),
            ("candidate", _origin(release.candidate), found.candidate),
            ("data", "local file", found.data),
        )
    )


def figures(plan: Plan, statements: Statements, evidence: Path) -> Figures | None:
    """Return the comparison; None when certify left no certificate or InvarLock found no ratio. Raises ToolFailed."""
    if _COMPARISON not in _left(statements, "certify"):
        return None
    metric = invarlock.load(evidence / "certify" / _COMPARISON, invarlock.Comparison, ToolFailed).metrics[0]
    if metric.baseline_mean is None or metric.subject_mean is None or metric.ratio is None or metric.interval is None:
        return None
    profile = plan.release.certify.profile
    tools = [tool for tool in statements["certify"].predicate.tools if tool.name == "invarlock"]
    return Figures(
        engine=" ".join(f"InvarLock {tool.version}" for tool in tools),
        profile=profile,
        cases=metric.count,
        baseline=metric.baseline_mean,
        candidate=metric.subject_mean,
        ratio=metric.ratio,
        lower=metric.interval.lower,
        upper=metric.interval.upper,
        limit=plan.gates.profile[profile].max_ratio,
    )


def coverage(statements: Statements, evidence: Path) -> tuple[Fact, ...]:
    """Return what audit, secrets and sbom covered. Raises ToolFailed."""
    looks: tuple[tuple[str, str, Callable[[Path], Fact]], ...] = (
        ("audit", snapshot.SNAPSHOT, _advisories),
        ("audit", "questions.json", _audited),
        ("secrets", SCAN, _scanned),
    )
    found = [
        read(evidence / stage / name)
        if name in _left(statements, stage)
        else Fact(name=stage, value=f"not looked at: no {name}")
        for stage, name, read in looks
    ]
    boms = [(name, sha256) for name, sha256 in sorted(_left(statements, "sbom").items()) if name.endswith(_SBOM)]
    if not boms:
        return (*found, Fact(name="SBOM", value="not made"))
    return (*found, *(_sbom(evidence / "sbom" / name, sha256) for name, sha256 in boms))


class _Bom(Struct, frozen=True, kw_only=True):
    """The part of a CycloneDX document that is counted."""

    format: Literal["CycloneDX"] = field(name="bomFormat")
    components: tuple[dict[str, Any], ...]


def _left(statements: Statements, stage: str) -> Mapping[str, digest.Sha256]:
    """Return the files that *stage* left, name to sha256."""
    return statements[stage].digests() if stage in statements else {}


def _origin(model: ModelRef) -> str:
    source = model.source
    return f"{source.repository} at {source.revision}" if source.repository else f"local folder {model.path}"


def _advisories(path: Path) -> Fact:
    taken = _read(path, Snapshot)
    value = f"as of {taken.as_of}, {taken.records} records, {taken.facts} of them about packages in scope; {taken.origin}"
    return Fact(name="Advisory snapshot", value=value, sha256=taken.sha256)


def _audited(path: Path) -> Fact:
    return Fact(name="Audited", value=f"{len(_read(path, Questions).questions)} packages, each asked about")


def _scanned(path: Path) -> Fact:
    scan = _read(path, SecretScan)
    value = f"{len(scan.scanned)} files by {scan.rules} rules"
    return Fact(name="Scanned for secrets", value=value, sha256=scan.rules_sha256)


def _sbom(path: Path, sha256: digest.Sha256) -> Fact:
    value = f"{len(_read(path, _Bom).components)} components"
    return Fact(name=f"SBOM of {path.name.removesuffix(_SBOM)}", value=value, sha256=sha256)


def _read[T](path: Path, kind: type[T]) -> T:
    return files.decode(files.read_bytes(path, "evidence"), kind, path.name, ToolFailed)
