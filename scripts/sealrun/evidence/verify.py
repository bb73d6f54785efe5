"""Verify a bundle as its recipient: what was signed, by whom, over which bytes, and whether its verdict follows from it.

Rules: nothing is believed that a trusted key did not sign; every byte of the archive, the envelopes and the report is accounted
for; what can be judged again is judged again, from the statements alone; the first thing that does not hold ends it and is
named. A sound bundle whose gates said no verifies, with the verdict failed. Written from docs/bundle-format.md, as is
scripts/verify_bundle.py; the two share no code.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import UNSET, Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, UsageError, VerificationFailed
from sealrun.evidence import attest, bundle, checklist, disclosure, keys, manifest, retention, sign
from sealrun.evidence import trust as believed
from sealrun.evidence.statement import Resource, StageStatement
from sealrun.outcome import Finding, Outcome, OutcomeKind, Verdict, verdict

_STATEMENT, _ATTESTATION, _POLICY, _LOCK = "statements/", "attestations/", "policy/", "requirements/"
_V1 = "sealrun/bundle-v1"
_NEEDED = {"bundle", "certify", "lock"}  # the stages whose statements are compared with others
_PLACES = re.compile(r"plan\.json|release\.toml|policy/.+|requirements/[^/]+\.txt|(statements|attestations)/[^/]+\.json")


NOT_PROVED = (
    "that the models were run as the records say: whoever holds the key could have written other records",
    "that the candidate is good, or free of hidden behaviour: it was compared with its baseline on one text by one measure",
    "that there is no vulnerability or secret: the scans know what their rules and the advisory snapshot knew on that day",
    "whose key it is: that is what the fingerprint was for, if you got it by another way than the bundle",
    "when it was signed: the day of judgement is what the signer says it is",
)


class Verification(Struct, frozen=True, kw_only=True):
    """What a verified bundle says. `signers` are the fingerprints that counted, `tier` how much they stand for; `steps` tells
    what was checked, `undone` what could not be, a sentence each; `withheld` are the members that a customer edition leaves
    out, each with the policy's reason. `subject` is what the release statement is about, `statement` its digest."""

    title: str
    verdict: Verdict
    posture: Literal["production", "research"]
    promotable: bool
    judged_at: str
    fingerprint: str
    sha256: digest.Sha256
    controls: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    steps: tuple[str, ...]
    plan: manifest.PlanDocument
    subject: tuple[Resource, ...]
    statement: digest.Sha256
    signers: tuple[str, ...] = ()
    tier: str = ""
    withheld: Mapping[str, str] = {}
    undone: tuple[str, ...] = ()


class _PackFile(Struct, frozen=True, kw_only=True):
    path: str
    digest: str


class _Pack(Struct, frozen=True, kw_only=True):
    """Of the certificate's own manifest: the files it names, and the run reports where it names any."""

    files: dict[str, _PackFile]
    reports: dict[str, str] = {}


