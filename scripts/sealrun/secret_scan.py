"""Run the secret scanner over listed files: the secrets stage does, and the bundle before it is signed.

Rules: what the scanner found is judged elsewhere; what it keeps between runs is the compiled filter, which lies in the
environment that compiled it, and where asked its findings by content. Neither holds a secret.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sealrun import digest, files, sandbox, settings, venvs
from sealrun.errors import InputMissing, ToolFailed
from sealrun.outcome import Finding, OutcomeKind, Severity
from sealrun.reports.trufflehog3 import SecretFinding, job
from sealrun.stage import Work

ENVIRONMENT = venvs.Environment(name="secrets", smoke=("trufflehog3", "--help"))
_FATAL = 128  # git's exit code for "not a git repository", and for everything else that is fatal
TOOL = ("trufflehog3", "secrets")


def run(
    work: Work, manifest: digest.Manifest, places: Mapping[str, Path], report: str, *,
    history: Mapping[str, object] | None = None, cache: Path | None = None,
) -> None:  # fmt: skip
    """Scan the files of *manifest*, which lie at *places*, and leave *report* among the evidence; for a shard what was found
    in its share. Raises ToolFailed."""
    context = work.context
    filters = venvs.existing(context.keeper("secrets"), "secrets").path / "filters"
    described = job(
        manifest, places, context.tools / "policy" / "secrets", history=history, cache=cache, filters=filters,
        pragmas=context.plan.gates.secrets.pragmas, shard=work.shard, parts=work.parts,
    )  # fmt: skip
    written = json.dumps(msgspec.to_builtins(described))  # in escapes alone, which hold names that are no UTF-8
    files.write_bytes(work.tmp / "job.json", written.encode("ascii"))
    script = work.inside("scan_secrets.py", str(work.tmp / "job.json"), str(work.tmp), str(work.out / report))
    work.run("scan_secrets", "secrets", script, variables={"LC_ALL": "C"})  # the C locale means UTF-8 to Python
    keep_filters(work.tmp / "filters", filters)
    if cache:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(work.tmp / "cache", cache)


def keep_filters(made: Path, kept: Path) -> None:
    """Keep a filter that was compiled for the next run; an environment of another user is left as it is."""
    with contextlib.suppress(PermissionError):
        kept.mkdir(exist_ok=True)
        for path in made.iterdir():
            if not (kept / path.name).is_file() and os.access(kept, os.W_OK):
                files.write_bytes(kept / path.name, path.read_bytes())


def finding_of(found: SecretFinding, control: str) -> Finding:
    """Return what the scanner found as a failed finding of *control*."""
    place = found.path if found.line is None else f"{found.path}:{found.line}"
    since = f", in the history since {found.commit[:12]}" if found.commit and found.where != "tree" else ""
    under = f", under {' and '.join(found.layers)}" if found.layers else ""
    return Finding(
        control=control, rule=found.rule, outcome=OutcomeKind.FAILED, severity=Severity(found.severity),
        message=f"{place}: {found.message}{under}{since} ({found.fingerprint})", path=found.path, line=found.line,
        fingerprint=found.fingerprint,
    )  # fmt: skip


def git(root: Path, *arguments: str, unborn: bool = False, staged: bool = False) -> bytes:
    """Return what git prints in *root*; with `unborn`, nothing for what does not exist; with `staged`, of the index that a hook
    is told. Raises InputMissing without a repository, ToolFailed without git."""
    program = sandbox.program("git")
    with files.private_folder() as home:
        files.write_bytes(home / ".gitconfig", b"[safe]\n\tdirectory = *\n")  # a checkout may belong to another user
        variables = {"LC_ALL": "C", "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "GIT_OPTIONAL_LOCKS": "0"}
        index = settings.git_index() if staged else {}
        completed = sandbox.run(
            sandbox.Command(
                name="git", argv=(program, "-c", "core.fsmonitor=false", *arguments), cwd=root, logs=home,
                environment={**settings.judged_environment(home), **variables, **index},
                success=(0, 1, _FATAL) if unborn else (0, _FATAL),
            )
        )  # fmt: skip
        said = completed.stderr.read_text("utf-8", "replace").strip()
        printed = completed.stdout.read_bytes()
    if completed.exit_code == _FATAL and "not a git repository" in said:
        raise InputMissing(
            f"secrets: {root} is no git repository, expected one whose files are scanned; "
            "run `git init` and `git add`, or name folders: `nox -s secrets -- PATH...`"
        )
    if completed.exit_code == _FATAL and not unborn:
        raise ToolFailed(f"git: {said[:500]}; expected an answer to `git {arguments[0]}`, mend the repository {root}")
    return printed if completed.exit_code == 0 else b""
