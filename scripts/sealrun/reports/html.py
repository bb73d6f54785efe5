"""`report.html`: the release on one page, for a person without tools.

Rules: pure, so that the same values give the same bytes; one file, which loads nothing and runs nothing (its own content
security policy says so); every value is escaped; what a stage did not leave is said to be missing, what it left must be
readable.

The page is a subject of the signed statement, so it cannot hold the signature. It names the bundle's digest, since the bundle
does not hold the page.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from msgspec import Struct

from sealrun import __version__, files
from sealrun.errors import ToolFailed
from sealrun.evidence.statement import StageStatement
from sealrun.outcome import Finding, Outcome, OutcomeKind, Verdict
from sealrun.policy.model import Control, Plan
from sealrun.reports import frameworks, overview

_ORDER = ("lock", "sbom", "audit", "secrets", "model", "certify", "verify", "bundle")

_LIMITS = (
    "That the models were run as the records say. Whoever made the bundle could have written other records; "
    "repeat the run from the same files to find out.",
    "That the candidate is good. It was compared with its baseline on this evaluation text and by this measure alone.",
    "That a model has no hidden behaviour. Formats and digests were checked, not what the weights do.",
    "That there is no vulnerability. The audit knows what its advisory snapshot knew on the snapshot's day.",
    "That there is no secret. The scan finds what its rules describe, in the files named.",
    "That the releaser's machine was sound, or that the day of judgement is the day it was made. The signature says which key "
    "signed, nothing more.",
)


_BARRIERS = {
    "denied": "a barrier of the kernel's around every program",
    "opened": "no barrier that holds",
    "unused": "no program ran",
}
_LINK = re.compile(r"(?:evidence|statements|policy)/[A-Za-z0-9._+=@,/-]*|plan\.json")


class _Trust(Struct, frozen=True, kw_only=True):
    """The part of InvarLock's trust inputs that is told."""

    anchors: Mapping[str, Any] = {}


class Line(Struct, frozen=True, kw_only=True):
    """One control and how it ended; `not_judged` when no statement speaks of it."""

    part: str
    control: str
    title: str
    outcome: str
    seen: str = ""
    expected: str = ""
    remedy: str = ""
    evidence: str = ""
    warning: str = ""


class StageRow(Struct, frozen=True, kw_only=True):
    """One stage: its verdict, the tools it ran, what its network probes saw and what stood between them and it, how many files
    it left."""

    name: str
    verdict: str
    tools: tuple[str, ...] = ()
    network: str = "unused"
    files: int = 0
    error: str = ""

    @property
    def barrier(self) -> str:
        """What a statement shows of the barrier: behind anything but the kernel's own a stage never says denied."""
        return _BARRIERS[self.network]


class FindingRow(Struct, frozen=True, kw_only=True):
    """One finding of a scanner."""

    control: str
    rule: str
    where: str
    outcome: str
    severity: str
    message: str
    advisory: str


class ReportData(Struct, frozen=True, kw_only=True):
    """Everything on the page. `bundle` is the name of the tar, `bundle_sha256` its digest, `fingerprint` the release key's."""

    title: str
    verdict: str
    posture: str
    judged_at: str
    lines: tuple[Line, ...]
    stages: tuple[StageRow, ...]
    findings: tuple[FindingRow, ...]
    models: tuple[overview.Files, ...]
    figures: overview.Figures | None
    coverage: tuple[overview.Fact, ...]
    changes: tuple[overview.Change, ...]
    exemptions: tuple[overview.Exemption, ...]
    answers: tuple[frameworks.Answer, ...]
    keys: tuple[tuple[str, str], ...]
    bundle: str
    bundle_sha256: str = ""
    fingerprint: str
    sealrun: str = __version__
    limits: tuple[str, ...] = _LIMITS

    @property
    def parts(self) -> tuple[tuple[str, tuple[Line, ...]], ...]:
        """The checklist by part, in its own order."""
        return tuple((part, tuple(lines)) for part, lines in groupby(self.lines, lambda line: line.part))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many controls ended in each way, and how many warn."""
        return Counter(line.outcome for line in self.lines) + Counter(warnings=sum(bool(line.warning) for line in self.lines))


def render(data: ReportData) -> bytes:
    """Return the page for *data*."""
    return fill("report.html", report=data)


def fill(template: str, **values: object) -> bytes:
    """Return the page that *template* makes of *values*; every page of Sealrun is made here."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": "{:.5f}".format, "signed": "{:+.5f}".format, "source_hash": _source_hash}
    environment.filters |= {"bytes": _bytes, "link": _link}
    return environment.get_template(template).render(**values).encode()


