"""bundle: does every line of the checklist hold? Then all evidence becomes one signed file that a stranger can check.

Rules: what the other stages stated is judged from their statements, after every file they name was checked; a gate that said no
does not stop the bundle, which then says FAILED; a stage that ended in an error does. What was sealed is verified as a
recipient would before it is handed over.

What this stage writes itself is scanned for secrets as a draft, since its verdict on secrets is in there: nothing is added to
the draft afterwards but that verdict, which names places and fingerprints.

Leaves: `source.json` (commit, clean or not), `changes.json` (what differs from the commit), `secrets.json` (what the secret
scan says of every file that goes in), `release.pub` (the key that signs), `models.pub` (the key of the model signature),
`checklist.json`, `ml-bom.cdx.json`; and beside the evidence `NAME-VERSION.evidence.tar`, `NAME-VERSION.intoto.jsonl`,
`report.html`, and for a release that passed `NAME-VERSION.model.sig`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from sealrun import __version__, digest, files, secret_scan
from sealrun.engines import engine_of
from sealrun.errors import SealrunError, UsageError, VerificationFailed
from sealrun.evidence import attest, bundle, checklist, keys, manifest, oms, retention, sign, signers, source, trust
from sealrun.evidence.statement import StageStatement, resources
from sealrun.evidence.verify import verify
from sealrun.outcome import Judgement, Outcome, OutcomeKind, Verdict, check
from sealrun.policy.judge import deployment_check, judge_findings, listed
from sealrun.policy.model import Posture
from sealrun.reports import artifacts, formats, invarlock, mlbom
from sealrun.reports.formats import FormatVerdict
from sealrun.reports.trufflehog3 import SecretScan
from sealrun.stage import Context, Stage, Work, read_report

_CONTROLS = (
    "network.denied", "runtime.isolated", "runtime.writes", "source.commit",
    "secrets.evidence", "evidence.archived", "evidence.retained", "release.key",
)  # fmt: skip
_REQUIRES = ("lock", "sbom", "audit", "secrets", "model", "certify", "verify")
_SCAN = "secrets.json"
_GATHERED = ("source.json", "changes.json", "release.pub", "models.pub")
_OWN = (
    *(f"evidence/bundle/{name}" for name in (*_GATHERED, checklist.FILE, mlbom.FILE)),
    "statements/bundle.json", manifest.PLAN, sign.REPORT,
)  # fmt: skip
_REPORT = "certificate/reports/evaluation.report.json"
_OURS = {"evidence", "statements", "logs", "run", "run.json", ".lock", "cache", "originals", "shards", sign.REPORT}


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    found, changes = source.look(context.root, context.out.parent)
    return {
        "source": digest.of_json([found.commit, list(changes)]),
        "key/release": signers.release_public().keyid,
        "key/models": oms.public_key().keyid,
        **{f"statements/{stage}": digest.of_file(context.statement_path(stage)) for stage in _REQUIRES},
        **{f"requirements/{name}": sha256 for name, (sha256, _) in _locks(context).items()},
    }


def _gather(context: Context, work: Work) -> None:
    found, changes = source.look(context.root, context.out.parent, work.networks)
    files.write_json(work.out / "source.json", found)
    files.write_json(work.out / "changes.json", changes)
    files.write_bytes(work.out / "release.pub", signers.release_public().pem)
    files.write_bytes(work.out / "models.pub", oms.public_key().pem)
    said = {stage: context.upstream(stage) for stage in _REQUIRES}
    staged = _staged(context, said) | _drafts(context, said, files.empty_folder(work.tmp / "drafts"))
    going_in = tuple(sorted(digest.describe_file(path, name) for name, path in staged.items()))
    secret_scan.run(work, going_in, staged, _SCAN)


def _judge(context: Context) -> Judgement:
    said = {stage: context.upstream(stage) for stage in _REQUIRES}
    outcomes = (*_of_the_rest(context, said), _secrets(context, said))
    return Judgement(outcomes=outcomes, reports=_reports(context, said, outcomes))


def _of_the_rest(context: Context, said: Mapping[str, StageStatement]) -> tuple[Outcome, ...]:
    """Return the outcome of every control but `secrets.evidence`."""
    return (
        _network(said),
        _isolated(said),
        _writes(context, said),
        _commit(context),
        _archived(context, said),
        _retained(context),
        _key(context),
    )


def _reports(context: Context, said: Mapping[str, StageStatement], outcomes: tuple[Outcome, ...]) -> dict[str, bytes]:
    """Return the answered checklist and the ML-BOM."""
    found = _artifacts(context, said)
    return {
        checklist.FILE: _checklist(context, said, outcomes),
        mlbom.FILE: mlbom.ml_bom(
            context.plan,
            found,
            _comparison(context, said),
            described=_described(context, said),
            sboms={name: sha for name, sha in said["sbom"].digests().items() if name.endswith(".cdx.json")},
        ),
    }


def _drafts(context: Context, said: Mapping[str, StageStatement], folder: Path) -> dict[str, Path]:
    """Write what this stage says itself, its verdict on secrets aside, below *folder*; return where each file lies by the name
    that it will have."""
    from sealrun.reports import html

    evidence = context.evidence("bundle")
    to_come = Outcome(control="secrets.evidence", outcome=OutcomeKind.FAILED, seen="not scanned yet", expected="a scan")
    outcomes = (*_of_the_rest(context, said), to_come)
    own = structs.replace(
        said["secrets"],
        subject=resources(digest.describe_files(evidence, files.walk_files(evidence))),
        predicate=structs.replace(
            said["secrets"].predicate, stage="bundle", inputs=(), outcomes=outcomes, findings=(), gathered=()
        ),
    )  # fmt: skip
    fingerprint = signers.release_public().fingerprint
    page = html.report_data(context.plan, {**said, "bundle": own}, context.out / "evidence", fingerprint, digest.of_bytes(b""))
    drafts = {
        **{f"evidence/bundle/{name}": data for name, data in _reports(context, said, outcomes).items()},
        "statements/bundle.json": files.readable_json(own),
        manifest.PLAN: files.readable_json(_plan_document(context, passed=False)),
        sign.REPORT: html.render(page),
    }
    for number, data in enumerate(drafts.values()):
        files.write_bytes(folder / str(number), data, durable=False)
    written = {f"evidence/bundle/{name}": evidence / name for name in _GATHERED}
    return written | {name: folder / str(number) for number, name in enumerate(drafts)}


def _described(context: Context, said: Mapping[str, StageStatement]) -> tuple[FormatVerdict, ...]:
    """Return what the model gate read in the files, nothing when it left no verdicts."""
    if formats.VERDICTS not in said["model"].digests():
        return ()
    return read_report(context.evidence("model") / formats.VERDICTS, formats.FormatReport).files


def _network(said: Mapping[str, StageStatement]) -> Outcome:
    opened = [name for name, stage in said.items() if stage.predicate.network not in ("denied", "unused")]
    ran = [name for name, stage in said.items() if stage.predicate.network == "denied"]
    return check(
        "network.denied",
        not opened,
        seen=f"opened in {listed(opened)}"
        if opened
        else f"a connection was tried and refused in {', '.join(ran) or 'no stage'}",
        expected="denied in every stage that ran a program",
        remedy="Unset INVARLOCK_ALLOW_NETWORK, read `invoke doctor`, and run the stages named again with --fresh.",
        evidence="statements/",
    )


def _isolated(said: Mapping[str, StageStatement]) -> Outcome:
    """Judge that each tool came from the lock as the stage `lock` judged it."""
    judged = {resource.name: resource.digest.sha256 for resource in said["lock"].predicate.inputs}
    tools = [tool for stage in said.values() for tool in stage.predicate.tools]
    other = sorted({t.environment for t in tools if judged.get(f"requirements/{t.environment}.txt") != t.lock})
    locked = said["lock"].predicate.verdict is Verdict.PASSED
    counted = f"{len(tools)} tools in {len({tool.environment for tool in tools})} environments"
    return check(
        "runtime.isolated",
        locked and not other,
        seen=f"{counted}, the stage lock {said['lock'].predicate.verdict.value}"
        + (f"; made from another lock: {listed(other)}" if other else ""),
        expected="every environment made from a lock that the stage lock passed",
        remedy="Run `nox -s lock`, mend what it names, then run the stages of the environments named again.",
        evidence="statements/lock.json",
    )


def _writes(context: Context, said: Mapping[str, StageStatement]) -> Outcome:
    strays = sorted(_strays(context, said))
    named = sum(len(stage.subject) for stage in said.values())
    return check(
        "runtime.writes",
        not strays,
        seen=f"not named by any statement: {listed(strays)}" if strays else f"{named} files, each named by its statement",
        expected="nothing in the release's folder but evidence that a statement names, logs and the bundle",
        remedy=f"Remove what is named from the folder {context.out.name} and run its stage again.",
        evidence="statements/",
    )


def _strays(context: Context, said: Mapping[str, StageStatement]) -> Iterator[str]:
    """Yield what lies in the release's folder and is nobody's."""
    ours = _OURS | {context.plan.title + suffix for suffix in (bundle.SUFFIX, sign.SUFFIX, oms.SUFFIX)}
    yield from (path.name for path in context.out.iterdir() if path.name not in ours)
    for folder, known in (("statements", {f"{name}.json" for name in (*said, "bundle")}), ("evidence", {*said, "bundle"})):
        yield from (f"{folder}/{path.name}" for path in (context.out / folder).iterdir() if path.name not in known)


def _commit(context: Context) -> Outcome:
    found = read_report(context.evidence("bundle") / "source.json", manifest.Source)
    changes = read_report(context.evidence("bundle") / "changes.json", list)
    seen = f"commit {found.commit}" if found.commit else "no commit"
    return deployment_check(
        context.plan,
        "source.commit",
        bool(found.commit) and found.clean,
        seen=f"{seen}, changed or not in it: {listed(changes)}" if changes else seen,
        expected="a clean tree at a commit",
        remedy="Commit or stash the changes and run the release again.",
        evidence="evidence/bundle/source.json",
    )


def _secrets(context: Context, said: Mapping[str, StageStatement]) -> Outcome:
    """Judge what the secret scan found in the files that go in, the same waivers holding as in the tree."""
    scan = read_report(context.evidence("bundle") / _SCAN, SecretScan)
    missed = sorted({*_staged(context, said), *_OWN} - {entry.path for entry in scan.scanned})
    unread = sorted(f"{entry.path}{name}: {why}" for entry in scan.scanned for name, why in entry.skipped.items())
    found = [secret_scan.finding_of(entry, "secrets.clean") for entry in scan.findings]
    judged = judge_findings(context.plan, "secrets.clean", found, unused_fails=False)
    bad = [*(finding.message for finding in judged.failed), *(f"not scanned: {name}" for name in [*missed, *unread])]
    if scan.unreported:
        bad.append(f"{scan.unreported} findings more than are reported one by one")
    return check(
        "secrets.evidence",
        not bad,
        seen=f"{len(found)} findings in {len(scan.scanned)} files" + (f": {listed(bad)}" if bad else ""),
        expected="no secret in the report or any file of the bundle, or its fingerprint allowlisted by a valid waiver",
        remedy="Rotate the secret first, then take it out of what the stage named reads, and run that stage again.",
        evidence=f"evidence/bundle/{_SCAN}",
    )


def _archived(context: Context, said: Mapping[str, StageStatement]) -> Outcome:
    needed = {manifest.CERTIFICATE, manifest.BASELINE_REPORT, engine_of(context.plan).decision}
    missing = sorted(needed - said["certify"].digests().keys())
    return check(
        "evidence.archived",
        not missing,
        seen=f"missing: {listed(missing)}" if missing else "certificate and baseline report lie together in evidence/certify",
        expected="certificate and baseline report",
        remedy="Read why `nox -s certify` left none, mend it and run it again.",
        evidence=f"evidence/certify/{manifest.BASELINE_REPORT}",
    )


def _retained(context: Context) -> Outcome:
    kept = _retention(context)
    suited = context.plan.retention.retention[kept.name].production
    return deployment_check(
        context.plan,
        "evidence.retained",
        suited,
        seen=f"class {kept.name}, {kept.days} days, until {kept.until}" + ("" if suited else ", not meant for production"),
        expected="a class of policy/retention.toml that is meant for production",
        remedy="Name such a class as `retention` in release.toml.",
        evidence="plan.json",
    )


def _key(context: Context) -> Outcome:
    key = keys.parse_public((context.evidence("bundle") / "release.pub").read_bytes(), "release.pub")
    known = trust.load(context.root / "policy" / "trust", None, None)
    day = context.plan.judged_at.isoformat()
    trusted = [found.key for found in known.keys if found.roles & trust.SIGNING and found.held(day)]
    return deployment_check(
        context.plan,
        "release.key",
        key in trusted,
        seen=f"{key.fingerprint}, " + ("listed in policy/trust" if key in trusted else "not listed in policy/trust"),
        expected="a key that policy/trust lists",
        remedy="Copy release.pub of the key folder into policy/trust/ after checking whose it is.",
        evidence="evidence/bundle/release.pub",
    )


def _artifacts(context: Context, said: Mapping[str, StageStatement]) -> artifacts.Artifacts:
    if artifacts.FILE not in said["model"].digests():
        return artifacts.Artifacts(baseline=(), candidate=(), data=())
    return artifacts.load(context.evidence("model"))


def _comparison(context: Context, said: Mapping[str, StageStatement]) -> invarlock.Comparison | None:
    if _REPORT not in said["certify"].digests():
        return None
    return invarlock.load(context.evidence("certify") / _REPORT, invarlock.Comparison, VerificationFailed)


def _checklist(context: Context, said: Mapping[str, StageStatement], outcomes: tuple[Outcome, ...]) -> bytes:
    """Return the answered checklist, this stage's own outcomes included."""
    controls = checklist.parse(files.read_bytes(context.root / manifest.CHECKLIST, "checklist"))
    stated = {**{name: stage.predicate.outcomes for name, stage in said.items()}, "bundle": outcomes}
    return files.readable_json(checklist.answer(controls, stated, UsageError))


