"""Results and SBOM changes as Markdown: for a job's summary, and for the text of a pull request.

Rules: what a tool or a file said is text, never markup: pipes, brackets and angle brackets are escaped, line ends are spaces.
"""

import re
from collections.abc import Iterable, Sequence

from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.reports.cyclonedx import Document
from sealrun.result import Result

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#@])")
_MARKS = {Verdict.PASSED: "✅", Verdict.FAILED: "❌", Verdict.ERROR: "⚠️"}
_WIDTH = 300


def of_results(results: Sequence[Result]) -> str:
    """Return one table over all *results*, and below it what to do where a control failed."""
    rows = [(f"{_MARKS[r.verdict]} {r.command}", r.verdict.value, r.error or f"{len(r.controls)} controls") for r in results]
    controls = [control for result in results for control in result.controls]
    told = [control for control in controls if control.outcome is OutcomeKind.FAILED or control.warning]
    first = _table(("stage", "verdict", ""), rows)
    return first + (f"\n{_table(('control', 'outcome', 'seen', 'do'), map(_row, told))}" if told else "")


def of_changes(old: Document, new: Document) -> str:
    """Return what changed between two SBOMs: packages added, removed, and with another version."""
    before, after = _versions(old), _versions(new)
    rows = [
        (name, ", ".join(sorted(before.get(name, ()))) or "—", ", ".join(sorted(after.get(name, ()))) or "—")
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return _table(("package", "before", "after"), rows) if rows else "No package changed.\n"


def _versions(document: Document) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for component in document.components:
        found.setdefault(component.name, set()).add(component.version)
    return found


def _row(outcome: Outcome) -> tuple[str, ...]:
    return outcome.control, "warning" if outcome.warning else outcome.outcome.value, outcome.seen, outcome.remedy


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(said: str) -> str:
    """Return what was said as text of a Markdown cell."""
    line = " ".join(said.split())
    return _MARKUP.sub(r"\\\1", line if len(line) <= _WIDTH else f"{line[:_WIDTH]} …")
