"""Exceptions for people: propose one from a finding, record today's findings as a baseline, list what lapses when.

Rules: a proposal leaves empty what only a person can say, and is refused by the loader until somebody said it; a baseline takes
the findings that are open now, once; nothing here grants anything: a file has to be committed for that.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from msgspec import Struct

from sealrun import files
from sealrun.errors import InputMissing, UsageError
from sealrun.evidence import statement as statements
from sealrun.outcome import Finding, OutcomeKind, Severity
from sealrun.policy import waivers
from sealrun.policy.model import Plan, Waiver
from sealrun.policy.waivers import KINDS, State, state

ALLOWLIST = Path("docs", "pip-audit-allowlist.md")
_HEAD = """# Accepted advisories

Generated from `policy/waivers.toml` and `policy/baseline.toml` by `invoke policy.allowlist`; do not edit. What each field
means, and what is refused: [policy/README.md](../policy/README.md).
"""


class Words(Struct, frozen=True, kw_only=True):
    """What people have to say for an exception; empty where nobody said it yet."""

    reason: str = ""
    owner: str = ""
    approver: str = ""
    link: str = ""


def open_findings(out: Path) -> tuple[Finding, ...]:
    """Return the findings that fail and that an exception may excuse, from the last statements below *out*, each once.

    Raises InputMissing when no stage has left a statement.
    """
    paths = sorted(out.glob("*/statements/*.json"))
    if not paths:
        raise InputMissing(f"{out}: no stage has left a statement; run `nox -t supply-chain` first")
    found = [finding for path in paths for finding in statements.load(path).predicate.findings]
    open_ = [finding for finding in found if finding.outcome is OutcomeKind.FAILED and finding.control in KINDS]
    return tuple({_key(finding): finding for finding in open_}.values())


def propose(findings: Sequence[Finding], plan: Plan, words: Words, *, days: int | None = None) -> str:
    """Return a waiver in TOML for each of *findings*. Raises UsageError for more days than policy allows."""
    most = plan.gates.waivers.max_days
    lasts = most if days is None else days
    if not 0 <= lasts <= most:
        raise UsageError(f"--days: got {lasts}, expected at most {most} (waivers.max_days of policy/gates.toml)")
    return "\n".join(_block(finding, plan.judged_at, lasts, words) for finding in findings)


def _block(finding: Finding, granted: date, days: int, words: Words) -> str:
    narrow = KINDS[finding.control].narrow
    control, rule, target, version, environment = _key(finding)
    texts = {
        "control": control, "rule": rule, "target": target,
        **({"version": version, "environment": environment} if narrow else {}),
        "reason": words.reason, "owner": words.owner, "approver": words.approver,
    }  # fmt: skip
    lines = [f"# {finding.message}", "[[waiver]]", *(_line(name, text) for name, text in texts.items())]
    lines += [f"granted = {granted}", f"expires = {granted + timedelta(days=days)}"]
    if narrow:
        lines += ['status = "affected"                  # or not_affected, with a justification', _line("link", words.link)]
    return "\n".join([*lines, ""])


def _line(name: str, text: str) -> str:
    return f"{name} = {json.dumps(text, ensure_ascii=False)}"


def _key(finding: Finding) -> tuple[str, str, str, str, str]:
    target = finding.package or finding.fingerprint or finding.path or ""
    narrow = KINDS[finding.control].narrow
    return (
        finding.control, finding.rule, target, (finding.version or "") if narrow else "",
        (finding.environment or "") if narrow else "",
    )  # fmt: skip


def record(root: Path, findings: Sequence[Finding], plan: Plan, words: Words, until: date) -> Path:
    """Write *findings* as the baseline of the policy of *root*, and return where.

    Raises UsageError when there is one already, nothing is open, or policy does not allow it.
    """
    path = root / "policy" / waivers.BASELINE
    if path.exists():
        raise UsageError(f"{path}: is there already; remove it, run the stages again, and record what is open then")
    if not findings:
        raise UsageError("policy.baseline: nothing is open, so there is nothing to record")
    head = {"reason": words.reason, "owner": words.owner, "approver": words.approver, "link": words.link}
    lines = ["# Findings that were there on the day it was granted; a new one fails. Fields: policy/README.md."]
    lines += [_line("format", "sealrun/baseline-v1"), *(_line(name, text) for name, text in head.items())]
    lines += [f"granted = {plan.judged_at}", f"expires = {until}", ""]
    for key in sorted({_key(finding) for finding in findings}):
        names = ("control", "rule", "target", "version", "environment")
        lines += ["[[finding]]", *(_line(name, text) for name, text in zip(names, key, strict=True) if text), ""]
    text = "\n".join(lines).encode()
    waivers.check_baseline(text, plan.gates.waivers, plan.judged_at)
    files.write_bytes(path, text)
    return path


def lapsing(plan: Plan) -> Iterator[tuple[Waiver, State, int]]:
    """Yield every exception of *plan*, its state on the day of judgement and the days left, the next to lapse first."""
    everyone = (*plan.waivers.waiver, *plan.waivers.baseline)
    for waiver in sorted(everyone, key=lambda waiver: (waiver.expires, waiver.control, waiver.rule, waiver.target)):
        yield waiver, state(waiver, plan.gates.waivers, plan.judged_at), (waiver.expires - plan.judged_at).days


def allowlist(plan: Plan) -> str:
    """Return the page that lists the accepted advisories of *plan*; the same on every day."""
    accepted = [waiver for waiver, _, _ in lapsing(plan) if waiver.control == "audit.clean"]
    head = ("advisory", "package", "environment", "until", "owner", "approved by", "status", "reason", "discussed")
    rows = [
        (w.rule, f"{w.target} {w.version}", w.environment, str(w.expires), w.owner, w.approver,
         " ".join(filter(None, (w.status, w.justification))), w.reason, w.link)
        for w in accepted
    ]  # fmt: skip
    if not rows:
        return f"{_HEAD}\nNone is accepted.\n"
    ruler = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([_HEAD, *ruler, *(f"| {' | '.join(map(_cell, row))} |" for row in rows), ""])


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return *findings* with the highest severity first."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: (order.index(finding.severity), finding.rule, finding.environment or ""))
