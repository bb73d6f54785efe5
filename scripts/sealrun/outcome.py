"""What a gate says: outcomes per control, findings behind them, one verdict.

Rules: every control ends in exactly one outcome; `failed` needs something seen, something expected and something to do;
a verdict is failed when any outcome failed, and `error` is said by the runner alone, when no judgement was reached.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct


class OutcomeKind(StrEnum):
    PASSED = "passed"
    WAIVED = "waived"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    UNKNOWN = "unknown"


class Outcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One control's outcome: what was seen, what was expected, what to do, and where the evidence lies."""

    control: str
    outcome: OutcomeKind
    seen: str
    expected: str
    remedy: str = ""
    evidence: str = ""
    warning: str = ""


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing a scanner found; fields apply as the control has them. Never holds a secret."""

    control: str
    rule: str
    outcome: OutcomeKind
    message: str
    severity: Severity = Severity.UNKNOWN
    path: str | None = None
    line: int | None = None
    package: str | None = None
    version: str | None = None
    advisory: str | None = None
    environment: str | None = None
    fingerprint: str | None = None


class Judgement(Struct, frozen=True, kw_only=True):
    """What a stage's judge returns: outcomes, findings, and derived reports (file name to bytes) to keep as evidence."""

    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...] = ()
    reports: dict[str, bytes] = {}


def verdict(outcomes: Sequence[Outcome]) -> Verdict:
    """Return the verdict on *outcomes*; no outcome at all is an error, never a pass."""
    if not outcomes:
        return Verdict.ERROR
    return Verdict.FAILED if any(o.outcome is OutcomeKind.FAILED for o in outcomes) else Verdict.PASSED


def check(
    control: str, ok: bool, *, seen: str, expected: str, remedy: str = "", evidence: str = "", warning: str = ""
) -> Outcome:
    """Return passed or failed for *control*; a passed outcome carries no remedy."""
    kind = OutcomeKind.PASSED if ok else OutcomeKind.FAILED
    return Outcome(
        control=control,
        outcome=kind,
        seen=seen,
        expected=expected,
        remedy="" if ok else remedy,
        evidence=evidence,
        warning=warning,
    )
