"""The model gate: are the models and the data what they claim, and safe to open?

Rules: a file is the pinned one or the release is refused, and so is a file that no pin names, hidden ones included, unless it
is documentation; formats are told by content, in the `model` environment, and only those that policy admits pass; no verdict
counts for other bytes than those whose digest it carries; whatever is or asks for code is refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct, structs

from sealrun import digest, files
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import oms
from sealrun.outcome import Finding, Judgement, Outcome, OutcomeKind, Severity, check
from sealrun.policy import judge as policy
from sealrun.policy.model import DataRef, ModelRef
from sealrun.reports import artifacts, hub, inventory
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.formats import LISTING, OFFLINE_SWITCHES, VERDICTS, FormatReport, FormatVerdict, Listing
from sealrun.stage import Context, Stage, Work, read_report
from sealrun.venvs import Environment

_PICKLE_BEARING = ("pickle", "zip", "numpy")  # what picklescan reads


class _Problem(Struct, frozen=True, kw_only=True):
    """`waivable` is the sha256 by which a waiver may name the file; None where nothing excuses the problem."""

    rule: str
    path: str
    message: str
    waivable: digest.Sha256 | None = None


def _inputs(context: Context) -> dict[str, digest.Sha256]:
    listing = inventory.look(context.plan, context.targets)
    return listing.digests() | {name: digest.of_bytes(why.encode()) for name, why in listing.refused.items()}


def _gather(context: Context, work: Work) -> None:
    listing = inventory.look(context.plan, context.targets)
    places = inventory.places(context.plan, context.targets)
    job = {
        "domains": list(context.plan.gates.model.onnx_domains),
        "files": [
            {"path": entry.path, "file": str(place.file(rest))}
            for entry in listing.files
            for role, _, rest in [entry.path.partition("/")]
            for place in [places[role]]
        ],
    }
    files.write_json(work.tmp / "job.json", job)
    files.write_json(work.out / LISTING, listing)
    if not context.targets:
        found = _artifacts(context, listing)
        files.write_json(work.out / artifacts.FILE, found)
        _leave_manifests(context, work, listing, found)
    script = work.inside("scan_model.py", str(work.tmp / "job.json"), str(work.out / VERDICTS))
    work.run("scan_model", "model", script)


def _judge(context: Context) -> Judgement:
    listing = read_report(context.evidence("model") / LISTING, Listing)
    report = read_report(context.evidence("model") / VERDICTS, FormatReport)
    _check_coverage(listing, report)
    found = {
        "model.digests": [] if context.targets else list(_unpinned(context, listing)),
        "model.formats": list(_inadmissible(context, listing, report.files)),
        "model.code": [_code(v, text) for v in report.files for text in v.code],
        "model.source": [] if context.targets else [*_untrusted(context), *_unsigned(context, listing)],
        "data.offline": [] if context.targets else list(_online(report)),
    }
    judged = {control: _waive(context, control, problems) for control, problems in found.items()}
    outcomes = tuple(_outcome(context, control, said, report) for control, said in judged.items())
    findings = tuple(finding for said in judged.values() for finding in said.findings)
    return Judgement(outcomes=outcomes, findings=findings)


def _artifacts(context: Context, listing: Listing) -> Artifacts:
    """Return the pinned files as they were found."""
    wanted = inventory.pins(context.plan)

    def of(role: str) -> digest.Manifest:
        entries = (entry for entry in listing.files if entry.path in wanted and entry.path.startswith(f"{role}/"))
        return tuple(
            digest.FileDigest(path=entry.path.removeprefix(f"{role}/"), sha256=entry.sha256, size=entry.size)
            for entry in entries
        )

    data = tuple(digest.FileDigest(path=context.plan.release.data.path, sha256=e.sha256, size=e.size) for e in of("data"))
    return Artifacts(baseline=of("baseline"), candidate=of("candidate"), data=data)


def _leave_manifests(context: Context, work: Work, listing: Listing, found: Artifacts) -> None:
    """Leave what was found as OMS manifests, and the signatures that came with the models."""
    placed = inventory.places(context.plan, ())
    for role, name in (("baseline", f"{context.plan.release.name}-baseline"), ("candidate", context.plan.release.name)):
        beside = [path.partition("/")[2] for path in listing.unlisted if inventory.is_documentation(path)]
        payload = oms.statement(name, found.model(role), beside)
        files.write_bytes(work.out / artifacts.manifest_of(role), payload)
        if f"{role}/{oms.SIGNATURE}" in listing.digests():
            data = files.read_bytes(placed[role].file(oms.SIGNATURE), "model gate", limit=oms.MAX_SIGNATURE)
            files.write_bytes(work.out / _signature_of(role), data)
    single = tuple(digest.FileDigest(path=".", sha256=entry.sha256, size=entry.size) for entry in found.data)
    files.write_bytes(
        work.out / artifacts.manifest_of("data"), oms.statement(Path(context.plan.release.data.path).name, single)
    )


def _signature_of(role: str) -> str:
    return f"{role}.sig"


def _check_coverage(listing: Listing, report: FormatReport) -> None:
    """Raise ToolFailed unless each file has one verdict and no verdict is about another."""
    judged = [verdict.path for verdict in report.files]
    if sorted(judged) != [entry.path for entry in listing.files]:
        odd = sorted(set(judged) ^ listing.digests().keys()) or judged
        raise ToolFailed(f"model: {odd[0]} has no verdict or two; expected one for each file, run `nox -s model` again")


def _unpinned(context: Context, listing: Listing) -> Iterator[_Problem]:
    """Yield where the folders differ from the pins of the release."""
    seen = listing.digests()
    for name, wanted in sorted(inventory.pins(context.plan).items()):
        if name in listing.refused:
            yield _Problem(rule="refused", path=name, message=listing.refused[name])
        elif name not in seen:
            yield _Problem(rule="missing", path=name, message="is pinned, but there is no such file")
        elif seen[name] != wanted:
            yield _Problem(rule="changed", path=name, message=f"has the sha256 {seen[name]}, pinned is {wanted}")
    for name in listing.unlisted:
        if not inventory.is_documentation(name) or name in listing.refused:
            why = f" ({listing.refused[name]})" if name in listing.refused else ""
            yield _Problem(rule="unlisted", path=name, message=f"no pin in release.toml names it{why}")


def _inadmissible(context: Context, listing: Listing, verdicts: Sequence[FormatVerdict]) -> Iterator[_Problem]:
    """Yield every file whose format policy does not admit, or with which something is wrong."""
    admitted, seen = context.plan.gates.model.formats, listing.digests()
    for verdict in verdicts:
        if verdict.sha256 != seen[verdict.path]:
            yield _Problem(rule="changed", path=verdict.path, message="changed while it was judged")
        if verdict.format not in admitted:
            waivable = verdict.sha256 if verdict.format in _PICKLE_BEARING else None
            text = f"is {verdict.format}, which policy does not admit"
            yield _Problem(rule=verdict.format, path=verdict.path, message=text, waivable=waivable)
        for text in verdict.problems:
            yield _Problem(rule="content", path=verdict.path, message=text)
    if context.targets:
        yield from (_Problem(rule="refused", path=name, message=why) for name, why in sorted(listing.refused.items()))


def _code(verdict: FormatVerdict, text: str) -> _Problem:
    return _Problem(rule="code", path=verdict.path, message=text, waivable=verdict.sha256)


def _untrusted(context: Context) -> Iterator[_Problem]:
    """Yield what comes neither from a local path nor from a trusted repository at a full revision."""
    trusted = context.plan.gates.model.trusted_repositories
    release = context.plan.release
    refs: tuple[tuple[str, ModelRef | DataRef], ...] = (
        ("baseline", release.baseline),
        ("candidate", release.candidate),
        ("data", release.data),
    )
    for role, ref in refs:
        source = ref.source
        if source.repository is None and source.revision is not None:
            yield _Problem(rule="revision", path=role, message=f"names the revision {source.revision} of no repository")
        elif source.repository is not None and source.repository not in trusted:
            yield _Problem(rule="repository", path=role, message=f"comes from {source.repository}, which policy does not trust")
        elif source.repository is not None and source.revision is None:
            yield _Problem(rule="revision", path=role, message=f"comes from {source.repository} at no revision")
        cached = hub.origin_of(context.plan.base / ref.path)
        if cached is not None and cached != (source.repository, source.revision):
            where = f"{cached[0]} at {cached[1]}"
            yield _Problem(rule="revision", path=role, message=f"lies in the cache of {where}, which is not its source")


def _unsigned(context: Context, listing: Listing) -> Iterator[_Problem]:
    """Yield where a model lacks the signature that policy asks for, or is not what was signed."""
    signers, seen = context.plan.gates.model.signers, listing.digests()
    for role, ref in inventory.models(context.plan).items():
        signer = signers.get(role) or signers.get(ref.source.repository or "")
        if signer is None:
            continue
        where = f"{role}/{oms.SIGNATURE}"
        if where not in seen:
            yield _Problem(rule="signature", path=where, message=f"is missing; policy asks for one by {signer}")
            continue
        try:
            data = files.read_bytes(context.evidence("model") / _signature_of(role), where)
            signed = oms.verify(data, files.read_bytes(context.root / "policy" / "signers" / signer, "policy"), where)
        except VerificationFailed as problem:
            yield _Problem(rule="signature", path=where, message=str(problem).removeprefix(f"{where}: "))
            continue
        for name in sorted(ref.files.keys() - {oms.SIGNATURE}):
            if f"{role}/{name}" in seen and signed.get(name) != seen[f"{role}/{name}"]:
                what = "is not covered by the signature" if name not in signed else "is not the file that was signed"
                yield _Problem(rule="signature", path=f"{role}/{name}", message=what)


def _online(report: FormatReport) -> Iterator[_Problem]:
    """Yield what the probe in the sandbox missed."""
    for switch in OFFLINE_SWITCHES:
        if report.probe.environment.get(switch) != "1":
            yield _Problem(rule=switch, path="data", message=f"{switch} was not 1 in the sandbox")
    if report.probe.network != "denied":
        yield _Problem(rule="network", path="data", message="the sandbox could reach the network")


class _Said(Struct, frozen=True, kw_only=True):
    """What became of the problems of a control: findings with their outcomes, complaints, and who waived what."""

    findings: tuple[Finding, ...]
    complaints: tuple[str, ...]
    waived: tuple[str, ...]


def _waive(context: Context, control: str, problems: Sequence[_Problem]) -> _Said:
    """Let waivers meet what they may admit: one file's format or code, named by its sha256 and by nothing else."""
    fixed = [problem for problem in problems if problem.waivable is None]
    open_ = [problem for problem in problems if problem.waivable is not None]
    asked = [_finding(control, problem, path=None) for problem in open_]
    judged = policy.judge_findings(context.plan, control, asked, unused_fails=not context.targets)
    met = [structs.replace(finding, path=p.path) for finding, p in zip(judged.findings, open_, strict=True)]
    failed = [finding for finding in met if finding.outcome is OutcomeKind.FAILED]
    findings = [_finding(control, problem, path=problem.path) for problem in fixed]
    paths = {finding.fingerprint: finding.path for finding in met}
    return _Said(
        findings=(*findings, *met),
        complaints=(*(f"{finding.path}: {finding.message}" for finding in (*findings, *failed)), *judged.problems),
        waived=tuple(
            f"{paths[finding.fingerprint]} {finding.message}: reviewed on {waiver.granted}, holds until {waiver.expires}"
            for finding, waiver in judged.waived
        ),
    )


