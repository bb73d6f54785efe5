"""The secret scan: does a tracked file or the release configuration hold a secret?

Rules: what is scanned is what git tracks, under the digest it was listed with, or skipped with a reason; links and submodules
are not followed, what policy excludes is said so, anything else that was not scanned fails; a finding is a fingerprint, never
the secret; a fingerprint is allowlisted by a waiver for `secrets.clean`, its rule and itself, until a date.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import structs

from sealrun import digest, files, sandbox, settings
from sealrun.errors import InputMissing, ToolFailed, UsageError
from sealrun.outcome import Finding, Judgement, Outcome, OutcomeKind, Severity, check
from sealrun.policy import judge as policy
from sealrun.reports.trufflehog3 import LISTING, SCAN, Allowed, Listing, SecretFinding, SecretScan
from sealrun.stage import Context, Stage, Work, read_report
from sealrun.venvs import Environment

_LINK, _SUBMODULE, _EXCLUDED = "link, not followed", "submodule, not scanned", "excluded by policy"
_GIT_OBJECTS = "git's own objects, not scanned"
_SAID = (_LINK, _SUBMODULE, _EXCLUDED, _GIT_OBJECTS)
_MAX_CONFIGURATION = 4 * 1024 * 1024  # bytes; the loader refuses a larger one
_NO_REPOSITORY = 128  # git's exit code for "not a git repository", and for everything else that is fatal


def _inputs(context: Context) -> dict[str, digest.Sha256]:
    listing, _ = _list(context)
    skipped = digest.of_json(listing.skipped)
    return {"tree": digest.of_manifest(listing.files), "skipped": skipped}


def _gather(context: Context, work: Work) -> None:
    listing, places = _list(context)
    job = {
        "files": [{"path": e.path, "file": os.fspath(places[e.path]), "sha256": e.sha256} for e in listing.files],
        "allow": _allowed(context).allow,
    }
    files.write_json(work.tmp / "job.json", job)
    files.write_json(work.out / LISTING, listing)
    script = work.inside("scan_secrets.py", str(work.tmp / "job.json"), str(work.tmp), str(work.out / SCAN))
    work.run("scan_secrets", "secrets", script, variables={"LC_ALL": "C"})  # the C locale means UTF-8 to Python


def _judge(context: Context) -> Judgement:
    listing = read_report(context.evidence("secrets") / LISTING, Listing)
    scan = read_report(context.evidence("secrets") / SCAN, SecretScan)
    if [(e.path, e.sha256) for e in scan.scanned] != [(e.path, e.sha256) for e in listing.files]:
        raise ToolFailed("secrets: the files scanned are not the files listed; run `nox -s secrets` again")
    clean, findings = _clean(context, scan)
    outcomes = (clean, _coverage(context, listing, scan))
    return Judgement(outcomes=outcomes, findings=findings, reports={"coverage.json": _report(listing, scan)})


def _list(context: Context) -> tuple[Listing, dict[str, Path]]:
    """Return what is to be scanned, and where each file lies. Raises InputMissing when there is nothing."""
    excluded = {} if context.targets else context.plan.gates.secrets.excluded
    found: list[digest.FileDigest] = []
    places: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for name, (root, path) in sorted(_named(context).items()):
        if reason := next((why for prefix, why in excluded.items() if _below(name, prefix)), ""):
            skipped[name] = f"{_EXCLUDED}: {reason}"
        elif context.targets and "/.git/objects/" in f"/{name}":
            skipped[name] = _GIT_OBJECTS
        elif reason := _unreadable(root, path):
            skipped[name] = reason
        else:
            try:
                found.append(digest.describe_file(path, name))
                places[name] = path
            except OSError as error:
                skipped[name] = f"cannot be read ({error.strerror})"
    if not found:
        raise InputMissing(f"secrets: nothing to scan in {context.root}; run `git add`, or name a folder that holds files")
    return Listing(files=tuple(sorted(found)), skipped=skipped), places


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip("/") + "/")


def _unreadable(root: Path, path: Path) -> str:
    """Return why *path* is not scanned, empty when it is a regular file inside *root*."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not path.resolve().is_relative_to(root.resolve()):
            return _LINK
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return _SUBMODULE
    return "" if stat.S_ISREG(mode) else "no regular file"


def _named(context: Context) -> Mapping[str, tuple[Path, Path]]:
    """Return every file by the name to report, with its root and path: what git tracks, or what the targets hold."""
    if context.targets:
        return dict(entry for target in context.targets for entry in _target(target))
    named = {_shown(name): (context.root, context.root / os.fsdecode(name)) for name in _tracked(context.root)}
    configuration = _configuration(context)
    if configuration not in (path for _, path in named.values()):
        named[f"release configuration/{configuration.name}"] = (configuration.parent, configuration)
    return named


def _shown(name: bytes) -> str:
    """Return a file name as text; what is not UTF-8 in it is escaped."""
    return name.decode("utf-8", "backslashreplace")


