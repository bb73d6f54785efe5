"""What people see: short lines on standard error, tables for verdicts.

Rules: nothing goes to standard output; a line that says no also says what was seen, what was expected and what to do.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sealrun.errors import SealrunError
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.pipeline import Progress
from sealrun.policy.model import Checklist

if TYPE_CHECKING:
    from rich.live import Live

    from sealrun.evidence.shards import ShardStatement
    from sealrun.evidence.verify import Verification
    from sealrun.reaudit import Reaudited
    from sealrun.reports.explain import Explanation
    from sealrun.reports.fleet import Fleet, Member
    from sealrun.reports.timing import Times

_PLAIN_WIDTH = 150
_BAR = 40  # characters of a whole release
_STYLES = {
    OutcomeKind.PASSED: "green",
    OutcomeKind.WAIVED: "yellow",
    OutcomeKind.FAILED: "bold red",
    OutcomeKind.NOT_APPLICABLE: "dim",
}


def stderr() -> Console:
    """Return a console on standard error; plain text of a fixed width where it is no terminal."""
    return Console(file=sys.stderr, highlight=False, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)


def live() -> "Live":
    """Return a view that is drawn again as it changes; a terminal alone shows it."""
    from rich.live import Live

    return Live(console=stderr(), refresh_per_second=4, transient=True)


def fleet_table(members: Sequence["Member"]) -> Table:
    """Return how far the releases of a fleet are: those at work, and how many wait or ended."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for member in members:
        if member.state == "running":
            table.add_row(Text(plain(member.title)), Text(plain(member.note)), Text(plain(member.where), style="dim"))
    counted = Counter(member.state for member in members)
    table.add_row(Text(", ".join(f"{counted[state]} {state}" for state in sorted(counted))), "", "")
    return table


def fleet_ended(found: "Fleet", page: Path) -> None:
    """Say how each release of a fleet ended, and where the summary is."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for member in found.releases:
        style = "green" if member.state == Verdict.PASSED.value else "bold red"
        why = member.error or ", ".join(member.failed)
        tries = f"{member.attempts} workers" if member.attempts > 1 else ""
        table.add_row(member.title, Text(member.state, style=style), f"{member.seconds:.1f} s", tries, Text(plain(why)))
    stderr().print(table)
    stderr().print(Text(f"{len(found.releases)} releases: {found.verdict.value}, {found.seconds:.1f} s\nsummary  {page}"))


def explained(found: "Explanation") -> None:
    """Show why the gate said what it said, and the cases that moved most."""
    shown = stderr()
    for outcome in found.outcomes:
        shown.print(Text(f"{outcome.control}: {outcome.outcome.value}: {outcome.seen}", style=_STYLES[outcome.outcome]))
    shown.print(Text("\n".join(found.why) or f"no figures: {found.missing}"))
    if not found.moved:
        return
    table = Table("case", "change", "baseline", "candidate", "share", title="cases that moved most, nats per byte")
    for case in found.moved:
        numbers = f"{case.change:+.5f}", f"{case.baseline:.5f}", f"{case.candidate:.5f}", f"{100 * case.share:.1f} %"
        table.add_row(Text(case.id), *numbers)
    shown.print(table)


def timed(times: "Times") -> None:
    """Show where the time of a release went: each stage, the programs in it, and the rest."""
    table = Table("stage", "began at", "seconds", "", title=f"release of {times.started}: {times.seconds:.1f} s")
    for stage in sorted(times.stages, key=lambda stage: stage.began):
        bar = "#" * round(_BAR * stage.seconds / max(times.seconds, 0.001))
        how = "reused" if stage.reused else f"run: {stage.reason}"
        began = max(0.0, stage.began - times.began)
        table.add_row(stage.stage, f"{began:.1f}", f"{stage.seconds:.2f}", Text(plain(f"{bar} {how}")))
        for name, seconds in sorted(stage.programs.items(), key=lambda item: -item[1]):
            table.add_row(Text(plain(f"  {name}"), style="dim"), "", Text(f"{seconds:.2f}", style="dim"), "")
    table.add_row("no stage at work", "", f"{times.idle:.2f}", "")
    stderr().print(table)


def command(root: Path, *arguments: str) -> str:
    """Return the command line, as to be typed where the user stands, that runs a task of the checkout *root*."""
    bootstrap = os.path.relpath(root.resolve() / "scripts" / "bootstrap.py")
    return shlex.join(["python3", bootstrap, *arguments])


def said(text: str) -> None:
    """Say plain text."""
    stderr().print(Text(plain(text)))


def complain(error: SealrunError) -> None:
    """Say an error in one paragraph."""
    stderr().print(Text(plain(f"sealrun: {error}"), style="red"))


def reaudited(found: "Reaudited") -> None:
    """Say how an old bundle stands today."""
    out = stderr()
    for outcome in found.outcomes:
        out.print(Text(plain(f"{found.title}: {outcome.control}: {outcome.outcome.value}: {outcome.seen}")))
        if outcome.outcome is OutcomeKind.FAILED:
            out.print(_reasons(outcome))
    for finding in found.findings:
        mark = "since" if finding.rule in found.since else "known"
        excused = "" if finding.outcome is OutcomeKind.FAILED else f" ({finding.outcome})"
        out.print(Text(plain(f"  {mark}: {finding.message}{excused}")))


def stage_summary(predicate: StagePredicate, progress: Progress) -> None:
    """Say how one stage ended, and for each control that said no, why."""
    out = stderr()
    how = f"{'reused' if progress.reused else 'run'}: {progress.reason}"
    stamp = "" if predicate.report_only is UNSET else ", NOT ENFORCED"
    out.print(Text(f"{predicate.stage}: {predicate.verdict.value} ({plain(how)}, {progress.seconds:.1f} s){stamp}"))
    if predicate.error:
        out.print(Text(plain(f"  {predicate.error}"), style="red"))
    for outcome in predicate.outcomes:
        if outcome.outcome is OutcomeKind.FAILED or outcome.warning:
            out.print(_reasons(outcome))


def shard_summary(statement: "ShardStatement", folder: Path) -> None:
    """Say what one shard left, and where."""
    said = statement.predicate
    stderr().print(Text(f"{said.stage} {statement.shard}: {len(statement.subject)} files in {folder}; nothing is judged yet"))


def checklist_table(checklist: Checklist, outcomes: Sequence[Outcome]) -> Table:
    """Return the production checklist with each control's outcome and what was seen."""
    by_id = {outcome.control: outcome for outcome in outcomes}
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    part = ""
    for control in checklist.control:
        if control.part != part:
            part = control.part
            table.add_row(Text(part, style="bold"), "", "")
        outcome = by_id.get(control.id)
        if outcome is None:
            table.add_row(Text(f"  {control.title}"), Text("not judged", style="bold red"), "")
            continue
        said, style = outcome.outcome.value.replace("_", " "), _STYLES[outcome.outcome]
        if outcome.warning:
            said, style = "warning", "yellow"
        table.add_row(Text(f"  {control.title}"), Text(said, style=style), Text(plain(outcome.seen)))
    return table


