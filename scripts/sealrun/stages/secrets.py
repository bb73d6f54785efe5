"""The secret scan: does a file, the history or the release configuration hold a secret?

Rules: what is scanned is what git tracks or would let be added, under the digest it was listed with, and every object that the
refs reach; links and submodules are not followed, what policy excludes is said so, anything else that was not scanned fails; a
finding is a fingerprint, never the secret; a fingerprint is allowlisted by a waiver for `secrets.clean`, its rule and itself,
until a date.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from msgspec import structs

from sealrun import digest, files, sandbox, secret_scan
from sealrun.errors import InputMissing, ToolFailed, UsageError
from sealrun.outcome import Finding, Judgement, Outcome, check
from sealrun.policy import judge as policy
from sealrun.reports import secret_formats
from sealrun.reports.trufflehog3 import FOUND, LISTING, SCAN, History, Listing, Past, Scanned, SecretScan
from sealrun.stage import Context, Stage, Work, read_report

_LINK, _SUBMODULE, _EXCLUDED = "link, not followed", "submodule, not scanned", "excluded by policy"
_GIT_OBJECTS = "git's own objects, not scanned"
_SAID = (_LINK, _SUBMODULE, _EXCLUDED, _GIT_OBJECTS)
_PATTERN = re.compile(r"[*?\[\\ ]")  # what means more than itself in a line of gitignore(5)
_MAX_CONFIGURATION = 4 * 1024 * 1024  # bytes; the loader refuses a larger one


def _inputs(context: Context) -> dict[str, digest.Sha256]:
    listing, _ = _list(context)
    history = digest.of_json(structs.asdict(listing.history) if listing.history else None)
    return {"tree": digest.of_manifest(listing.files), "skipped": digest.of_json(listing.skipped), "history": history}


def _gather(context: Context, work: Work) -> None:
    listing, places = _list(context)
    files.write_json(work.out / LISTING, listing)
    _scan(context, work, listing, places, SCAN)


def _split(context: Context, work: Work) -> None:
    _scan(context, work, *_list(context), FOUND)


def _scan(context: Context, work: Work, listing: Listing, places: Mapping[str, Path], report: str) -> None:
    cache = context.out / "cache" / "secrets"  # fingerprints by content; holds no secret
    history = None
    root = _repository(context)
    if root and listing.history:
        history = {"git": sandbox.program("git"), "root": os.fspath(root), **structs.asdict(listing.history)}
    secret_scan.run(work, listing.files, places, report, history=history, cache=cache)


def _judge(context: Context) -> Judgement:
    listing = read_report(context.evidence("secrets") / LISTING, Listing)
    scan = read_report(context.evidence("secrets") / SCAN, SecretScan)
    if [(e.path, e.sha256) for e in scan.scanned] != [(e.path, e.sha256) for e in listing.files]:
        raise ToolFailed("secrets: the files scanned are not the files listed; run `nox -s secrets` again")
    if (listing.history is None) != (scan.history is None):
        raise ToolFailed("secrets: the history was not scanned as listed; run `nox -s secrets` again")
    clean, findings = _clean(context, scan)
    reports = {
        "coverage.json": _report(listing, scan),
        "secrets.sarif": secret_formats.sarif(scan.findings, findings, _remedy(context, "secrets.clean")),
        "gl-secret-detection-report.json": secret_formats.gitlab(scan.findings, findings, context.plan.judged_at),
    }
    return Judgement(outcomes=(clean, _coverage(context, listing, scan)), findings=findings, reports=reports)


def _list(context: Context) -> tuple[Listing, dict[str, Path]]:
    """Return what is to be scanned, and where each file lies. Raises InputMissing when there is nothing."""
    excluded = {} if context.targets else context.plan.gates.secrets.excluded
    found: list[digest.FileDigest] = []
    places: dict[str, Path] = {}
    skipped: dict[str, str] = {}

    @cache  # for as long as this list is made
    def outside(root: Path, folder: Path) -> bool:
        return not folder.resolve().is_relative_to(root.resolve())

    for name, (root, path) in sorted(_named(context).items()):
        if reason := next((why for prefix, why in excluded.items() if _below(name, prefix)), ""):
            skipped[name] = f"{_EXCLUDED}: {reason}"
        elif context.targets and "/.git/objects/" in f"/{name}":
            skipped[name] = _GIT_OBJECTS
        elif reason := _unreadable(path, partial(outside, root)):
            skipped[name] = reason
        else:
            try:
                found.append(digest.describe_file(path, name))
                places[name] = path
            except OSError as error:
                skipped[name] = f"cannot be read ({error.strerror})"
    past = _past(context)
    if not found and not past:
        raise InputMissing(f"secrets: nothing to scan in {context.root}; run `git add`, or name a folder that holds files")
    return Listing(files=tuple(sorted(found)), skipped=skipped, history=past), places


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip("/") + "/")


def _unreadable(path: Path, outside: Callable[[Path], bool]) -> str:
    """Return why *path* is not scanned, empty when it is a regular file whose folder is not *outside* of what is judged."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or outside(path.parent):
            return _LINK
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return _SUBMODULE
    return "" if stat.S_ISREG(mode) else "no regular file"


