"""Judge findings against the gates and the waivers, and deployment lines against the posture.

Rules: every finding ends in exactly one outcome and stays visible; a waiver holds for one rule (or its alias) on one target, on
its version and environment where it names them, from the day granted to the day it expires, both included; a waiver that is
expired or unused is itself a failure, one that lapses soon is a warning. A finding of the baseline is one that a waiver of the
baseline is about; when it is gone, that is no failure.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, structs

from sealrun.outcome import Finding, Outcome, OutcomeKind, Severity, check
from sealrun.policy.model import Plan, Posture, Waiver
from sealrun.policy.waivers import State, state

_RANK = {Severity.LOW: 1, Severity.MEDIUM: 2, Severity.HIGH: 3, Severity.CRITICAL: 4}
_LISTED = 3


class Judged(Struct, frozen=True, kw_only=True):
    """Findings with their outcomes, the waiver behind each waived one, what is wrong with waivers, and what soon will be."""

    findings: tuple[Finding, ...]
    waived: tuple[tuple[Finding, Waiver], ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that nothing excuses."""
        return tuple(finding for finding in self.findings if finding.outcome is OutcomeKind.FAILED)

    def outcome(self, control: str, *, seen: str, expected: str, remedy: str, evidence: str = "") -> Outcome:
        """Return the outcome of *control*: failed, waived or passed. `seen` is what was looked at."""
        complaints = [*(finding.message for finding in self.failed), *self.problems]
        warning = listed(self.warnings)
        if complaints:
            text = f"{seen}: {listed(complaints)}"
            return check(control, False, seen=text, expected=expected, remedy=remedy, evidence=evidence, warning=warning)
        excused = any(finding.outcome is OutcomeKind.WAIVED for finding in self.findings)
        kind = OutcomeKind.WAIVED if excused else OutcomeKind.PASSED
        text = f"{seen}: {listed([_excuse(f, w) for f, w in self.waived])}" if self.waived else seen
        return Outcome(control=control, outcome=kind, seen=text, expected=expected, evidence=evidence, warning=warning)


def judge_findings(
    plan: Plan, control: str, findings: Sequence[Finding], *, aliases: Mapping[str, frozenset[str]] | None = None,
    unused_fails: bool = True,
) -> Judged:  # fmt: skip
    """Let the failed *findings* of *control* meet the plan's waivers. `aliases` gives the other names of a rule.

    With `unused_fails` off (something else than the release is judged) a waiver that nothing matches is left alone.
    """
    granted = [waiver for waiver in plan.waivers.waiver if waiver.control == control]
    waivers = [*granted, *(waiver for waiver in plan.waivers.baseline if waiver.control == control)]
    states = {waiver: state(waiver, plan.gates.waivers, plan.judged_at) for waiver in waivers}
    used: set[Waiver] = set()
    judged: list[Finding] = []
    waived: list[tuple[Finding, Waiver]] = []
    for finding in findings:
        matching = list(_matching(finding, waivers, (aliases or {}).get(finding.rule, frozenset())))
        used |= set(matching)
        valid = next((waiver for waiver in matching if states[waiver] is not State.EXPIRED), None)
        if valid and finding.outcome is OutcomeKind.FAILED:
            finding = structs.replace(finding, outcome=OutcomeKind.WAIVED)
            waived.append((finding, valid))
        judged.append(finding)
    unused = [waiver for waiver in granted if unused_fails and waiver not in used]
    expired = [waiver for waiver in waivers if states[waiver] is State.EXPIRED and (waiver in granted or waiver in used)]
    problems = {
        **dict.fromkeys(unused, "unused: nothing was found that it is about"),
        **{waiver: f"expired on {waiver.expires}" for waiver in expired},
    }
    soon = {w: f"expires on {w.expires}, {(w.expires - plan.judged_at).days} days from the day of judgement; mend or renew"
            for w in waivers if states[w] is State.EXPIRING}  # fmt: skip
    return Judged(findings=tuple(judged), waived=tuple(waived), problems=_said(problems), warnings=_said(soon))


def _said(said: Mapping[Waiver, str]) -> tuple[str, ...]:
    return tuple(sorted({f"waiver {waiver.rule} on {waiver.target}: {what}" for waiver, what in said.items()}))


def deployment_check(
    plan: Plan, control: str, ok: bool, *, seen: str, expected: str, remedy: str, evidence: str = ""
) -> Outcome:
    """Return the outcome of a deployment line: what fails in production passes in research, with a loud warning."""
    if ok or plan.release.posture is Posture.PRODUCTION:
        return check(control, ok, seen=seen, expected=expected, remedy=remedy, evidence=evidence)
    warning = f"NOT FOR PRODUCTION: {seen}, expected {expected}; {remedy}"
    return check(control, True, seen=seen, expected=expected, evidence=evidence, warning=warning)


def counts(severity: Severity, *, fail_on: Severity, unknown_is: Severity) -> bool:
    """Return whether a finding of *severity* is at or above `fail_on`; a level still unknown counts."""
    level = unknown_is if severity is Severity.UNKNOWN else severity
    return _RANK.get(level, max(_RANK.values())) >= _RANK.get(fail_on, 0)


def worst(severities: Sequence[Severity]) -> Severity:
    """Return the highest known level, unknown when there is none."""
    return max(severities, key=lambda severity: _RANK.get(severity, 0), default=Severity.UNKNOWN)


def listed(texts: Sequence[str]) -> str:
    """Return the first few *texts* and how many more there are."""
    more = len(texts) - _LISTED
    return "; ".join(texts[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _matching(finding: Finding, waivers: Sequence[Waiver], aliases: frozenset[str]) -> Iterator[Waiver]:
    rules = {finding.rule, *aliases} | ({finding.advisory} if finding.advisory else set())
    targets = {finding.package, finding.path, finding.fingerprint} - {None}
    for waiver in waivers:
        if (
            waiver.rule in rules
            and waiver.target in targets
            and waiver.version in ("", finding.version)
            and waiver.environment in ("", finding.environment)
        ):
            yield waiver


def _excuse(finding: Finding, waiver: Waiver) -> str:
    return f"{finding.rule} on {waiver.target} waived until {waiver.expires}"