def verified(found: "Verification") -> None:
    """Say what a verified bundle shows, step by step, and its verdict."""
    out = stderr()
    for step in found.steps:
        out.print(Text(plain(f"  {step}")))
    failures(found.controls)
    passed = found.verdict is Verdict.PASSED
    out.print(Text(f"{found.title}: {'passed' if passed else 'FAILED'}", style="bold green" if passed else "bold red"))
    signed = " and ".join(found.signers)
    out.print(Text(plain(f"signed by {signed}, a {found.tier}; judged for {found.judged_at}, {found.posture}")))
    if not found.promotable:
        out.print(Text("not promotable: this release was not held against the production posture", style="yellow"))
    for title, lines in (
        (
            "customer edition; withheld, as the maker's signed policy allows:",
            [f"{n}: {why}" for n, why in found.withheld.items()],
        ),
        ("checks that could not be made without them:", found.undone),
    ):
        if found.withheld:
            out.print(Text(plain("\n    ".join((f"  {title}", *lines))), style="yellow"))


def not_proved(sentences: Sequence[str]) -> None:
    """Say what a verified bundle leaves open."""
    stderr().print(Text("\n  - ".join(("This does not prove", *sentences))))


def failures(outcomes: Sequence[Outcome]) -> None:
    """Say for each control that said no what was seen, what was expected, and what to do."""
    for outcome in outcomes:
        if outcome.outcome is OutcomeKind.FAILED:
            stderr().print(_reasons(outcome))


def plain(text: str) -> str:
    """Return *text* without control characters: a bundle or a tool may not steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _reasons(outcome: Outcome) -> Text:
    head, style = ("warning", "yellow") if outcome.warning else ("failed", "red")
    lines = [f"  {outcome.control}: {head}: {outcome.seen}", f"    expected: {outcome.expected}"]
    if todo := outcome.warning or outcome.remedy:
        lines.append(f"    do: {todo}")
    return Text(plain("\n".join(lines)), style=style)