def _outcome(context: Context, control: str, said: _Said, report: FormatReport) -> Outcome:
    expected, passed, evidence = _LINES[control]
    if context.targets and control in ("model.digests", "model.source", "data.offline"):
        seen = "files named on the command line have no release"
        return Outcome(control=control, outcome=OutcomeKind.NOT_APPLICABLE, seen=seen, expected=expected)
    where = f"evidence/model/{evidence}" if evidence else ""
    if said.waived and not said.complaints:
        seen = policy.listed(said.waived)
        return Outcome(control=control, outcome=OutcomeKind.WAIVED, seen=seen, expected=expected, evidence=where)
    remedy = next(line.solution for line in context.plan.checklist.control if line.id == control)
    return check(
        control, not said.complaints, seen=policy.listed(said.complaints) or passed.format(files=len(report.files)),
        expected=expected, remedy=remedy, evidence=where,
    )  # fmt: skip


def _finding(control: str, problem: _Problem, *, path: str | None) -> Finding:
    return Finding(
        control=control, rule=problem.rule, outcome=OutcomeKind.FAILED, severity=Severity.HIGH, path=path,
        message=problem.message, fingerprint=problem.waivable,
    )  # fmt: skip


_LINES = {
    "model.digests": ("exactly the pinned files, byte for byte", "{files} files, each pinned or documentation", LISTING),
    "model.formats": ("formats that policy admits, well formed, one per file", "{files} files in admitted formats", VERDICTS),
    "model.code": ("no code, and nothing that asks for it", "{files} files, no code in them", VERDICTS),
    "model.source": (
        "local, or trusted at a 40-hex revision; signed where policy says so",
        "local or trusted, signed where asked",
        "",
    ),
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
    takes_targets=True,
)
