"""What the evidence of a release shows at a glance, for the report: figures, digests, and how much each look covered.

Rules: numbers are read or counted in the evidence that a statement names; what a stage did not leave is said to be missing;
what it left and cannot be read is a failure.
"""

from collections.abc import Callable, Mapping, Sequence
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


class Change(Struct, frozen=True, kw_only=True):
    """One file of the two models: `same`, `changed`, `added` or `dropped`, its size in bytes in each, None where it is not."""

    name: str
    kind: str
    baseline: int | None
    candidate: int | None


class Exemption(Struct, frozen=True, kw_only=True):
    """One waiver of the policy: what it accepts, why, who says so, until when, and how many days are left on the day judged."""

    control: str
    rule: str
    target: str
    reason: str
    owner: str
    expires: str
    days: int


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
    def at(self) -> Mapping[str, int]:
        """Where 1, the ratio, the interval's ends and the limit stand on an axis of a thousand units."""
        values = {"one": 1.0, "ratio": self.ratio, "lower": self.lower, "upper": self.upper, "limit": self.limit}
        least, most = min(values.values()), max(values.values())
        span = most - least or 1.0
        return {name: round(40 + 920 * (value - least) / span) for name, value in values.items()}

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


def changes(statements: Statements, evidence: Path) -> tuple[Change, ...]:
    """Return what differs between the baseline's and the candidate's files, sorted by name. Raises VerificationFailed."""
    if artifacts.FILE not in _left(statements, "model"):
        return ()
    found = artifacts.load(evidence / "model")
    old, new = ({entry.path: entry for entry in role} for role in (found.baseline, found.candidate))
    return tuple(_change(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()))


def _change(name: str, old: digest.FileDigest | None, new: digest.FileDigest | None) -> Change:
    kind = "dropped" if new is None else "added" if old is None else "same" if old.sha256 == new.sha256 else "changed"
    return Change(name=name, kind=kind, baseline=old.size if old else None, candidate=new.size if new else None)


def exemptions(plan: Plan) -> tuple[Exemption, ...]:
    """Return the waivers of the policy, the one that ends first on top."""
    found = [
        Exemption(
            control=waiver.control, rule=waiver.rule, target=waiver.target, reason=waiver.reason, owner=waiver.owner,
            expires=waiver.expires.isoformat(), days=(waiver.expires - plan.judged_at).days,
        )
        for waiver in plan.waivers.waiver
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: (one.days, one.control, one.rule, one.target)))


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
    each = [_sbom(evidence / "sbom" / name, sha256) for name, sha256 in boms]
    total = Fact(
        name="SBOMs", value=f"{len(boms)} CycloneDX documents, {_components(evidence, boms)} different components in all"
    )
    return (*found, total, *each)


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
    value = f"{len(scan.scanned)} files by {scan.rules} rules" + (", and the history" if scan.history else "")
    return Fact(name="Scanned for secrets", value=value, sha256=scan.rules_sha256)


def _components(evidence: Path, boms: Sequence[tuple[str, digest.Sha256]]) -> int:
    """Return how many components there are, each counted once by its purl, or by name and version without one."""
    seen = set()
    for name, _ in boms:
        for found in _read(evidence / "sbom" / name, _Bom).components:
            seen.add(str(found.get("purl") or (found.get("name"), found.get("version"))))
    return len(seen)


def _sbom(path: Path, sha256: digest.Sha256) -> Fact:
    value = f"{len(_read(path, _Bom).components)} components"
    return Fact(name=f"SBOM of {path.name.removesuffix(_SBOM)}", value=value, sha256=sha256)


def _read[T](path: Path, kind: type[T]) -> T:
    return files.decode(files.read_bytes(path, "evidence"), kind, path.name, ToolFailed)