def _retention(context: Context) -> manifest.Retention:
    name = context.plan.release.retention
    data = files.read_bytes(context.root / retention.POLICY, "retention")
    chosen = retention.parse(data, UsageError)[name]  # a verifier reads no other form
    until = retention.last_day(context.plan.judged_at.isoformat(), chosen.days)
    return manifest.Retention(name=name, days=chosen.days, reason=chosen.reason, until=until)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A bundle before anybody signed it: what each stage said, the members, the manifest of them, and the archive."""

    said: Mapping[str, StageStatement]
    members: Mapping[str, bytes]
    listed: bytes
    tar: bytes

    @property
    def passed(self) -> bool:
        """Whether every stage passed."""
        return all(stage.predicate.verdict is Verdict.PASSED for stage in self.said.values())


def unsigned(context: Context, own: StageStatement) -> tuple[bytes, bytes, list[bytes]]:
    """Return the archive, the report and the payloads that a release signs, in order. Raises VerificationFailed."""
    made = _make(context, own)
    page = _page(context, made)
    return made.tar, page, _payloads(context, made, page)


def _seal(context: Context, own: StageStatement) -> None:
    """Make, sign and verify the bundle. Raises VerificationFailed when a file changed on the way."""
    made, title = _make(context, own), context.plan.title
    path, fingerprint = context.out / f"{title}{bundle.SUFFIX}", signers.release_public().fingerprint
    _sign_candidate(context.out / f"{title}{oms.SUFFIX}", made.members if made.passed else {})
    if _is_sealed(path, digest.of_bytes(made.tar), fingerprint):
        return
    page = _page(context, made)
    envelopes = sign.sign(_payloads(context, made, page), signers.release())
    beside = context.out / f"{title}{sign.SUFFIX}"
    for target, data in ((context.out / sign.REPORT, page), (beside, envelopes), (path, made.tar)):
        files.write_bytes(target, data)
    try:
        verify(path, trust=None, fingerprint=fingerprint, delivery=None)
    except SealrunError:
        path.unlink()  # what a recipient would refuse is not handed over
        raise


def _sign_candidate(path: Path, members: Mapping[str, bytes]) -> None:
    """Give a released candidate its signature; one that is not released keeps none."""
    listed = members.get(f"evidence/model/{artifacts.manifest_of('candidate')}")
    if listed is None:
        path.unlink(missing_ok=True)
    else:
        oms.write(path, listed)


def _make(context: Context, own: StageStatement) -> _Made:
    said = dict(sorted({**{stage: context.upstream(stage) for stage in _REQUIRES}, "bundle": own}.items()))
    members = _members(context, said, all(stage.predicate.verdict is Verdict.PASSED for stage in said.values()))
    listed = manifest.describe(context.plan.title, members)
    return _Made(said=said, members=members, listed=listed, tar=bundle.build({bundle.MANIFEST: listed, **members}))


def _page(context: Context, made: _Made) -> bytes:
    from sealrun.reports import html  # its template engine is not needed when nothing changed

    fingerprint = signers.release_public().fingerprint
    return html.render(
        html.report_data(context.plan, made.said, context.out / "evidence", fingerprint, digest.of_bytes(made.tar))
    )


def _payloads(context: Context, made: _Made, page: bytes) -> list[bytes]:
    """Return what is signed: the release statement over what was *made*, statements for other tools, those of the stages."""
    said, members = made.said, made.members
    found = _artifacts(context, said)
    artifacts = manifest.Artifacts(baseline=found.baseline, candidate=found.candidate, data=found.data)
    about = {f"{context.plan.title}{bundle.SUFFIX}": made.tar, sign.REPORT: page, bundle.MANIFEST: made.listed}
    subjects = sign.subjects({name: digest.of_bytes(data) for name, data in about.items()}, artifacts.candidate)
    plan = manifest.decode(members[manifest.PLAN], manifest.PlanDocument, manifest.PLAN)
    answered = manifest.decode(members[f"evidence/bundle/{checklist.FILE}"], checklist.Checked, checklist.FILE)
    basis = attest.Basis(
        subjects=subjects, plan=plan, statements=said, lines=answered.lines, artifacts=artifacts,
        members={name: digest.of_bytes(data) for name, data in sorted(members.items())}, read=members.get,
    )  # fmt: skip
    lines = {urn: payload for urn, payload in attest.attestations(basis).items() if payload is not None}
    lines |= {f"statements/{stage}.json": members[f"statements/{stage}.json"] for stage in said}
    release = sign.release_statement(
        subjects=subjects, title=plan.title, policy=plan.policy, judged_at=plan.judged_at, posture=plan.posture,
        passed=made.passed, sealrun=__version__,
        attestations=[(name, digest.of_bytes(payload)) for name, payload in lines.items()],
    )  # fmt: skip
    return [files.readable_json(release), *lines.values()]


def _is_sealed(path: Path, sha256: digest.Sha256, fingerprint: str) -> bool:
    """Return whether *path* is this bundle already, whole and signed by this key."""
    if not path.is_file() or digest.of_file(path) != sha256:
        return False
    try:
        verify(path, trust=None, fingerprint=fingerprint, delivery=None)
    except SealrunError:
        return False
    return True


def _members(context: Context, said: Mapping[str, StageStatement], passed: bool) -> dict[str, bytes]:
    """Return every member but the manifest, each read and compared with the digest it was judged under."""
    root, plan = context.root, context.plan
    expected = {
        manifest.RELEASE: (plan.release_sha256, plan.file),
        **{f"policy/{entry.path}": (entry.sha256, root / "policy" / entry.path) for entry in plan.policy},
        **{f"requirements/{name}": found for name, found in _locks(context).items()},
        **{
            f"evidence/{stage}/{name}": (sha256, context.evidence(stage) / name)
            for stage, statement in said.items()
            for name, sha256 in statement.digests().items()
        },
    }
    members = {name: files.read_bytes(path, name) for name, (_, path) in expected.items()}
    for name, data in members.items():
        if digest.of_bytes(data) != expected[name][0]:
            raise VerificationFailed(f"{name}: changed while the release was made; run `invoke release` again")
    members |= {f"statements/{stage}.json": files.readable_json(statement) for stage, statement in said.items()}
    return {**members, manifest.PLAN: files.readable_json(_plan_document(context, passed))}


def _staged(context: Context, said: Mapping[str, StageStatement]) -> dict[str, Path]:
    """Return where every file lies that goes into the bundle, by its name there; what this stage writes itself aside."""
    return {
        manifest.RELEASE: context.plan.file,
        **{f"policy/{entry.path}": context.root / "policy" / entry.path for entry in context.plan.policy},
        **{f"requirements/{name}": path for name, (_, path) in _locks(context).items()},
        **{f"statements/{stage}.json": context.statement_path(stage) for stage in said},
        **{f"evidence/{s}/{name}": context.evidence(s) / name for s in said for name in said[s].digests()},
    }


def _locks(context: Context) -> dict[str, tuple[digest.Sha256, Path]]:
    """Return name to digest and path of every lock."""
    return {path.name: (digest.of_file(path), path) for path in sorted((context.root / "requirements").glob("*.txt"))}


def _plan_document(context: Context, passed: bool) -> manifest.PlanDocument:
    plan, posture = context.plan, context.plan.release.posture
    return manifest.PlanDocument(
        format="sealrun/plan-v1",
        name=plan.release.name,
        version=plan.release.version,
        posture=posture.value,
        promotable=passed and posture is Posture.PRODUCTION,
        judged_at=plan.judged_at.isoformat(),
        release=plan.release_sha256,
        policy=digest.of_manifest(plan.policy),
        content=plan.content,
        digest=plan.digest,
        retention=_retention(context),
        source=read_report(context.evidence("bundle") / "source.json", manifest.Source),
    )


STAGE = Stage(
    name="bundle",
    summary="Answer the checklist and seal the evidence into one signed bundle",
    controls=_CONTROLS,
    environments=(secret_scan.ENVIRONMENT,),
    tools=(secret_scan.TOOL,),
    requires=_REQUIRES,
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    seal=_seal,
)