def _named(context: Context) -> Mapping[str, tuple[Path, Path]]:
    """Return every file by the name to report, with its root and path: what git lists, or what the targets hold."""
    if context.targets:
        return dict(entry for target in context.targets for entry in _target(target))
    named = {_shown(name): (context.root, context.root / os.fsdecode(name)) for name in _listed(context.root, _ours(context))}
    if context.home:
        return named
    configuration = _configuration(context)
    if configuration not in (path for _, path in named.values()):
        named[f"release configuration/{configuration.name}"] = (configuration.parent, configuration)
    return named


def _repository(context: Context) -> Path | None:
    """Return the repository whose history is scanned: our own, or the one that is named; None where there is none.

    Raises UsageError for two of them.
    """
    named = [target.resolve() for target in context.targets if (target / ".git").exists() or _is_bare(target)]
    if len(named) > 1:
        raise UsageError(f"secrets: got {len(named)} repositories, expected one; name one repository at a time")
    return named[0] if named else None if context.targets else context.root


def _is_bare(target: Path) -> bool:
    """Return whether *target* is a repository without a working tree."""
    return (target / "HEAD").is_file() and (target / "objects").is_dir() and (target / "refs").is_dir()


def _past(context: Context) -> Past | None:
    """Return the history to scan, None without one. Raises UsageError for a revision that does not exist."""
    root = _repository(context)
    if root is None:
        return None
    # a release is of one commit, whatever else a clone holds; what is reachable from here is what a change brings
    every = ("--all",) if context.targets and not context.since else ()
    # there may be no commit yet, and then HEAD is no revision, nor what a file of that name would be
    said = secret_scan.git(root, "rev-parse", "--revs-only", "--is-shallow-repository", *every, "HEAD")
    shallow, *tips = said.decode("ascii").split()
    since = ""
    if context.since:
        since = (
            secret_scan.git(
                root, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{context.since}^{{commit}}", unborn=True
            )
            .decode()
            .strip()
        )
        if not since:
            raise UsageError(f"--since: got {context.since!r}, expected a commit of {root}; fetch it or name another")
    reached = sorted(set(tips))
    return Past(tips=tuple(reached), since=since, shallow=shallow == "true") if reached else None


def _shown(name: bytes) -> str:
    """Return a file name as text; what is not UTF-8 in it is escaped."""
    return name.decode("utf-8", "backslashreplace")