def verify(
    path: Path, *, trust: Path | None, fingerprint: str | None, delivery: Path | None, revoked: Path | None = None
) -> Verification:
    """Return what the bundle at *path* says, once it is verified; its envelopes and report lie beside it.

    *trust* is a public key file or a folder of them, *fingerprint* that of the one key to accept; *revoked* is a revocation
    or a folder of them; *delivery* is the folder with the files that were delivered. Raises VerificationFailed naming what
    does not hold, UsageError without anybody to trust."""
    if not path.name.endswith(bundle.SUFFIX):
        raise UsageError(f"bundle: got {path}, expected the file NAME{bundle.SUFFIX}")
    with bundle.opened(path) as archive:
        listed = _listed(archive)
        rules = _rules(archive, listed)
        archive = _check_manifest(archive, listed, rules)
        envelopes = _envelopes(path)
        accepted = believed.load(trust, fingerprint, revoked)
        signed = _check_signatures(envelopes, _known(archive, listed), accepted, listed)
        release = _check_lines(envelopes, archive, listed)
        statements = {name: _statement(archive, name) for name in _below(archive, _STATEMENT)}
        plan = _check_plan(archive, statements)
        counted = believed.judge(accepted, signed, release.subject[0].digest.sha256, plan.judged_at)
        lines = _check_checklist(archive, statements, plan)
        key = _member_key(archive, manifest.PUBLIC_KEY)
        _check_claims(archive, statements, plan, key, kept=listed.format == _V1 or _check_retention(archive, plan))
        artifacts = _artifacts(archive)
        report = None if _leaves_out_report(path, rules) else _beside(path, sign.REPORT, limit=sign.MAX_REPORT)
        _check_release(release, archive, report, artifacts.candidate, plan, listed, statements)
        rebuilt = _check_attestations(envelopes, release, archive, listed, plan, statements, lines, artifacts)
        if delivery is not None:
            _check_delivery(delivery, artifacts.candidate)
    outcomes = tuple(outcome for statement in statements.values() for outcome in statement.predicate.outcomes)
    return Verification(
        title=plan.title,
        verdict=Verdict.PASSED if release.predicate.verification_result == "PASSED" else Verdict.FAILED,
        posture=plan.posture,
        promotable=plan.promotable,
        judged_at=plan.judged_at,
        fingerprint=key.fingerprint,
        sha256=archive.sha256,
        controls=tuple(sorted(outcomes, key=lambda outcome: [line.id for line in lines].index(outcome.control))),
        findings=tuple(finding for statement in statements.values() for finding in statement.predicate.findings),
        signers=tuple(f"sha256:{trusted.keyid}" for trusted in counted),
        tier=_tier(counted, lines),
        steps=_told(archive, envelopes, statements, lines, artifacts.candidate, delivery),
        plan=plan,
        subject=release.subject,
        statement=digest.of_bytes(envelopes[0].payload),
        withheld=disclosure.marked(rules, [*sorted(archive.withheld), *([] if report is not None else [sign.REPORT])]),
        undone=(*_undone(archive, release, without_report=report is None), *(f"{urn}: what it says" for urn in rebuilt)),
    )


def _listed(archive: bundle.Archive) -> manifest.Manifest:
    return manifest.decode(archive.read(bundle.MANIFEST), manifest.Manifest, bundle.MANIFEST)


def _rules(archive: bundle.Archive, listed: manifest.Manifest) -> tuple[disclosure.Rule, ...]:
    """Return what the bundle's own policy lets be withheld: nothing in version 1, which signs no manifest."""
    if listed.format == _V1 or disclosure.POLICY not in archive.members:
        return ()
    return disclosure.parse(archive.read(disclosure.POLICY), VerificationFailed)


def _check_manifest(archive: bundle.Archive, listed: manifest.Manifest, rules: tuple[disclosure.Rule, ...]) -> bundle.Archive:
    """Check that the manifest names exactly the members, each as it is; return the archive with those that are withheld."""
    absent = []
    named = {entry.path: entry for entry in listed.members}
    for name in sorted(named.keys() | archive.members.keys() - {bundle.MANIFEST}):
        found = archive.members.get(name)
        if name not in named:
            raise VerificationFailed(f"{name}: in the bundle, but not named by {bundle.MANIFEST}; it was added or renamed")
        if found is None and not disclosure.marked(rules, [name]):
            raise VerificationFailed(f"{name}: named by {bundle.MANIFEST}, but not in the bundle; it was dropped or renamed")
        if found is None:
            absent.append(named[name])
        elif (found.sha256, found.size) != (named[name].sha256, named[name].size):
            raise VerificationFailed(f"{name}: got sha256 {found.sha256}, expected {named[name].sha256}; it was changed")
        stage = name.split("/")[1] if name.startswith("evidence/") else ""
        misplaced = not _PLACES.fullmatch(name) or (listed.format != _V1 and name.startswith(_ATTESTATION))
        if misplaced and f"{_STATEMENT}{stage}.json" not in archive.members:
            raise VerificationFailed(f"{name}: a bundle has no such member; it was added")
    if list(listed.members) != sorted(named.values()):
        raise VerificationFailed(f"{bundle.MANIFEST}: the members are not in order, or one stands twice")
    whole = archive.withholding(tuple(absent))
    if problem := bundle.names_problem(list(whole.members)):
        raise VerificationFailed(f"{bundle.MANIFEST}: {problem}; it was not written by Sealrun")
    return whole


def _envelopes(path: Path) -> tuple[sign.Signed, ...]:
    name = path.name.removesuffix(bundle.SUFFIX) + sign.SUFFIX
    return sign.parse(_beside(path, name, limit=sign.MAX_ENVELOPES), name)