def _target(target: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the files of a folder or file named on the command line. Raises InputMissing when there is no such thing."""
    if not target.exists():
        raise InputMissing(f"secrets: there is no {target}; name an existing file or folder")
    label = target.as_posix() if not target.is_absolute() and ".." not in target.parts else target.resolve().name
    if target.is_file():
        yield label, (target.resolve().parent, target.resolve())
        return
    root = target.resolve()
    for name in files.walk_files(root):
        shown = _shown(os.fsencode(name))
        yield (shown if label in ("", ".") else f"{label}/{shown}"), (root, root / name)


def _tracked(root: Path) -> list[bytes]:
    """Return the names that git tracks below *root*. Raises InputMissing without a repository, ToolFailed without git."""
    git = sandbox.program("git")
    with files.private_folder() as home:
        files.write_bytes(home / ".gitconfig", b"[safe]\n\tdirectory = *\n")  # a checkout may belong to another user
        variables = {"LC_ALL": "C", "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "GIT_OPTIONAL_LOCKS": "0"}
        completed = sandbox.run(
            sandbox.Command(
                name="git", argv=(git, "-c", "core.fsmonitor=false", "ls-files", "-z"), cwd=root, logs=home,
                environment={**settings.judged_environment(home), **variables}, success=(0, _NO_REPOSITORY),
            )
        )  # fmt: skip
        said = completed.stderr.read_text("utf-8", "replace").strip()
        names = completed.stdout.read_bytes().split(b"\0")
    if completed.exit_code == _NO_REPOSITORY and "not a git repository" in said:
        raise InputMissing(
            f"secrets: {root} is no git repository, expected one whose tracked files are scanned; "
            "run `git init` and `git add`, or name folders: `nox -s secrets -- PATH...`"
        )
    if completed.exit_code:
        raise ToolFailed(f"git: {said[:500]}; expected the list of tracked files, mend the repository {root}")
    return sorted({name for name in names if name})


def _configuration(context: Context) -> Path:
    """Return the release file that the plan was read from."""
    for path in sorted(context.plan.base.iterdir()):
        if path.is_file() and path.stat().st_size <= _MAX_CONFIGURATION and digest.of_file(path) == context.plan.release_sha256:
            return path
    raise InputMissing(f"secrets: the release file in {context.plan.base} changed since it was read; run the command again")


def _allowed(context: Context) -> Allowed:
    """Return policy's allow list. Raises UsageError for a pattern that does not compile."""
    where = context.root / "policy" / "secrets" / "allow.toml"
    allowed = files.load_toml(where, Allowed)
    for entry in allowed.allow:
        for pattern in (entry.secret, entry.line, entry.before):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(f"{where}: {entry.id}: got {pattern!r} ({error}), expected a regular expression") from error
    return allowed


def _finding(found: SecretFinding) -> Finding:
    place = found.path if found.line is None else f"{found.path}:{found.line}"
    return Finding(
        control="secrets.clean", rule=found.rule, outcome=OutcomeKind.FAILED, severity=Severity(found.severity),
        message=f"{place}: {found.message} ({found.fingerprint})", path=found.path, line=found.line,
        fingerprint=found.fingerprint,
    )  # fmt: skip


def _clean(context: Context, scan: SecretScan) -> tuple[Outcome, tuple[Finding, ...]]:
    """Judge what was found against the waivers."""
    found = [_finding(entry) for entry in scan.findings]
    judged = policy.judge_findings(context.plan, "secrets.clean", found, unused_fails=not context.targets)
    if scan.unreported:
        more = f"{scan.unreported} findings more than are reported one by one"
        judged = structs.replace(judged, problems=(*judged.problems, more))
    outcome = judged.outcome(
        "secrets.clean", seen=f"{len(found)} findings in {len(scan.scanned)} files",
        expected="no secret, or its fingerprint allowlisted by a valid waiver",
        remedy=_remedy(context, "secrets.clean"), evidence=f"evidence/secrets/{SCAN}",
    )  # fmt: skip
    return outcome, judged.findings


def _coverage(context: Context, listing: Listing, scan: SecretScan) -> Outcome:
    """Judge whether everything listed was scanned, or skipped for a reason that policy knows."""
    missed = [f"{name}: {why}" for name, why in sorted(listing.skipped.items()) if not why.startswith(_SAID)]
    listed = len(listing.files) + len(listing.skipped)
    counted = f"{listed} listed = {len(scan.scanned)} scanned + {len(listing.skipped)} skipped"
    return check(
        "secrets.coverage", not missed, seen=f"{counted}: {policy.listed(missed)}" if missed else counted,
        expected="every file scanned, or a link, a submodule or excluded by policy",
        remedy=_remedy(context, "secrets.coverage"), evidence="evidence/secrets/coverage.json",
    )  # fmt: skip


def _remedy(context: Context, control: str) -> str:
    return next(line.solution for line in context.plan.checklist.control if line.id == control)


def _report(listing: Listing, scan: SecretScan) -> bytes:
    """Return the coverage report: how many files were listed, how each was read, what was skipped and why."""
    return files.readable_json(
        {
            "listed": len(listing.files) + len(listing.skipped),
            "scanned": len(scan.scanned),
            "read_as": dict(Counter(entry.read_as for entry in scan.scanned)),
            "skipped": listing.skipped,
            "allowlisted": scan.allowlisted,
            "rules": {"count": scan.rules, "sha256": scan.rules_sha256},
        }
    )


STAGE = Stage(
    name="secrets",
    summary="no secret in tracked files or the release configuration",
    controls=("secrets.clean", "secrets.coverage"),
    environments=(Environment(name="secrets", smoke=("trufflehog3", "--help")),),
    tools=(("trufflehog3", "secrets"),),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
)