def _target(target: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the files of a folder or file named on the command line. Raises InputMissing when there is no such thing."""
    if not target.exists():
        raise InputMissing(f"secrets: there is no {target}; name an existing file or folder")
    label = target.as_posix() if not target.is_absolute() and ".." not in target.parts else target.resolve().name
    label = _shown(os.fsencode(label))
    if target.is_file():
        yield label, (target.resolve().parent, target.resolve())
        return
    root = target.resolve()
    listed = (
        [*_listed(root), *([b".git/config"] if (root / ".git" / "config").is_file() else [])]
        if (root / ".git").exists()
        else None
    )
    bare = _is_bare(root)
    for name in listed or map(os.fsencode, files.walk_files(root)):
        shown = _shown(name)
        if bare and shown.startswith("objects/"):
            continue  # read as history
        yield (shown if label in ("", ".") else f"{label}/{shown}"), (root, root / os.fsdecode(name))


def _ours(context: Context) -> tuple[str, ...]:
    """Return what Sealrun itself writes into the checkout: no part of what is judged unless it is tracked."""
    written = {context.out, context.out.parent, context.root / ".nox", context.root / ".venv"}
    written = (written | ({context.cache} if context.cache else set())) - {context.root}
    inside = sorted(path.relative_to(context.root).as_posix() for path in written if path.is_relative_to(context.root))
    return tuple(f"--exclude=/{_PATTERN.sub(r'\\\g<0>', name)}" for name in inside)


def _listed(root: Path, left_out: tuple[str, ...] = ()) -> list[bytes]:
    """Return the names below *root* that git tracks or would let be added. Raises InputMissing without a repository."""
    names = secret_scan.git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *left_out).split(b"\0")
    return sorted({name for name in names if name})


def _configuration(context: Context) -> Path:
    """Return the release file that the plan was read from."""
    for path in sorted(context.plan.base.iterdir()):
        if path.is_file() and path.stat().st_size <= _MAX_CONFIGURATION and digest.of_file(path) == context.plan.release_sha256:
            return path
    raise InputMissing(f"secrets: the release file in {context.plan.base} changed since it was read; run the command again")


def _clean(context: Context, scan: SecretScan) -> tuple[Outcome, tuple[Finding, ...]]:
    """Judge what was found against the waivers."""
    found = [secret_scan.finding_of(entry, "secrets.clean") for entry in scan.findings]
    judged = policy.judge_findings(context.plan, "secrets.clean", found, unused_fails=not (context.targets or context.since))
    if scan.unreported:
        more = f"{scan.unreported} findings more than are reported one by one"
        judged = structs.replace(judged, problems=(*judged.problems, more))
    outcome = judged.outcome(
        "secrets.clean", seen=f"{len(found)} findings in {len(scan.scanned)} files{_of_history(scan.history)}",
        expected="no secret, or its fingerprint allowlisted by a valid waiver",
        remedy=_remedy(context, "secrets.clean"), evidence=f"evidence/secrets/{SCAN}",
    )  # fmt: skip
    return outcome, judged.findings


def _of_history(history: History | None) -> str:
    return f" and {history.scanned} objects of the history" if history else ""


def _coverage(context: Context, listing: Listing, scan: SecretScan) -> Outcome:
    """Judge whether everything listed was scanned, or skipped for a reason that policy knows."""
    members = {f"{e.path}{name}": why for e in scan.scanned for name, why in e.skipped.items()}
    unread_before = scan.history.skipped if scan.history else {}
    excluded = {} if context.targets else context.plan.gates.secrets.excluded
    past = {
        f"history: {name}": why for name, why in unread_before.items()
        if not any(_below(name.partition("!")[0], prefix) for prefix in excluded)
    }  # fmt: skip
    unread = {**{name: why for name, why in listing.skipped.items() if not why.startswith(_SAID)}, **members, **past}
    missed = [f"{name}: {why}" for name, why in sorted(unread.items())]
    if scan.history and scan.history.scanned != scan.history.blobs + scan.history.commits + scan.history.tags:
        missed.append("the sums of the history do not agree")
    missed += [f"{e.path}: the sums of its texts do not agree" for e in scan.scanned if not _agrees(e)]
    listed = len(listing.files) + len(listing.skipped)
    counted = f"{listed} listed = {len(scan.scanned)} scanned + {len(listing.skipped)} skipped{_of_history(scan.history)}"
    shallow = "the clone is shallow: what came before it was not scanned; run `git fetch --unshallow`"
    return check(
        "secrets.coverage", not missed, seen=f"{counted}: {policy.listed(missed)}" if missed else counted,
        expected="every file and every object of the history scanned, or a link, a submodule or excluded by policy",
        remedy=_remedy(context, "secrets.coverage"), evidence="evidence/secrets/coverage.json",
        warning=shallow if listing.history and listing.history.shallow else "",
    )  # fmt: skip


def _agrees(entry: Scanned) -> bool:
    """Return whether *entry* was read as one text, or as the members of an archive alone."""
    return entry.plain == (entry.read_as != "archive")


def _remedy(context: Context, control: str) -> str:
    return next(line.solution for line in context.plan.checklist.control if line.id == control)


def _report(listing: Listing, scan: SecretScan) -> bytes:
    """Return the coverage report: what was listed, how it was read, what was skipped or set aside, and why."""
    return files.readable_json(
        {
            "listed": len(listing.files) + len(listing.skipped),
            "scanned": len(scan.scanned),
            "read_as": dict(Counter(entry.read_as for entry in scan.scanned)),
            "texts": sum(entry.members for entry in scan.scanned),
            "plain": sum(entry.plain for entry in scan.scanned),
            "decoded": dict(sum((Counter(entry.decoded) for entry in scan.scanned), Counter())),
            "skipped": listing.skipped,
            "history": structs.asdict(scan.history) if scan.history else "none",
            "shallow": bool(listing.history and listing.history.shallow),
            "set_aside": scan.aside,
            "pragmas": [structs.asdict(place) for place in scan.pragmas],
            "allowlisted": scan.allowlisted,
            "rules": {"count": scan.rules, "sha256": scan.rules_sha256},
        }
    )


STAGE = Stage(
    name="secrets",
    summary="no secret in files, history or the release configuration",
    controls=("secrets.clean", "secrets.coverage"),
    environments=(secret_scan.ENVIRONMENT,),
    tools=(secret_scan.TOOL,),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    takes_targets=True,
    split=_split,
)