def _known(archive: bundle.Archive, listed: manifest.Manifest) -> dict[digest.Sha256, keys.PublicKey]:
    """Return the keys that may sign, the bundle's own first; since version 2 also those of the policy in it."""
    names = [] if listed.format == _V1 else [name for name in _below(archive, f"{_POLICY}trust/") if name.endswith(".pub")]
    known = [_member_key(archive, name) for name in (manifest.PUBLIC_KEY, *names)]
    if listed.format == _V1 and known[0].kind != "ed25519":
        raise VerificationFailed(f"{manifest.PUBLIC_KEY}: version 1 knows Ed25519 alone")
    return {key.keyid: key for key in known}


def _check_signatures(
    envelopes: tuple[sign.Signed, ...], known: dict[digest.Sha256, keys.PublicKey], trust: believed.Trust,
    listed: manifest.Manifest,
) -> dict[digest.Sha256, keys.PublicKey]:  # fmt: skip
    """Return the keys that signed every line, among them one that is trusted. Every signature must be good and theirs alone."""
    own, first = next(iter(known)), envelopes[0].signatures
    if not trust.keys:
        raise UsageError(
            f"trust: no key to trust; the bundle is signed by sha256:{own}. Ask its maker for that value by another "
            "way than the bundle's, then say --fingerprint, or --trust with the maker's release.pub"
        )
    if own not in first or (listed.format == _V1 and len(first) != 1) or not first.keys() <= known.keys():
        raise VerificationFailed(f"envelope 1: signed by {sorted(first)}, expected {own} and keys that the bundle knows")
    if not first.keys() & {trusted.keyid for trusted in trust.keys}:
        expected = " or ".join(f"sha256:{trusted.keyid}" for trusted in trust.keys)
        raise VerificationFailed(f"signature: by {' and '.join(f'sha256:{name}' for name in first)}, expected {expected}")
    for number, envelope in enumerate(envelopes, 1):
        if envelope.signatures.keys() != first.keys():
            raise VerificationFailed(f"envelope {number}: signed by {sorted(envelope.signatures)}, expected {sorted(first)}")
        for keyid in first:
            if not envelope.signed_by(known[keyid]):
                raise VerificationFailed(
                    f"envelope {number}: no valid signature by sha256:{keyid}; it was changed or exchanged"
                )
    return {keyid: known[keyid] for keyid in first}


def _check_lines(
    envelopes: tuple[sign.Signed, ...], archive: bundle.Archive, listed: manifest.Manifest
) -> sign.ReleaseStatement:
    """Return the release statement; it and exactly what it names must be signed, in its order."""
    release = manifest.decode(envelopes[0].payload, sign.ReleaseStatement, "envelope 1")
    if not release.subject:
        raise VerificationFailed("envelope 1: names nothing that was released")
    named = {reference.uri: reference.digest.sha256 for reference in release.predicate.input_attestations}
    others = _below(archive, _ATTESTATION) if listed.format == _V1 else attest.urns(archive.members)
    present = [*others, *_below(archive, _STATEMENT)]
    if [reference.uri for reference in release.predicate.input_attestations] != present:
        raise VerificationFailed(f"envelope 1: names the statements {list(named)}, expected {present}")
    if len(envelopes) != len(present) + 1:
        raise VerificationFailed(f"envelopes: got {len(envelopes)}, expected {len(present) + 1}; a line was added or dropped")
    for number, (name, envelope) in enumerate(zip(present, envelopes[1:], strict=True), 2):
        expected = archive.members[name].sha256 if name in archive.members else named[name]
        if not digest.of_bytes(envelope.payload) == named[name] == expected:
            raise VerificationFailed(f"envelope {number}: not the bytes of {name}; the lines were exchanged or changed")
    return release


def _check_attestations(
    envelopes: tuple[sign.Signed, ...], release: sign.ReleaseStatement, archive: bundle.Archive, listed: manifest.Manifest,
    plan: manifest.PlanDocument, statements: Mapping[str, StageStatement], lines: tuple[checklist.Line, ...],
    artifacts: manifest.Artifacts,
) -> tuple[str, ...]:  # fmt: skip
    """Check that the statements for other tools say what the bundle says. Returns those that could not be rebuilt."""
    if listed.format == _V1:
        return ()
    basis = attest.Basis(
        subjects=release.subject, plan=plan, lines=lines, artifacts=artifacts,
        statements={statement.predicate.stage: statement for statement in statements.values()},
        members={name: entry.sha256 for name, entry in archive.members.items()},
        read=lambda name: None if name in archive.withheld else archive.read(name),
    )  # fmt: skip
    rebuilt = attest.attestations(basis)
    for number, (envelope, (urn, payload)) in enumerate(zip(envelopes[1:], rebuilt.items(), strict=False), 2):
        if payload is not None and envelope.payload != payload:
            raise VerificationFailed(f"envelope {number}: {urn} does not say what the bundle says")
    return tuple(urn for urn, payload in rebuilt.items() if payload is None)


