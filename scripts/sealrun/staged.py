"""The secret scan of what is staged, for a hook that runs before each commit.

Rules: what is read is the index, not the working tree; a finding counts where a staged change added its line, so what a file
held before stops nobody; links and submodules are said to be skipped; the waivers of the release hold. No evidence is left.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sealrun import files, sandbox, secret_scan, settings, venvs
from sealrun.errors import ToolFailed
from sealrun.outcome import Outcome
from sealrun.policy.judge import Judged, judge_findings
from sealrun.policy.model import Posture
from sealrun.reports.trufflehog3 import SCAN, SecretScan, job
from sealrun.stage import INSIDE, Context, read_report

_DIFF = ("diff", "--cached", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--diff-filter=AMT")
_HUNK = re.compile(rb"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")
_SKIPPED = {"120000": "link, not followed", "160000": "submodule, not scanned"}


class Staged(Struct, frozen=True, kw_only=True):
    """A file of the index that differs from HEAD: its path, its blob, and the lines that the change adds."""

    path: str
    oid: str
    added: tuple[range, ...]

    def holds(self, line: int | None) -> bool:
        """Return whether the change added *line*; a binary file has no lines, so it counts as a whole."""
        return line is None or not self.added or any(line in lines for lines in self.added)


def look(root: Path) -> tuple[tuple[Staged, ...], dict[str, str]]:
    """Return what is staged in *root*, and what of it is skipped, with the reason. Raises InputMissing without a repository."""
    try:
        fields = secret_scan.git(root, *_DIFF, "--raw", "-z", "--no-abbrev", staged=True).split(b"\0")
    except ToolFailed:
        secret_scan.git(root, "rev-parse", "--git-dir")  # which says it when there is no repository
        raise
    entries = [(head.decode("ascii").split(), os.fsdecode(path)) for head, path in zip(fields[::2], fields[1::2], strict=False)]
    found, skipped = [], {}
    lines = list(_added(secret_scan.git(root, *_DIFF, "--unified=0", staged=True)))
    if len(lines) != len(entries):
        raise ToolFailed(f"git: got {len(lines)} changes in the diff, expected {len(entries)}; run the command again")
    for ((_, mode, _, oid, _), path), added in zip(entries, lines, strict=True):
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        if mode in _SKIPPED:
            skipped[shown] = _SKIPPED[mode]
        else:
            found.append(Staged(path=shown, oid=oid, added=added))
    return tuple(found), skipped


def _added(diff: bytes) -> Iterator[tuple[range, ...]]:
    """Yield the added lines of each file of *diff*, in its order."""
    for part in re.split(rb"^diff --git .*\n", diff, flags=re.MULTILINE)[1:]:
        hunks = [match for line in part.split(b"\n") if (match := _HUNK.match(line))]
        yield tuple(range(int(hunk[1]), int(hunk[1]) + int(hunk[2] or 1)) for hunk in hunks)


def scan(context: Context, staged: Sequence[Staged]) -> tuple[Outcome, Judged]:
    """Scan the blobs of *staged* and judge what the changes add. Raises ToolFailed or InputMissing."""
    with files.private_folder() as tmp:
        said = _run(context, staged, tmp)
    places = {entry.path: entry for entry in staged}
    found = [
        secret_scan.finding_of(entry, "secrets.clean")
        for entry in said.findings if places[entry.path].holds(entry.line)
    ]  # fmt: skip
    judged = judge_findings(context.plan, "secrets.clean", found, unused_fails=False)
    unread = sorted(said.history.skipped) if said.history else []
    complaints = [*judged.problems, *(f"{name}: not read" for name in unread)]
    outcome = judged.outcome(
        "secrets.clean", seen=f"{len(found)} findings in {len(staged)} staged files",
        expected="no secret in what is staged, or its fingerprint allowlisted by a valid waiver",
        remedy="Take it out of the change, `git add` the file again; if it ever left this machine, rotate it first.",
    )  # fmt: skip
    if complaints and len(unread):
        raise ToolFailed(f"secrets: {complaints[-1]}; commit it alone after a look, or leave it out")
    return outcome, judged


def _run(context: Context, staged: Sequence[Staged], tmp: Path) -> SecretScan:
    venv = venvs.existing(context.keeper("secrets"), "secrets")
    filters = venv.path / "filters"
    history = {"git": sandbox.program("git"), "root": os.fspath(context.root), "tips": [], "since": ""}
    described = job(
        (), {}, context.tools / "policy" / "secrets", history=history, filters=filters,
        pragmas=context.plan.gates.secrets.pragmas,
    )  # fmt: skip
    described["blobs"] = [[entry.oid, entry.path] for entry in staged]
    files.write_json(tmp / "job.json", described)
    report, limits = tmp / SCAN, context.plan.gates.limits
    argv = (os.fspath(venv.python), "-I", "-B", str(INSIDE / "scan_secrets.py"), str(tmp / "job.json"), str(tmp), str(report))
    sandbox.run(
        sandbox.Command(
            name="scan_secrets", argv=argv, cwd=tmp, logs=tmp, writable=(tmp,), timeout=limits.seconds("secrets"),
            environment={**settings.judged_environment(tmp), "LC_ALL": "C"},
            strict=context.plan.release.posture is Posture.PRODUCTION,
        )
    )  # fmt: skip
    secret_scan.keep_filters(tmp / "filters", filters)
    return read_report(report, SecretScan)
