"""The source that a release is made from: which commit, and whether the tree is exactly that commit.

Rules: git runs sandboxed and may write nothing; its own configuration files, hooks and monitors are left aside; no git, no
repository or no commit is an answer (None), not an error.
"""

import os
from pathlib import Path

from sealrun import files, sandbox, settings
from sealrun.errors import ToolFailed
from sealrun.evidence.manifest import Source

_NO_REPOSITORY = 128
_SECONDS = 60.0
_STEADY = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


def look(root: Path, ignored: Path, networks: list[sandbox.Network] | None = None) -> tuple[Source, tuple[str, ...]]:
    """Return the source at *root* and the paths that differ from its commit; what lies below *ignored* is our own output.

    What the probes of the programs run saw is added to *networks*. Raises ToolFailed.
    """
    seen = networks if networks is not None else []
    commit = _git(root, seen, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return Source(commit=None, clean=False), ()
    below = ignored.relative_to(root) if ignored.is_relative_to(root) and ignored != root else None
    without = ("--", ".", f":(exclude){below.as_posix()}") if below else ()
    status = _git(root, seen, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", *without) or ""
    changed = tuple(sorted(line[3:] for line in status.split("\0") if line))
    return Source(commit=commit.strip(), clean=not changed), changed


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