def _statement(archive: bundle.Archive, name: str) -> StageStatement:
    """Return the stage statement *name*; its subjects must be the stage's evidence, its verdict must follow."""
    statement = manifest.decode(archive.read(name), StageStatement, name)
    if statement.predicate.report_only is not UNSET:
        raise VerificationFailed(f"{name}: a report that nobody enforced, expected a statement of an enforced gate")
    said = statement.predicate
    if name != f"{_STATEMENT}{said.stage}.json":
        raise VerificationFailed(f"{name}: speaks of the stage {said.stage!r}; two statements were exchanged")
    folder = f"evidence/{said.stage}/"
    found = [(path.removeprefix(folder), archive.members[path].sha256) for path in _below(archive, folder)]
    if [(subject.name, subject.digest.sha256) for subject in statement.subject] != found:
        raise VerificationFailed(f"{name}: its subjects are not the files below {folder}; one was added, dropped or changed")
    if said.verdict is not verdict(said.outcomes) or said.verdict is Verdict.ERROR or said.error or said.error_code:
        raise VerificationFailed(f"{name}: says {said.verdict.value}, which does not follow from its outcomes")
    return statement


def _check_plan(archive: bundle.Archive, statements: Mapping[str, StageStatement]) -> manifest.PlanDocument:
    plan = manifest.decode(archive.read(manifest.PLAN), manifest.PlanDocument, manifest.PLAN)
    if manifest.RELEASE not in archive.members:
        raise VerificationFailed(f"{manifest.RELEASE}: not in the bundle, expected that member")
    plan.check(archive.members[manifest.RELEASE].sha256, tuple(_described(archive, _POLICY)))
    for name, statement in statements.items():
        if (statement.predicate.plan, statement.predicate.judged_at) != (plan.digest, plan.judged_at):
            raise VerificationFailed(f"{name}: judged under another plan or on another day than {manifest.PLAN} says")
    return plan


def _check_checklist(
    archive: bundle.Archive, statements: Mapping[str, StageStatement], plan: manifest.PlanDocument
) -> tuple[checklist.Line, ...]:
    """Return the checklist, answered again from the statements and found equal."""
    controls = checklist.parse(archive.read(manifest.CHECKLIST), VerificationFailed)
    stages = {control.stage for control in controls} | _NEEDED
    if (expected := sorted(f"{_STATEMENT}{stage}.json" for stage in stages)) != list(statements):
        raise VerificationFailed(
            f"statements: got {list(statements)}, expected one for each stage of the checklist: {expected}"
        )
    stated = {statement.predicate.stage: statement.predicate.outcomes for statement in statements.values()}
    answered = checklist.answer(controls, stated, VerificationFailed)
    where = f"evidence/bundle/{checklist.FILE}"
    if manifest.decode(archive.read(where), checklist.Checked, where) != answered:
        raise VerificationFailed(f"{where}: does not say what the statements say")
    if plan.posture == "production" and any(line.deployment and line.warning for line in answered.lines):
        raise VerificationFailed(f"{where}: warns where a production release may only pass or fail")
    return answered.lines


def _check_claims(
    archive: bundle.Archive, statements: Mapping[str, StageStatement], plan: manifest.PlanDocument, key: keys.PublicKey,
    *, kept: bool,
) -> None:  # fmt: skip
    """Judge again what the bundle's own stage claims about the others."""
    said = {stage.predicate.stage: stage for stage in statements.values()}
    locks = {entry.path: entry.sha256 for entry in _described(archive, _LOCK)}
    judged = {resource.name: resource.digest.sha256 for resource in said["lock"].predicate.inputs}
    subjects = said["certify"].digests()
    trusted = [_member_key(archive, name) for name in _below(archive, f"{_POLICY}trust/") if name.endswith(".pub")]
    tools = [tool for stage in said.values() for tool in stage.predicate.tools]
    facts = {
        "network.denied": all(stage.predicate.network in ("denied", "unused") for stage in said.values()),
        "runtime.isolated": all(tool.lock == locks.get(f"{tool.environment}.txt") for tool in tools)
        and said["lock"].predicate.verdict is Verdict.PASSED,
        "evidence.archived": {manifest.CERTIFICATE, manifest.BASELINE_REPORT} <= subjects.keys(),
        "source.commit": bool(plan.source.commit and plan.source.clean),
        "release.key": key in trusted,
        retention.CONTROL: kept,
    }
    for outcome in said["bundle"].predicate.outcomes:
        if outcome.outcome is not OutcomeKind.FAILED and not outcome.warning and not facts.get(outcome.control, True):
            raise VerificationFailed(f"{outcome.control}: said to be {outcome.outcome.value}, but the bundle shows otherwise")
    if {f"{_LOCK}{name}": sha256 for name, sha256 in locks.items()} != {
        name: sha256 for name, sha256 in judged.items() if name.endswith(".txt")
    }:
        raise VerificationFailed(f"{_LOCK}: not the locks that the stage lock judged")
    _check_certificate(archive, subjects)


