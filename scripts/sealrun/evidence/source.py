"""The source that a release is made from: which commit, and whether the tree is exactly that commit.

Rules: git runs sandboxed and may write nothing; its own configuration files, hooks and monitors are left aside; no git, no
repository or no commit is an answer (None), not an error.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from sealrun import files, sandbox, settings
from sealrun.errors import ToolFailed
from sealrun.evidence.manifest import Source

_NO_REPOSITORY = 128
_SECONDS = 60.0
_STATUS = (
    "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=normal",
    "--ignore-submodules=none",  # a .gitmodules file may say otherwise
)  # fmt: skip
_COMMIT = "# branch.oid "
_FIELDS = {"1": 8, "u": 10, "?": 1}  # changed, unmerged, not tracked: what stands before the path
_STEADY = (
    "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}",
    "-c", "core.checkStat=default", "-c", "core.trustctime=true",
)  # fmt: skip
_SKIPPED = "S"  # by its tag in `ls-files -v`; one in lower case is assumed to be unchanged


def look(root: Path, ignored: Path, networks: list[sandbox.Network] | None = None) -> tuple[Source, tuple[str, ...]]:
    """Return the source at *root* and the paths that differ from its commit; what lies below *ignored* is our own output.

    What the probes of the programs run saw is added to *networks*. Raises ToolFailed.
    """
    below = ignored.relative_to(root) if ignored.is_relative_to(root) and ignored != root else None
    without = ("--", ".", f":(exclude,literal){below.as_posix()}") if below else ()
    seen = networks if networks is not None else []
    commit, differing = _read((_git(root, seen, *_STATUS, *without) or "").split("\0"))
    if commit is None:
        return Source(commit=None, clean=False), ()
    changed = tuple(sorted(differing | _not_looked_at(_git(root, seen, "ls-files", "-v", "-z") or "")))
    return Source(commit=commit, clean=not changed), changed


def _not_looked_at(listed: str) -> set[str]:
    """Return the paths that git was told to pass over: nobody knows whether they differ. Source: git-ls-files(1), -v."""
    return {line[2:] for line in listed.split("\0") if line[:1] == _SKIPPED or line[:1].islower()}


def _read(lines: Iterable[str]) -> tuple[str | None, set[str]]:
    """Return the commit and the paths that differ from it, of git's own lines. Raises ToolFailed for one that is unknown.

    Source: git-status(1), porcelain version 2.
    """
    commit, changed = None, set()
    for line in filter(None, lines):
        if line.startswith(_COMMIT):
            commit = line.removeprefix(_COMMIT)
        elif fields := _FIELDS.get(line[0]):
            changed.add(line.split(" ", fields)[fields])
        elif line[0] != "#":
            raise ToolFailed(f"git: got the line {line[:100]!r} of its status, expected porcelain version 2; use another git")
    return (None if commit == "(initial)" else commit), changed


def _git(root: Path, networks: list[sandbox.Network], *arguments: str) -> str | None:
    """Return what git says, None when there is no git, no repository or no commit. Raises ToolFailed."""
    try:
        program = sandbox.program("git")
    except ToolFailed:
        return None
    with files.private_folder() as home:
        command = sandbox.Command(
            name="git", argv=(program, "--no-optional-locks", *_STEADY, *arguments), cwd=root, logs=home, writable=(home,),
            environment=settings.judged_environment(home), timeout=_SECONDS, success=(0, 1, _NO_REPOSITORY),
        )  # fmt: skip
        completed = sandbox.run(command)
        networks.append(completed.network)
        return completed.stdout.read_text("utf-8", "replace") if completed.exit_code == 0 else None