def report_data(
    plan: Plan, statements: Mapping[str, StageStatement], evidence: Path, fingerprint: str, bundle_sha256: str
) -> ReportData:
    """Return the page's values from the *statements* by stage and the files below *evidence* that they name.

    Raises ToolFailed or VerificationFailed when a file that a statement names cannot be read as what it should be.
    """
    lines = tuple(_line(control, _said(control, statements)) for control in plan.checklist.control)
    ordered = [statements[name] for name in sorted(statements, key=_place)]
    return ReportData(
        title=plan.title,
        verdict=_verdict(lines, statements),
        posture=plan.release.posture.value,
        judged_at=plan.judged_at.isoformat(),
        lines=lines,
        stages=tuple(_stage(statement) for statement in ordered),
        findings=tuple(_finding(found) for statement in ordered for found in statement.predicate.findings),
        models=overview.models(plan, statements, evidence),
        figures=overview.figures(plan, statements, evidence),
        coverage=overview.coverage(statements, evidence),
        changes=overview.changes(statements, evidence),
        exemptions=overview.exemptions(plan),
        answers=frameworks.answers({said.control: said for found in ordered for said in found.predicate.outcomes}),
        keys=_keys(fingerprint, statements, evidence),
        bundle=f"{plan.title}.evidence.tar",
        bundle_sha256=bundle_sha256,
        fingerprint=fingerprint,
    )


def _keys(fingerprint: str, statements: Mapping[str, StageStatement], evidence: Path) -> tuple[tuple[str, str], ...]:
    """Return the keys behind the release, what each is for and its fingerprint."""
    found = [("Release key: signs this report, the bundle and every statement", fingerprint)]
    if "trust.json" in (statements["verify"].digests() if "verify" in statements else {}):
        anchors = files.decode(
            files.read_bytes(evidence / "verify" / "trust.json", "evidence"), _Trust, "trust.json", ToolFailed
        )
        found.append(
            ("InvarLock's evidence key: signs the certificate", anchors.anchors.get("evidence_signer_fingerprint", ""))
        )
    return tuple(found)


def _bytes(size: int | None) -> str:
    """Return a size for people."""
    if size is None:
        return "none"
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} B"


def _link(evidence: str) -> str:
    """Return the address of an evidence file beside this page; empty for anything else that a statement may say."""
    return evidence if _LINK.fullmatch(evidence) and ".." not in evidence else ""


def _source_hash(style: str) -> str:
    """Return the content security policy's name for an inline style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _place(stage: str) -> tuple[int, str]:
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER)), stage


def _said(control: Control, statements: Mapping[str, StageStatement]) -> Outcome | None:
    statement = statements.get(control.stage)
    said = statement.predicate.outcomes if statement else ()
    return next((outcome for outcome in said if outcome.control == control.id), None)


def _line(control: Control, said: Outcome | None) -> Line:
    common = {"part": control.part, "control": control.id, "title": control.title}
    if said is None:
        return Line(
            **common,
            outcome="not_judged",
            seen=f"no judgement from the stage {control.stage}",
            expected="an outcome",
            remedy=f"Run `nox -s {control.stage}` and read why it ended in an error.",
        )
    return Line(
        **common,
        outcome=said.outcome.value,
        seen=said.seen,
        expected=said.expected,
        remedy=said.remedy or control.solution,
        evidence=said.evidence,
        warning=said.warning,
    )


def _verdict(lines: tuple[Line, ...], statements: Mapping[str, StageStatement]) -> str:
    if any(s.predicate.verdict is Verdict.ERROR for s in statements.values()) or any(
        line.outcome == "not_judged" for line in lines
    ):
        return Verdict.ERROR.value
    failed = any(line.outcome == OutcomeKind.FAILED for line in lines)
    return (Verdict.FAILED if failed else Verdict.PASSED).value


def _stage(statement: StageStatement) -> StageRow:
    said = statement.predicate
    return StageRow(
        name=said.stage,
        verdict=said.verdict.value,
        tools=tuple(f"{tool.name} {tool.version}" for tool in said.tools),
        network=said.network,
        files=len(statement.subject),
        error=said.error,
    )


def _finding(found: Finding) -> FindingRow:
    package = f"{found.package} {found.version or ''}".strip() if found.package else ""
    path = f"{found.path}:{found.line}" if found.path and found.line else found.path or ""
    environment = f"({found.environment})" if found.environment else ""
    return FindingRow(
        control=found.control,
        rule=found.rule,
        where=" ".join(filter(None, (package, path, environment))),
        outcome=found.outcome.value,
        severity=found.severity.value,
        message=found.message,
        advisory=found.advisory or "",
    )