def _check_retention(archive: bundle.Archive, plan: manifest.PlanDocument) -> bool:
    """Return whether the class that the plan names is meant for production; class and last day must follow from the policy."""
    there = retention.POLICY in archive.members and retention.POLICY not in archive.withheld
    return retention.check(plan, archive.read(retention.POLICY) if there else None)


def _check_certificate(archive: bundle.Archive, subjects: Mapping[str, digest.Sha256]) -> None:
    """Check that the files which the certificate names are the ones beside it."""
    where = f"evidence/certify/{manifest.CERTIFICATE}"
    if manifest.CERTIFICATE not in subjects or where in archive.withheld:
        return
    pack = files.decode(manifest.bounded(archive.read(where), where), _Pack, where, VerificationFailed)
    for entry in pack.files.values():
        if entry.digest != f"sha256:{subjects.get(f'certificate/{entry.path}')}":
            raise VerificationFailed(f"evidence/certify/certificate/{entry.path}: not the file that the certificate names")
    for role, named in pack.reports.items():
        if named != f"sha256:{subjects.get(f'{role}-report.json')}":
            raise VerificationFailed(f"evidence/certify/{role}-report.json: not the report that the certificate names")


def _artifacts(archive: bundle.Archive) -> manifest.Artifacts:
    """Return the files of the models as the model stage found them; none when it found no model."""
    if manifest.DIGESTS not in archive.members:
        return manifest.NO_ARTIFACTS
    return manifest.decode(archive.read(manifest.DIGESTS), manifest.Artifacts, manifest.DIGESTS)


def _check_release(
    release: sign.ReleaseStatement, archive: bundle.Archive, report: bytes | None, candidate: digest.Manifest,
    plan: manifest.PlanDocument, listed: manifest.Manifest, statements: Mapping[str, StageStatement],
) -> None:  # fmt: skip
    """Check that the release statement is the one that follows from everything else. Of what is withheld, the archive as a
    whole and perhaps the report, the digest that it signs stands."""
    signed = {subject.name: subject.digest.sha256 for subject in release.subject}
    whole = signed.get(f"{plan.title}{bundle.SUFFIX}", "") if archive.withheld else archive.sha256
    passed = all(statement.predicate.verdict is Verdict.PASSED for statement in statements.values())
    made = {
        f"{plan.title}{bundle.SUFFIX}": whole,
        sign.REPORT: signed.get(sign.REPORT, "") if report is None else digest.of_bytes(report),
        **({} if listed.format == _V1 else {bundle.MANIFEST: archive.members[bundle.MANIFEST].sha256}),
    }
    expected = sign.release_statement(
        subjects=sign.subjects(made, candidate), title=plan.title, policy=plan.policy, judged_at=plan.judged_at,
        posture=plan.posture, passed=passed, sealrun=statements[f"{_STATEMENT}bundle.json"].predicate.sealrun,
        attestations=[(r.uri, r.digest.sha256) for r in release.predicate.input_attestations],
    )  # fmt: skip
    for got, wanted in zip(release.subject, expected.subject, strict=False):
        if got != wanted:
            what = f"got {got.name} {got.digest.sha256}, expected {wanted.name} {wanted.digest.sha256}"
            raise VerificationFailed(f"{wanted.name}: not what was signed: {what}")
    if release != expected:
        raise VerificationFailed("envelope 1: the release statement does not follow from what it was made of")
    if listed.title != plan.title or plan.promotable != (passed and plan.posture == "production"):
        raise VerificationFailed(f"{manifest.PLAN}: title or promotable differs from what the release statement says")


