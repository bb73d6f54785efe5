"""The model gate: are the models and the data what they claim, and safe to open?

Rules: a file is the pinned one or the release is refused, and so is a file that no pin names, hidden ones included, unless it
is documentation; formats are told by content, in the `model` environment, and only those that policy admits pass; no verdict
counts for other bytes than those whose digest it carries; whatever is or asks for code is refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, ToolFailed, UsageError
from sealrun.outcome import Finding, Judgement, Outcome, OutcomeKind, Severity, check
from sealrun.policy import judge as policy
from sealrun.policy.model import ModelRef
from sealrun.reports import artifacts
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.formats import LISTING, OFFLINE_SWITCHES, VERDICTS, FormatReport, FormatVerdict, Listing
from sealrun.stage import Context, Stage, Work, read_report
from sealrun.venvs import Environment

_DOCUMENTATION = ("README.md", "LICENSE")


class _Problem(Struct, frozen=True, kw_only=True):
    rule: str
    path: str
    message: str


def _inputs(context: Context) -> dict[str, digest.Sha256]:
    listing = _look(context)
    return listing.digests() | {name: digest.of_bytes(why.encode()) for name, why in listing.refused.items()}


def _gather(context: Context, work: Work) -> None:
    listing = _look(context)
    folders = _folders(context)
    job = {
        "domains": list(context.plan.gates.model.onnx_domains),
        "files": [{"path": entry.path, "file": str(_real(folders, entry.path))} for entry in listing.files],
    }
    files.write_json(work.tmp / "job.json", job)
    files.write_json(work.out / LISTING, listing)
    if not context.targets:
        files.write_json(work.out / artifacts.FILE, _artifacts(context, listing))
    script = work.inside("scan_model.py", str(work.tmp / "job.json"), str(work.out / VERDICTS))
    work.run("scan_model", "model", script)


def _judge(context: Context) -> Judgement:
    listing = read_report(context.evidence("model") / LISTING, Listing)
    report = read_report(context.evidence("model") / VERDICTS, FormatReport)
    _check_coverage(listing, report)
    found = {
        "model.digests": [] if context.targets else list(_unpinned(context, listing)),
        "model.formats": list(_inadmissible(context, listing, report.files)),
        "model.code": [_Problem(rule="code", path=v.path, message=text) for v in report.files for text in v.code],
        "model.source": [] if context.targets else list(_untrusted(context)),
        "data.offline": [] if context.targets else list(_online(report)),
    }
    outcomes = tuple(_outcome(context, control, problems, report) for control, problems in found.items())
    findings = tuple(_finding(control, problem) for control, problems in found.items() for problem in problems)
    return Judgement(outcomes=outcomes, findings=findings)


def _folders(context: Context) -> dict[str, Path]:
    """Return what is looked at: the folder of each role and the data file, or the targets named. Raises InputMissing."""
    release, base = context.plan.release, context.plan.base
    if context.targets:
        found = {target.name or target.resolve().name: target.resolve() for target in context.targets}
        if len(found) != len(context.targets):
            raise UsageError("model: two targets have the same name; judge them one after the other")
    else:
        found = {role: base / files.relative_name(ref.path, f"{role}.path") for role, ref in _models(context).items()}
        found["data"] = base / files.relative_name(release.data.path, "data.path")
    for role, path in found.items():
        if not path.exists():
            raise InputMissing(f"model: {role}: there is no {path}; correct its path in release.toml or fetch it first")
    return found


def _models(context: Context) -> dict[str, ModelRef]:
    return {"baseline": context.plan.release.baseline, "candidate": context.plan.release.candidate}


def _pins(context: Context) -> dict[str, digest.Sha256]:
    """Return every file the release pins, `ROLE/PATH` to sha256."""
    data = context.plan.release.data
    pins = {f"{role}/{name}": sha for role, ref in _models(context).items() for name, sha in ref.files.items()}
    return pins if context.targets else pins | {f"data/{Path(data.path).name}": data.sha256}


def _real(folders: dict[str, Path], name: str) -> Path:
    role, _, rest = name.partition("/")
    return folders[role] / rest if folders[role].is_dir() else folders[role]


def _look(context: Context) -> Listing:
    """Return what stands in the folders, every regular file with its digest; nothing is followed out of them."""
    pins = {} if context.targets else _pins(context)
    found: list[digest.FileDigest] = []
    refused: dict[str, str] = {}
    for role, path in _folders(context).items():
        for name in files.walk_files(path) if path.is_dir() else [path.name]:
            shown = f"{role}/{name}".encode("utf-8", "backslashreplace").decode()
            try:
                root = path if path.is_dir() else path.parent
                found.append(digest.describe_file(files.regular_file(root, name, role), shown))
            except UsageError:
                refused[shown] = "no regular file inside its folder, or an odd name"
            except (InputMissing, OSError):
                refused[shown] = "cannot be read"
    names = {entry.path for entry in found} | refused.keys()
    return Listing(
        files=tuple(sorted(found)),
        unlisted=tuple(sorted(names - pins.keys())) if pins else (),
        missing=tuple(sorted(pins.keys() - names)),
        refused=refused,
    )


def _artifacts(context: Context, listing: Listing) -> Artifacts:
    """Return the pinned files as they were found."""
    wanted = _pins(context)

    def of(role: str) -> digest.Manifest:
        entries = (entry for entry in listing.files if entry.path in wanted and entry.path.startswith(f"{role}/"))
        return tuple(
            digest.FileDigest(path=entry.path.removeprefix(f"{role}/"), sha256=entry.sha256, size=entry.size)
            for entry in entries
        )

    data = tuple(digest.FileDigest(path=context.plan.release.data.path, sha256=e.sha256, size=e.size) for e in of("data"))
    return Artifacts(baseline=of("baseline"), candidate=of("candidate"), data=data)


def _check_coverage(listing: Listing, report: FormatReport) -> None:
    """Raise ToolFailed unless each file has one verdict and no verdict is about another."""
    judged = [verdict.path for verdict in report.files]
    if sorted(judged) != [entry.path for entry in listing.files]:
        odd = sorted(set(judged) ^ listing.digests().keys()) or judged
        raise ToolFailed(f"model: {odd[0]} has no verdict or two; expected one for each file, run `nox -s model` again")


def _unpinned(context: Context, listing: Listing) -> Iterator[_Problem]:
    """Yield where the folders differ from the pins of the release."""
    seen = listing.digests()
    for name, wanted in sorted(_pins(context).items()):
        if name in listing.refused:
            yield _Problem(rule="refused", path=name, message=listing.refused[name])
        elif name not in seen:
            yield _Problem(rule="missing", path=name, message="is pinned, but there is no such file")
        elif seen[name] != wanted:
            yield _Problem(rule="changed", path=name, message=f"has the sha256 {seen[name]}, pinned is {wanted}")
    for name in listing.unlisted:
        if name.partition("/")[2] not in _DOCUMENTATION or name in listing.refused:
            yield _Problem(rule="unlisted", path=name, message="no pin in release.toml names it")


def _inadmissible(context: Context, listing: Listing, verdicts: Sequence[FormatVerdict]) -> Iterator[_Problem]:
    """Yield every file whose format policy does not admit, or with which something is wrong."""
    admitted, seen = context.plan.gates.model.formats, listing.digests()
    for verdict in verdicts:
        if verdict.sha256 != seen[verdict.path]:
            yield _Problem(rule="changed", path=verdict.path, message="changed while it was judged")
        if verdict.format not in admitted:
            yield _Problem(rule=verdict.format, path=verdict.path, message=f"is {verdict.format}, which policy does not admit")
        for text in verdict.problems:
            yield _Problem(rule=verdict.format, path=verdict.path, message=text)
    if context.targets:
        yield from (_Problem(rule="refused", path=name, message=why) for name, why in sorted(listing.refused.items()))


def _untrusted(context: Context) -> Iterator[_Problem]:
    """Yield the models that come neither from a local path nor from a trusted repository at a full revision."""
    trusted = context.plan.gates.model.trusted_repositories
    for role, ref in _models(context).items():
        source = ref.source
        if source.repository is None and source.revision is not None:
            yield _Problem(rule="revision", path=role, message=f"names the revision {source.revision} of no repository")
        elif source.repository is not None and source.repository not in trusted:
            yield _Problem(rule="repository", path=role, message=f"comes from {source.repository}, which policy does not trust")
        elif source.repository is not None and source.revision is None:
            yield _Problem(rule="revision", path=role, message=f"comes from {source.repository} at no revision")


def _online(report: FormatReport) -> Iterator[_Problem]:
    """Yield what the probe in the sandbox missed."""
    for switch in OFFLINE_SWITCHES:
        if report.probe.environment.get(switch) != "1":
            yield _Problem(rule=switch, path="data", message=f"{switch} was not 1 in the sandbox")
    if report.probe.network != "denied":
        yield _Problem(rule="network", path="data", message="the sandbox could reach the network")


def _outcome(context: Context, control: str, problems: Sequence[_Problem], report: FormatReport) -> Outcome:
    expected, passed, evidence = _LINES[control]
    if context.targets and control in ("model.digests", "model.source", "data.offline"):
        seen = "files named on the command line have no release"
        return Outcome(control=control, outcome=OutcomeKind.NOT_APPLICABLE, seen=seen, expected=expected)
    listed = policy.listed([f"{problem.path}: {problem.message}" for problem in problems])
    remedy = next(line.solution for line in context.plan.checklist.control if line.id == control)
    return check(
        control, not problems, seen=listed or passed.format(files=len(report.files)), expected=expected, remedy=remedy,
        evidence=f"evidence/model/{evidence}" if evidence else "",
    )  # fmt: skip


def _finding(control: str, problem: _Problem) -> Finding:
    return Finding(
        control=control, rule=problem.rule, outcome=OutcomeKind.FAILED, severity=Severity.HIGH, path=problem.path,
        message=problem.message,
    )  # fmt: skip


_LINES = {
    "model.digests": ("exactly the pinned files, byte for byte", "{files} files, each pinned or documentation", LISTING),
    "model.formats": ("formats that policy admits, well formed, one per file", "{files} files in admitted formats", VERDICTS),
    "model.code": ("no code, and nothing that asks for it", "{files} files, no code in them", VERDICTS),
    "model.source": ("a local path, or a trusted repository at a 40-hex revision", "local paths or trusted revisions", ""),
    "data.offline": ("pinned local data, offline switches on, network denied", "seen so by a probe in the sandbox", VERDICTS),
}

STAGE = Stage(
    name="model",
    summary="models and data: pinned bytes, safe formats, no code",
    controls=tuple(_LINES),
    environments=(Environment(name="model", smoke=("picklescan", "--help")),),
    tools=(("picklescan", "model"), ("safetensors", "model"), ("onnx", "model")),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
)