def _check_delivery(folder: Path, candidate: digest.Manifest) -> None:
    """Check that *folder* holds exactly the candidate's files. Raises InputMissing when there is no such folder."""
    if not folder.is_dir():
        raise InputMissing(f"delivery: {folder} is no folder; name the one that holds the delivered model")
    wanted = {entry.path: entry.sha256 for entry in candidate}
    found = set(files.walk_files(folder))
    for name in sorted(found | wanted.keys()):
        if name not in wanted:
            raise VerificationFailed(f"{folder / name}: delivered, but not certified; it was added")
        if name not in found:
            raise VerificationFailed(f"{folder / name}: certified, but not delivered")
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise VerificationFailed(f"{folder / name}: a link or no regular file, expected the file itself")
        if (got := digest.of_file(folder / name)) != wanted[name]:
            raise VerificationFailed(
                f"{folder / name}: got sha256 {got}, expected {wanted[name]}; it is not what was certified"
            )


def _leaves_out_report(path: Path, rules: tuple[disclosure.Rule, ...]) -> bool:
    return bool(disclosure.marked(rules, [sign.REPORT])) and not (path.parent / sign.REPORT).exists(follow_symlinks=False)


def _undone(archive: bundle.Archive, release: sign.ReleaseStatement, *, without_report: bool) -> tuple[str, ...]:
    """Return the checks that could not be made without what is withheld."""
    undone = [f"{name}: its bytes; its size and digest are signed" for name in sorted(archive.withheld)]
    if archive.withheld:
        whole = release.subject[0].digest.sha256
        undone.insert(0, f"the whole archive, sha256:{whole}: its signed manifest stands in its place")
    if retention.POLICY in archive.withheld:
        undone.append("that the retention class is the policy's")
    if f"evidence/certify/{manifest.CERTIFICATE}" in archive.withheld:
        undone.append("that the certificate names the files beside it")
    if without_report:
        undone.append(f"{sign.REPORT}: its bytes; its digest is signed")
    return tuple(undone)


def _told(
    archive: bundle.Archive, envelopes: tuple[sign.Signed, ...], statements: Mapping[str, StageStatement],
    lines: tuple[checklist.Line, ...], candidate: digest.Manifest, delivery: Path | None,
) -> tuple[str, ...]:  # fmt: skip
    told = (
        f"archive: {len(archive.members) - len(archive.withheld)} members, every byte accounted for"
        + (f"; a customer edition, {len(archive.withheld)} more are withheld" if archive.withheld else ""),
        f"signature: {len(envelopes)} envelopes, all by the trusted key; bundle, report and statements are what it signed",
        f"statements: {len(statements)} stages, their evidence unchanged, their verdicts judged again",
        f"checklist: {len(lines)} lines, answered again from the statements",
    )
    return told if delivery is None else (*told, f"delivery: {len(candidate)} files, exactly those that were certified")


def _tier(counted: tuple[believed.TrustedKey, ...], lines: tuple[checklist.Line, ...]) -> str:
    """Return how much the keys stand for: a hosted identity, a release key that a policy lists, or a research key."""
    if any(believed.Role.HOSTED in trusted.roles for trusted in counted):
        return "hosted identity"
    listed = any(line.id == "release.key" and line.outcome is OutcomeKind.PASSED and not line.warning for line in lines)
    return "release key" if listed else "research key"


def _member_key(archive: bundle.Archive, name: str) -> keys.PublicKey:
    try:
        return keys.parse_public(archive.read(name), name)
    except UsageError as error:
        raise VerificationFailed(str(error)) from error


def _below(archive: bundle.Archive, folder: str) -> list[str]:
    return [name for name in archive.members if name.startswith(folder)]


def _described(archive: bundle.Archive, folder: str) -> Iterator[digest.FileDigest]:
    for name in _below(archive, folder):
        entry = archive.members[name]
        yield digest.FileDigest(path=name.removeprefix(folder), sha256=entry.sha256, size=entry.size)


def _beside(path: Path, name: str, *, limit: int) -> bytes:
    """Return the file *name* beside the bundle. Raises VerificationFailed: without it nothing can be verified."""
    try:
        return files.read_bytes(path.parent / name, name, limit=limit)
    except SealrunError as error:
        raise VerificationFailed(f"{name}: expected beside the bundle; {error}") from error
