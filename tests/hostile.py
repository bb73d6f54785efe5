"""What can be wrong with a bundle: every case by name, how to make it, and the exit code that every verifier must answer with.

`good`: sound bundles, whatever their gates said. `way`: what happens to one on its way. `maker`: what a dishonest holder of the
trusted key could sign. `archive`: archives that are no bundles. `edition`: members left out for a customer.
"""

import base64
import gzip
import io
import json
import string
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import verify_bundle
from sealrun import digest
from sealrun.evidence import bundle, sign, signers
from sealrun.outcome import Finding, OutcomeKind, Severity
from tests.bundles import (
    CONTROLS,
    DAY,
    DISCLOSURE,
    P256,
    RETENTION,
    TITLE,
    Draft,
    Edit,
    checklist_toml,
    edited,
    key_file,
    public_key,
)

PASSED, FAILED, REFUSED = 0, 1, 5

type Make = Callable[[Path], Path]


def cases() -> Iterator[tuple[str, int, Make]]:
    """Yield name, expected exit code and maker of every case."""
    for name, code, draft in _good():
        yield f"good: {name}", code, draft.write
    for name, change in _on_the_way():
        yield f"way: {name}", REFUSED, _changed(change)
    for name, draft in _dishonest():
        yield f"maker: {name}", REFUSED, draft.write
    for name, edit in _archives():
        yield f"archive: {name}", REFUSED, Draft(edit_tar=edit).write
    for name, code, draft, names in _editions():
        yield f"edition: {name}", code, _without(draft, names)


def _good() -> Iterator[tuple[str, int, Draft]]:
    trusted = {**Draft().policy, "trust/release.pub": public_key().pem}
    long = "evidence/sbom/" + "d" * 60 + "/" + "e" * 60 + "/f.json"
    found = Finding(
        control="secrets.clean", rule="High Entropy", outcome=OutcomeKind.WAIVED, message="Ünïcode \U0001f9ea",
        severity=Severity.LOW, path="a b.txt", line=3, fingerprint="scrypt:00",
    )  # fmt: skip
    statement = _told(lambda value: value["subject"].append({"name": long[14:], "digest": {"sha256": digest.of_bytes(b"x")}}))
    ordered = _told(lambda value: value["subject"].sort(key=lambda subject: subject["name"]))
    yield "as it should be", PASSED, Draft()
    yield "a gate said no", FAILED, Draft(kinds={"audit.clean": OutcomeKind.FAILED})
    yield "a waived finding", PASSED, Draft(kinds={"secrets.clean": OutcomeKind.WAIVED}, findings=(found,))
    yield "a line that does not apply", PASSED, Draft(kinds={"model.digests": OutcomeKind.NOT_APPLICABLE})
    yield "production", PASSED, Draft(posture="production", policy=trusted, warnings={})
    yield (
        "production, a deployment line said no",
        FAILED,
        Draft(posture="production", policy=trusted, warnings={}, kinds={"audit.fresh": OutcomeKind.FAILED}),
    )
    yield (
        "no commit, said as a warning",
        PASSED,
        Draft(commit=None, clean=False, warnings={"release.key": "no", "source.commit": "no"}),
    )
    yield (
        "no certificate, said so",
        FAILED,
        Draft(
            kinds={"evidence.archived": OutcomeKind.FAILED, "certify.regression": OutcomeKind.FAILED},
            dropped=("evidence/certify/certificate/manifest.json", "evidence/certify/certificate/report.json"),
        ),
    )
    yield (
        "the model stage found no model",
        FAILED,
        Draft(kinds={"model.digests": OutcomeKind.FAILED}, candidate={}, dropped=("evidence/model/digests.json",)),
    )
    yield (
        "another attestation in the first version, listed",
        PASSED,
        Draft(version=1, extra={"attestations/provenance.json": b'{"any":"statement"}'}),
    )
    yield "the first version", PASSED, Draft(version=1)
    known = {**Draft().policy, **{f"trust/{seed}.pub": public_key(seed).pem for seed in (2, 3, P256 + 1)}}
    advisory = Finding(
        control="audit.clean", rule="PYSEC-2026-1", outcome=OutcomeKind.WAIVED, message="Ünïcode", severity=Severity.HIGH,
        package="jinja2", version="3.1.0", advisory="PYSEC-2026-1",
    )  # fmt: skip
    bare = Finding(control="audit.clean", rule="X", outcome=OutcomeKind.PASSED, message="", advisory="X")
    yield "advisories found", PASSED, Draft(kinds={"audit.clean": OutcomeKind.WAIVED}, advisories=(advisory, bare, found))
    yield "signed by three", PASSED, Draft(policy=known, cosigners=(2, 3))
    yield "signed by keys of both kinds", PASSED, Draft(policy=known, cosigners=(P256 + 1,))
    yield "no advisory snapshot, so no statement of vulnerabilities", PASSED, Draft(dropped=("evidence/audit/snapshot.json",))
    yield (
        "a long name",
        PASSED,
        Draft(extra={long: b"x"}, edits={"statements/sbom.json": lambda data: ordered(statement(data))}),
    )
    yield "a retention class of its policy", PASSED, _kept()
    yield "a retention class that production has", PASSED, _kept("release", 1825, "Support.", "2031-01-14", warnings={
        "release.key": "NOT FOR PRODUCTION"})  # fmt: skip
    yield "a network that was opened, said so", FAILED, Draft(network="opened", kinds={"network.denied": OutcomeKind.FAILED})


def _changed(change: Callable[[Path], None]) -> Make:
    def make(folder: Path) -> Path:
        path = Draft().write(folder)
        change(folder)
        return path

    return make


def _on_the_way() -> Iterator[tuple[str, Callable[[Path], None]]]:
    def tar(edit: Edit) -> Callable[[Path], None]:
        return lambda folder: _rewrite(folder / f"{TITLE}{bundle.SUFFIX}", edit)

    def lines(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
        return lambda folder: _rewrite(
            folder / f"{TITLE}{sign.SUFFIX}", lambda data: b"".join(edit(data.splitlines(keepends=True)))
        )

    def first(edit: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
        def change(found: list[bytes]) -> list[bytes]:
            value = json.loads(found[0])
            edit(value)
            return [digest.canonical_json(value), *found[1:]]

        return lines(change)

    def signature(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        def change(value: dict[str, Any]) -> None:
            raw = base64.b64decode(value["signatures"][0]["sig"])
            value["signatures"][0]["sig"] = base64.b64encode(edit(raw)).decode()

        return first(change)

    yield "empty", tar(lambda data: b"")
    yield "cut within a header", tar(lambda data: data[:700])
    yield "cut within a member", tar(lambda data: data[:2000])
    yield "cut at the end", tar(lambda data: data[:-512])
    yield "cut by a record", tar(lambda data: data[:-10240])
    yield "a record of zeros added", tar(lambda data: data + bytes(10240))
    yield "bytes added", tar(lambda data: data + b"x")
    yield "a member added at the end", tar(lambda data: _with_members(data, {"zz": b"x"}))
    yield "a member dropped", tar(lambda data: _with_members(data, {}, drop="evidence/audit/pip-audit.json"))
    yield "a member twice", tar(lambda data: data[:-10240] + data[:1536] + bytes(10240 - 1536))
    yield "compressed", tar(gzip.compress)
    yield "the envelopes are missing", lambda folder: (folder / f"{TITLE}{sign.SUFFIX}").unlink()
    yield "the report is missing", lambda folder: (folder / sign.REPORT).unlink()
    yield "another report", lambda folder: _rewrite(folder / sign.REPORT, lambda data: data.replace(b"report", b"rapport"))
    yield (
        "the envelopes of another bundle",
        lambda folder: _rewrite(folder / f"{TITLE}{sign.SUFFIX}", lambda data: _other(folder, Draft(judged_at="2026-01-16"))),
    )
    yield (
        "signed again by somebody",
        lambda folder: _rewrite(folder / f"{TITLE}{sign.SUFFIX}", lambda data: _resigned(folder, data)),
    )
    yield "no envelope at all", lines(lambda found: [])
    yield "the first line dropped", lines(lambda found: found[1:])
    yield "the last line dropped", lines(lambda found: found[:-1])
    yield "a line twice", lines(lambda found: [*found, found[-1]])
    yield "two lines exchanged", lines(lambda found: [found[0], found[2], found[1], *found[3:]])
    yield "first and last line exchanged", lines(lambda found: [found[-1], *found[1:-1], found[0]])
    yield "an empty line", lines(lambda found: [*found, b"\n"])
    yield "an empty line between", lines(lambda found: [found[0], b"\n", *found[1:]])
    yield "no final newline", lines(lambda found: [*found[:-1], found[-1][:-1]])
    yield "DOS line ends", lines(lambda found: [line[:-1] + b"\r\n" for line in found])
    yield "a blank before a line", lines(lambda found: [b" " + found[0], *found[1:]])
    yield "a field more", first(lambda value: value.update({"extra": 1}))
    yield "a field twice", lines(lambda found: [found[0].replace(b'{"payload":', b'{"payload":"","payload":'), *found[1:]])
    yield "another payload type", first(lambda value: value.update({"payloadType": "application/json"}))
    yield "no signature", first(lambda value: value.update({"signatures": []}))
    yield "a signature twice", first(lambda value: value.update({"signatures": value["signatures"] * 2}))
    yield (
        "a signature more",
        first(lambda value: value["signatures"].append({"keyid": public_key(2).keyid, "sig": value["signatures"][0]["sig"]})),
    )
    yield "a signature as text", first(lambda value: value["signatures"][0].update({"sig": "no base64!"}))
    yield "another key id", first(lambda value: value["signatures"][0].update({"keyid": public_key(2).keyid}))
    yield "a key id in capitals", first(lambda value: value["signatures"][0].update({"keyid": public_key().keyid.upper()}))
    yield (
        "base64 for file names",
        first(
            lambda value: value["signatures"][0].update(
                {"sig": value["signatures"][0]["sig"].replace("/", "_").replace("+", "-") + "="}
            )
        ),
    )
    yield (
        "base64 with other unused bits",
        first(
            lambda value: value["signatures"][0].update(
                {"sig": value["signatures"][0]["sig"][:-3] + _next(value["signatures"][0]["sig"][-3]) + "=="}
            )
        ),
    )
    yield (
        "a scalar that is not reduced",
        signature(lambda raw: raw[:32] + (int.from_bytes(raw[32:], "little") + verify_bundle.L).to_bytes(32, "little")),
    )
    yield "a signature of zeros", signature(lambda raw: bytes(64))
    yield "the neutral point and zero", signature(lambda raw: b"\1" + bytes(63))
    yield "a short signature", signature(lambda raw: raw[:63])
    yield "a long signature", signature(lambda raw: raw + b"\0")
    yield (
        "a payload that is changed",
        first(lambda value: value.update({"payload": base64.b64encode(base64.b64decode(value["payload"]) + b" ").decode()})),
    )
    yield "an envelope that is a list", lines(lambda found: [b"[]\n", *found[1:]])
    yield "an envelope nested deep", lines(lambda found: [b"[" * 100_000 + b"\n", *found[1:]])
    yield "an envelope that is not UTF-8", lines(lambda found: [b"\xff\n", *found[1:]])


def _dishonest() -> Iterator[tuple[str, Draft]]:
    def statement(change: Callable[[dict[str, Any]], object], stage: str = "audit") -> dict[str, Edit]:
        return {f"statements/{stage}.json": _told(change)}

    def predicate(**values: object) -> dict[str, Edit]:
        return statement(lambda value: value["predicate"].update(values))

    def plan(**values: object) -> dict[str, Edit]:
        return {"plan.json": _told(lambda value: value.update(values))}

    def release(change: Callable[[dict[str, Any]], object]) -> Edit:
        return _told(change)

    known = {**Draft().policy, "trust/2.pub": public_key(2).pem}
    yield "signed by a key that the bundle does not know", Draft(cosigners=(2,))
    yield "signed by two in the first version", Draft(version=1, policy=known, cosigners=(2,))
    yield "a second signature that is not good", Draft(policy=known, cosigners=(2,), edit_envelopes=_signatures(
        lambda made: made[-1].update(sig=made[0]["sig"])))  # fmt: skip
    yield "two signatures out of order", Draft(policy=known, cosigners=(2,), edit_envelopes=_signatures(
        lambda made: made.reverse()))  # fmt: skip
    yield "a second signature on the first line alone", Draft(policy=known, cosigners=(2,), edit_envelopes=_signatures(
        lambda made: made.pop(), lines=slice(1, None)))  # fmt: skip
    yield "seventeen signatures", Draft(edit_envelopes=_signatures(
        lambda made: made.extend({"keyid": f"{number:064x}", "sig": ""} for number in range(16))))  # fmt: skip
    for name in ("cyclonedx", "provenance", "test-result", "vulns"):
        urn = f"urn:sealrun:attestation:{name}"
        yield (
            f"a {name} that is about something else",
            Draft(edits={urn: lambda data: data.replace(b"report.html", b"other.html")}),
        )
        yield f"a {name} with a blank more", Draft(edits={urn: lambda data: data + b" "})
        yield f"a {name} that is not signed", Draft(attested=lambda names, urn=urn: [n for n in names if n != urn])
    yield "a test result that passed", Draft(kinds={"audit.clean": OutcomeKind.FAILED}, edits={
        "urn:sealrun:attestation:test-result": lambda data: data.replace(b'"FAILED"', b'"PASSED"')})  # fmt: skip
    yield "a provenance without a dependency", Draft(edits={"urn:sealrun:attestation:provenance": _told(
        lambda value: value["predicate"]["buildDefinition"]["resolvedDependencies"].pop())})  # fmt: skip
    yield "vulnerabilities of an older snapshot", Draft(edits={"urn:sealrun:attestation:vulns": lambda data: data.replace(
        b"2026-01-10T", b"2026-01-14T")})  # fmt: skip
    yield "an attestation as a member", Draft(extra={"attestations/provenance.json": b"{}"})
    yield "an advisory snapshot without a day", Draft(edits={"evidence/audit/snapshot.json": lambda data: b"{}"})
    yield "a release about nothing", Draft(edit_release=release(lambda value: value.update(subject=[])))
    yield "a million values", Draft(edits={"statements/audit.json": lambda data: b"[" + b"[],[]," * 400_000 + b"[]]"})
    yield "a number of many digits", Draft(edits={"evidence/certify/certificate/manifest.json": lambda data: data.replace(
        b'{"files"', b'{"n":' + b"9" * 101 + b',"files"')})  # fmt: skip
    yield "an infinite number", Draft(edits={"evidence/certify/certificate/manifest.json": lambda data: data.replace(
        b'{"files"', b'{"n":1e999,"files"')})  # fmt: skip
    yield "a member that no rule allows", Draft(extra={"notes.txt": b"x"})
    yield "evidence of a stage without statement", Draft(extra={"evidence/other/x": b"x"})
    yield "evidence beside the stages", Draft(extra={"evidence/x": b"x"})
    yield "evidence that no statement names", Draft(extra={"evidence/audit/more.json": b"x"})
    yield "evidence that is missing", Draft(edits=statement(lambda value: value["subject"].append(
        {"name": "zz", "digest": {"sha256": "0" * 64}})))  # fmt: skip
    yield (
        "evidence that is another",
        Draft(edits=statement(lambda value: value["subject"][0]["digest"].update(sha256="0" * 64))),
    )
    yield "a subject twice", Draft(edits=statement(lambda value: value["subject"].append(value["subject"][0])))
    yield (
        "a verdict that does not follow",
        Draft(kinds={"audit.clean": OutcomeKind.FAILED}, passed=True, edits=predicate(verdict="passed")),
    )
    yield "a verdict worse than its outcomes", Draft(edits=predicate(verdict="failed"))
    yield "a stage that ended in an error", Draft(edits=predicate(verdict="error", error="crashed", errorCode=4))
    yield "an error that is hidden", Draft(edits=predicate(errorCode=4))
    yield "no outcome at all", Draft(edits=predicate(outcomes=[]))
    yield "an outcome dropped", Draft(edits=statement(lambda value: value["predicate"]["outcomes"].pop()))
    yield "an outcome twice", Draft(edits=statement(lambda value: value["predicate"]["outcomes"].append(
        value["predicate"]["outcomes"][0])))  # fmt: skip
    yield "an outcome that nobody asked for", Draft(edits=statement(lambda value: value["predicate"]["outcomes"].append(
        {**value["predicate"]["outcomes"][0], "control": "audit.other"})))  # fmt: skip
    yield "an outcome of another stage", Draft(edits=statement(lambda value: value["predicate"]["outcomes"][0].update(
        control="lock.hashed")))  # fmt: skip
    yield "an unknown kind of outcome", Draft(edits=statement(lambda value: value["predicate"]["outcomes"][0].update(
        outcome="fine")))  # fmt: skip
    yield "another plan", Draft(edits=predicate(plan="0" * 64))
    yield "another day", Draft(edits=predicate(judgedAt="2026-01-16"))
    yield "a report that nobody enforced", Draft(edits=predicate(reportOnly=True))
    yield "a report that nobody enforced, and what it found", Draft(
        kinds={"audit.clean": OutcomeKind.FAILED}, edits=predicate(reportOnly=True))  # fmt: skip
    yield "a report that says it was enforced", Draft(edits=predicate(reportOnly=False))
    yield "kept a day less than its days", Draft(until="2026-04-14")
    yield "kept for ever", _kept(days=10**9, until="9999-12-31")
    yield "kept for more days than there are", _kept(days=10**60)
    yield "kept for no time", _kept(days=0, until=DAY)
    yield "kept until before its day", _kept(days=-1, until="2026-01-14")
    yield "kept for longer than its class", _kept(days=91, until="2026-04-16")
    yield "kept for another reason than its class", _kept(reason="Because.")
    yield "a retention class that the policy lacks", _kept("other")
    yield "a class that is not for production, said to be", _kept(warnings={"release.key": "NOT FOR PRODUCTION"})
    for name, old, new in (
        ("another format", b"retention-v1", b"retention-v2"), ("no format", b'format = "sealrun/retention-v1"\n', b""),
        ("a format twice", b"\n[retention.re", b'format = "sealrun/retention-v1"\n[retention.re'),
        ("a class twice", b"[retention.release]", b"[retention.research]"), ("a line twice", b"days = 90", b"days = 90\ndays = 90"),
        ("a line less", b"production = false\n", b""), ("an unknown line", b"days = 90", b"days = 90\nmore = 1"),
        ("other TOML", b"days = 90", b"days = 0x5a"), ("days as text", b"days = 90", b'days = "90"'),
        ("text as a word", b'"Trial runs."', b"true"), ("a word as text", b"production = false", b'production = "false"'),
        ("a carriage return", b"days = 90\n", b"days = 90\r\n"), ("not UTF-8", b"# How", b"# \xff"),
    ):  # fmt: skip
        yield f"a retention policy with {name}", _kept(policy=RETENTION.replace(old, new, 1))
    yield "two statements exchanged", Draft(edits=statement(lambda value: value["predicate"].update(stage="sbom")))
    yield "a stage without statement", Draft(dropped=("statements/sbom.json", "evidence/sbom/tool.cdx.json"))
    yield "a statement of no stage of the checklist", Draft(extra={"statements/other.json": b"{}"})
    yield "another predicate type", Draft(edits=statement(lambda value: value.update(predicateType="urn:other")))
    yield "an unknown field", Draft(edits=predicate(more=1))
    yield "a missing field", Draft(edits=statement(lambda value: value["predicate"].pop("gathered")))
    yield "no statement type", Draft(edits=statement(lambda value: value.pop("_type")))
    yield "a number as text", Draft(edits=predicate(errorCode="0"))
    yield "true as a number", Draft(edits=predicate(errorCode=False))
    yield "null for a list", Draft(edits=predicate(tools=None))
    yield "a digest that is none", Draft(edits=predicate(reuseKey="0" * 63))
    yield "a digest and a newline", Draft(edits=predicate(reuseKey="0" * 64 + "\n"))
    yield "a digest in capitals", Draft(edits=predicate(reuseKey="A" * 64))
    yield "a finding with null", Draft(edits=predicate(findings=[
        {"control": "audit.clean", "rule": "r", "outcome": "waived", "message": "m", "path": None}]))  # fmt: skip
    yield (
        "a statement in compact form",
        Draft(edits={"statements/audit.json": lambda data: digest.canonical_json(json.loads(data))}),
    )
    yield "a statement with a blank behind", Draft(edits={"statements/audit.json": lambda data: data + b" "})
    yield "a statement with escapes", Draft(edits={"statements/audit.json": lambda data: json.dumps(
        json.loads(data), indent=2, sort_keys=True).encode() + b"\n"})  # fmt: skip
    yield "a key twice", Draft(edits={"statements/audit.json": lambda data: data.replace(
        b'  "subject": [', b'  "subject": [],\n  "subject": [')})  # fmt: skip
    yield "NaN", Draft(edits={"statements/audit.json": lambda data: data.replace(b'"errorCode": 0', b'"errorCode": NaN')})
    yield "a float", Draft(edits={"statements/audit.json": lambda data: data.replace(b'"errorCode": 0', b'"errorCode": 0.0')})
    yield "minus zero", Draft(edits={"statements/audit.json": lambda data: data.replace(b'"errorCode": 0', b'"errorCode": -0')})
    yield "a gigantic number", Draft(edits={"statements/audit.json": lambda data: data.replace(
        b'"errorCode": 0', b'"errorCode": ' + b"9" * 5000)})  # fmt: skip
    yield "deep nesting", Draft(edits={"statements/audit.json": lambda data: b"[" * 200 + b"]" * 200})
    yield "very deep nesting", Draft(edits={"statements/audit.json": lambda data: b"[" * 200_000})
    yield "not UTF-8", Draft(edits={"statements/audit.json": lambda data: data.replace(b"tool", b"t\xffol", 1)})
    yield "half a surrogate pair", Draft(edits={"statements/audit.json": lambda data: data.replace(b'"tool"', b'"\\ud800"', 1)})
    yield "a byte order mark", Draft(edits={"statements/audit.json": lambda data: b"\xef\xbb\xbf" + data})
    yield "an empty statement", Draft(edits={"statements/audit.json": lambda data: b""})
    yield "a statement that is null", Draft(edits={"statements/audit.json": lambda data: b"null\n"})
    yield "no plan", Draft(dropped=("plan.json",))
    yield "a plan of another release", Draft(edits=plan(release="0" * 64))
    yield "a plan of another policy", Draft(edits=plan(policy="0" * 64))
    yield "a plan with another content", Draft(edits=plan(content="0" * 64))
    yield "a plan with another digest", Draft(edits=plan(digest="0" * 64))
    yield "a plan of another day", Draft(edits=plan(judged_at="2026-01-16"))
    yield "a day that is none", Draft(judged_at="2026-02-30")
    yield "a day in other digits", Draft(judged_at="٢٠٢٦-٠١-١٥")
    yield "a plan of another name", Draft(edits=plan(name="other"))
    yield "a plan without commit that passed", Draft(commit=None)
    yield "a commit that is none", Draft(edits=plan(source={"commit": "HEAD", "clean": True}))
    yield "a changed tree that passed", Draft(clean=False)
    yield "no release file", Draft(dropped=("release.toml",))
    yield "promotable in research", Draft(promotable=True)
    yield (
        "promotable, a gate said no",
        Draft(posture="production", warnings={}, kinds={"release.key": OutcomeKind.FAILED}, promotable=True),
    )
    yield "a warning in production", Draft(posture="production")
    yield "an untrusted key that passed", Draft(warnings={})
    yield "an opened network that passed", Draft(network="opened")
    yield "a tool from another lock that passed", Draft(lock="0" * 64)
    yield "a tool from no lock that passed", Draft(edits=statement(
        lambda value: value["predicate"]["tools"][0].update(environment="none")))  # fmt: skip
    yield "isolated, though the locks failed", Draft(kinds={"lock.hashed": OutcomeKind.FAILED})
    yield "a lock that was not judged", Draft(extra={"requirements/more.txt": b"more==1\n"})
    yield "a judged lock that is missing", Draft(dropped=("requirements/tool.txt",))
    yield "no certificate, though archived", Draft(dropped=("evidence/certify/certificate/manifest.json",))
    yield "no baseline report, though archived", Draft(dropped=("evidence/certify/baseline-report.json",))
    yield "a certificate about other files", Draft(edits={"evidence/certify/certificate/report.json": lambda data: data + b" "})
    yield "a certificate about another report", Draft(edits={"evidence/certify/baseline-report.json": lambda data: data + b" "})
    yield "a certificate about a missing file", Draft(dropped=("evidence/certify/certificate/report.json",))
    yield "a certificate that names nothing", Draft(edits={"evidence/certify/certificate/manifest.json": lambda data: b"{}"})
    yield "a certificate that is no JSON", Draft(edits={"evidence/certify/certificate/manifest.json": lambda data: b"{"})
    yield "a checklist answer that differs", Draft(edits={"evidence/bundle/checklist.json": _told(
        lambda value: value["lines"][0].update(seen="something else"))})  # fmt: skip
    yield "a checklist answer dropped", Draft(edits={"evidence/bundle/checklist.json": _told(
        lambda value: value["lines"].pop())})  # fmt: skip
    yield "no checklist answer", Draft(dropped=("evidence/bundle/checklist.json",))
    yield "a checklist with a line less", Draft(policy={"checklist.toml": _without_last_control()})
    yield "a checklist without controls", Draft(policy={"checklist.toml": b'format = "sealrun/checklist-v1"\n'})
    yield "a checklist with a line twice", Draft(policy={"checklist.toml": Draft().policy["checklist.toml"] + _last_control()})
    yield "a checklist in other TOML", Draft(policy={"checklist.toml": Draft().policy["checklist.toml"].replace(
        b'"Mend it."', b"'Mend it.'")})  # fmt: skip
    yield (
        "a checklist with an unknown key",
        Draft(policy={"checklist.toml": Draft().policy["checklist.toml"] + b'more = "x"\n'}),
    )
    yield "a checklist that is not UTF-8", Draft(policy={"checklist.toml": Draft().policy["checklist.toml"] + b"#\xff\n"})
    yield "no checklist", Draft(policy={"gates.toml": b""})
    yield "a trusted key that is none", Draft(policy={**Draft().policy, "trust/x.pub": b"nothing"})
    yield "a policy file more", Draft(extra={"policy/more.toml": b""})
    yield "no public key", Draft(dropped=("evidence/bundle/release.pub",))
    yield "another public key", Draft(edits={"evidence/bundle/release.pub": lambda data: public_key(2).pem})
    yield "a public key that is none", Draft(edits={"evidence/bundle/release.pub": lambda data: b"nothing"})
    yield "a public key of small order", Draft(edits={"evidence/bundle/release.pub": lambda data: _pem(b"\1" + bytes(31))})
    yield "a public key that is not canonical", Draft(edits={"evidence/bundle/release.pub": lambda data: _pem(b"\xff" * 32)})
    yield "candidate files that were not found", Draft(edits={"evidence/model/digests.json": _told(
        lambda value: value["candidate"].pop())})  # fmt: skip
    yield (
        "digests in compact form",
        Draft(edits={"evidence/model/digests.json": lambda data: digest.canonical_json(json.loads(data))}),
    )
    yield (
        "a negative size",
        Draft(edits={"evidence/model/digests.json": _told(lambda value: value["baseline"][0].update(size=-1))}),
    )
    yield "a manifest that lists too much", Draft(edit_manifest=_told(lambda value: value["members"].append(
        {"path": "zz", "sha256": "0" * 64, "size": 0})))  # fmt: skip
    yield "a manifest that lists too little", Draft(edit_manifest=_told(lambda value: value["members"].pop()))
    yield (
        "a manifest that lists one twice",
        Draft(edit_manifest=_told(lambda value: value["members"].append(value["members"][-1]))),
    )
    yield "a manifest out of order", Draft(edit_manifest=_told(lambda value: value["members"].reverse()))
    yield "a manifest with another size", Draft(edit_manifest=_told(lambda value: value["members"][0].update(size=0)))
    yield (
        "a manifest with another digest",
        Draft(edit_manifest=_told(lambda value: value["members"][0].update(sha256="0" * 64))),
    )
    yield "a manifest of another title", Draft(edit_manifest=_told(lambda value: value.update(title="other")))
    yield "a manifest of another format", Draft(edit_manifest=_told(lambda value: value.update(format="sealrun/bundle-v3")))
    yield "a manifest that names itself", Draft(edit_manifest=_told(lambda value: value["members"].append(
        {"path": "manifest.json", "sha256": "0" * 64, "size": 0})))  # fmt: skip
    yield "a release about another bundle", Draft(edit_release=release(
        lambda value: value["subject"][0]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a release about another report", Draft(edit_release=release(
        lambda value: value["subject"][1]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a release about another manifest", Draft(edit_release=release(
        lambda value: value["subject"][2]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a release that names no manifest", Draft(edit_release=release(lambda value: value["subject"].pop(2)))
    yield "a first version that names its manifest", Draft(version=1, edit_release=release(
        lambda value: value["subject"].insert(2, {"name": "manifest.json", "digest": {"sha256": "0" * 64}})))  # fmt: skip
    yield "a release about other weights", Draft(edit_release=release(
        lambda value: value["subject"][3]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a release about fewer files", Draft(edit_release=release(lambda value: value["subject"].pop()))
    yield "a release about more files", Draft(edit_release=release(lambda value: value["subject"].append(value["subject"][0])))
    yield "a release that passed though a gate said no", Draft(kinds={"audit.clean": OutcomeKind.FAILED}, passed=True)
    yield "a release that failed though all passed", Draft(passed=False)
    yield "a release at another level", Draft(edit_release=release(
        lambda value: value["predicate"].update(verifiedLevels=["SEALRUN_PRODUCTION"])))  # fmt: skip
    yield "a release at two levels", Draft(edit_release=release(
        lambda value: value["predicate"].update(verifiedLevels=["SEALRUN_RESEARCH"] * 2)))  # fmt: skip
    yield "a release at another time", Draft(edit_release=release(
        lambda value: value["predicate"].update(timeVerified=f"{DAY}T00:00:01Z")))  # fmt: skip
    yield "a release of another name", Draft(edit_release=release(
        lambda value: value["predicate"].update(resourceUri="urn:sealrun:release:other")))  # fmt: skip
    yield "a release under another policy", Draft(edit_release=release(
        lambda value: value["predicate"]["policy"]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a release by another version", Draft(edit_release=release(
        lambda value: value["predicate"]["verifier"].update(version={"sealrun": "9"})))  # fmt: skip
    yield "a release that is a stage statement", Draft(edit_release=release(
        lambda value: value.update(predicateType="urn:sealrun:stage:v1")))  # fmt: skip
    yield "a release that names a statement less", Draft(edit_release=release(
        lambda value: value["predicate"]["inputAttestations"].pop()))  # fmt: skip
    yield "a release that names another digest", Draft(edit_release=release(
        lambda value: value["predicate"]["inputAttestations"][0]["digest"].update(sha256="0" * 64)))  # fmt: skip
    yield "a statement that is not signed", Draft(attested=lambda names: names[1:])
    yield "a signed statement that is not inside", Draft(attested=lambda names: ["attestations/none.json", *names])
    yield "statements signed out of order", Draft(attested=lambda names: names[::-1])
    yield (
        "an attestation that is not signed",
        Draft(
            version=1,
            extra={"attestations/a.json": b"{}"},
            attested=lambda names: [name for name in names if "attest" not in name],
        ),
    )
    for name in ("a\\b", "C:x", "a//b", "../a", "policy/../a", "policy/.", "policy/ä", "policy/a b", "/policy/a", "policy/..."):
        yield f"the name {name!r}", Draft(extra={name: b""}) if name.isascii() else Draft(edit_tar=_renamed(name))
    yield "names that differ in case alone", Draft(policy={**Draft().policy, "Gates.toml": b""})
    yield "a member below a member", Draft(policy={**Draft().policy, "gates.toml/x": b""})


def _editions() -> Iterator[tuple[str, int, Draft, tuple[str, ...]]]:
    """Yield bundles from whose archive members are left out; `report.html` is left out of their folder."""
    receipt, gates = "evidence/verify/receipt.json", "policy/gates.toml"

    def marking(*patterns: str, disclosure: bytes = DISCLOSURE, **values: Any) -> Draft:
        more = "".join(f'\n[[withhold]]\nmembers = "{pattern}"\nreason = "Because."\n' for pattern in patterns)
        return Draft(policy={**Draft().policy, "disclosure.toml": disclosure + more.encode()}, **values)

    yield "nothing withheld, though marked", PASSED, marking(), ()
    yield "one member withheld", PASSED, marking(), (receipt,)
    yield "all that is marked withheld", PASSED, marking(), (receipt, gates)
    yield "the report withheld", PASSED, marking("report.html"), ("report.html",)
    yield "the release file withheld", PASSED, marking("release.toml"), ("release.toml",)
    yield "the certificate withheld", PASSED, marking("evidence/certify/*"), (
        "evidence/certify/baseline-report.json", "evidence/certify/certificate/manifest.json",
        "evidence/certify/certificate/report.json",
    )  # fmt: skip
    yield "the retention classes withheld", PASSED, _kept(disclosure=DISCLOSURE + (
        b'\n[[withhold]]\nmembers = "policy/retention.toml"\nreason = "Ours."\n')), ("policy/retention.toml",)  # fmt: skip
    yield "withheld, and a gate said no", FAILED, marking(kinds={"audit.clean": OutcomeKind.FAILED}), (receipt,)
    yield "a member that is not marked", REFUSED, marking(), ("evidence/audit/pip-audit.json",)
    yield "a pattern that only begins so", REFUSED, marking("evidence/audit/pip"), ("evidence/audit/pip-audit.json",)
    yield "a dot that stands for any letter", REFUSED, marking("evidence/audit/pip.audit*"), ("evidence/audit/pip-audit.json",)
    yield "the report, which is not marked", REFUSED, marking(), ("report.html",)
    yield "no policy of disclosure", REFUSED, Draft(), (receipt,)
    yield "the first version", REFUSED, marking(version=1), (receipt,)
    for name in ("plan.json", "policy/checklist.toml", "policy/disclosure.toml", "statements/audit.json",
                 "evidence/bundle/checklist.json", "evidence/bundle/release.pub", "evidence/model/digests.json"):  # fmt: skip
        yield f"what a verifier reads: {name}", REFUSED, marking(name), (name,)
    yield "a manifest that is missing", REFUSED, marking("manifest.json"), ("manifest.json",)
    yield "another format", REFUSED, marking(disclosure=DISCLOSURE.replace(b"-v1", b"-v2")), (receipt,)
    yield "other TOML", REFUSED, marking(disclosure=DISCLOSURE.replace(b'"Holds text."', b"'Holds text.'")), (receipt,)
    yield "a rule without reason", REFUSED, marking(disclosure=DISCLOSURE + b'[[withhold]]\nmembers = "x"\n'), (receipt,)
    yield "an unknown key", REFUSED, marking(disclosure=DISCLOSURE + b'more = "x"\n'), (receipt,)


def _without(draft: Draft, names: tuple[str, ...]) -> Make:
    def make(folder: Path) -> Path:
        path = draft.write(folder)
        if "report.html" in names:
            (folder / sign.REPORT).unlink()
        if left_out := set(names) - {"report.html"}:
            kept = {name: data for name, data in _contents(path.read_bytes()).items() if name not in left_out}
            path.write_bytes(_written(kept))
        return path

    return make


def _archives() -> Iterator[tuple[str, Edit]]:
    def with_member(kind: bytes, **values: object) -> Edit:
        def edit(data: bytes) -> bytes:
            info = tarfile.TarInfo("policy/zz")
            info.type = kind
            for name, value in values.items():
                setattr(info, name, value)
            return _tar_with(data, info)

        return edit

    yield "a symbolic link", with_member(tarfile.SYMTYPE, linkname="/etc/passwd")
    yield "a hard link", with_member(tarfile.LNKTYPE, linkname="plan.json")
    yield "a folder", with_member(tarfile.DIRTYPE)
    yield "a device", with_member(tarfile.CHRTYPE)
    yield "a pipe", with_member(tarfile.FIFOTYPE)
    yield "an old kind of file", with_member(tarfile.AREGTYPE)
    yield "another mode", with_member(tarfile.REGTYPE, mode=0o777)
    yield "an owner", with_member(tarfile.REGTYPE, uid=1)
    yield "an owner's name", with_member(tarfile.REGTYPE, uname="root")
    yield "another time", with_member(tarfile.REGTYPE, mtime=1)
    yield "a sparse file of GNU", with_member(b"S", size=0)
    yield "a file in pieces of GNU", with_member(b"M", size=0)
    yield "a volume's name", with_member(b"V", size=0)
    yield "a gigantic long name of GNU", with_member(b"L", name="././@LongLink", size=8**11 - 1)
    yield "a gigantic PAX header", with_member(b"x", size=8**11 - 1)
    yield "a global PAX header", lambda data: _tar_with(data, _info("policy/zz"), tarfile.USTAR_FORMAT, {"path": "../../x"})
    yield (
        "a sparse file of PAX",
        lambda data: _tar_with(data, _info("policy/zz"), tarfile.PAX_FORMAT, {"GNU.sparse.size": "99999999"}),
    )
    yield "a name in Unicode, composed and not", _renamed("policy/gàtes.toml")
    yield "an absolute name", _renamed("/olicy/gates.toml")
    yield "a name that leads up", _renamed("../icy/gates.toml")
    yield "a name of a drive", _renamed("C:/icy/gates.toml")
    yield "a name with a backslash", _renamed("policy\\gates.toml")
    yield "a name with a colon", _renamed("policy:gates.toml")
    yield "a name of a device on Windows", _renamed("policy/NUL")
    yield "a PAX header", lambda data: _tar_with(data, _info("policy/zz"), tarfile.PAX_FORMAT, {"comment": "x"})
    yield "a GNU long name", lambda data: _tar_with(data, _info("policy/" + "z" * 200), tarfile.GNU_FORMAT)
    yield "a size in another base", lambda data: _with_field(data, 124, b"\x80" + bytes(10) + b"\2\0")
    yield "a size in blanks", lambda data: _with_field(data, 124, b"         0 \0")
    yield "a negative size", lambda data: _with_field(data, 124, b"-0000000001\0")
    yield "a gigantic size", lambda data: _with_field(data, 124, b"77777777777\0")
    yield "bytes behind a name", lambda data: _with_field(data, 20, b"x")
    yield "bytes in the unused end of a header", lambda data: _with_field(data, 505, b"x")
    yield "another magic", lambda data: _with_field(data, 257, b"ustar  \0")
    yield "a checksum that is wrong", lambda data: data[:148] + b"000000\0 " + data[156:]
    yield "nothing but zeros", lambda data: bytes(10240)
    yield "no bytes", lambda data: b""
    yield "two archives, one after the other", lambda data: data + data
    yield "members out of order", lambda data: _reordered(data, lambda names: [names[0], *names[:0:-1]])
    yield "the manifest last", lambda data: _reordered(data, lambda names: [*names[1:], names[0]])


def _signatures(change: Callable[[list[dict[str, Any]]], object], lines: slice = slice(None)) -> Edit:
    """Return an edit of the signatures on the *lines* of the envelopes."""

    def edit(data: bytes) -> bytes:
        found = [json.loads(line) for line in data.splitlines()]
        for envelope in found[lines]:
            change(envelope["signatures"])
        return b"".join(digest.canonical_json(envelope) for envelope in found)

    return edit


def _kept(
    name: str = "research", days: int = 90, reason: str = "Trial runs.", until: str = "2026-04-15", *, policy: bytes = RETENTION,
    warnings: dict[str, str] | None = None, disclosure: bytes | None = None,
) -> Draft:  # fmt: skip
    """Return a bundle whose policy has retention classes, and whose plan says that it is kept so."""
    controls = (*CONTROLS, ("evidence.retained", "bundle", True))
    said = {"name": name, "days": days, "reason": reason, "until": until}
    more = {"disclosure.toml": disclosure} if disclosure else {}
    return Draft(
        controls=controls, policy={"checklist.toml": checklist_toml(controls), "retention.toml": policy, **more},
        warnings=warnings or {"release.key": "NOT FOR PRODUCTION", "evidence.retained": "NOT FOR PRODUCTION"},
        edits={"plan.json": _told(lambda value: value.update(retention=said))},
    )  # fmt: skip


def _told(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Return an edit that ignores what *change* returns."""

    def edit(value: dict[str, Any]) -> None:
        change(value)

    return edited(edit)


def _rewrite(path: Path, edit: Edit) -> None:
    path.write_bytes(edit(path.read_bytes()))


def _contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def _written(members: dict[str, bytes]) -> bytes:
    parts = [bundle._header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in members.items()]
    content = b"".join(parts) + bytes(1024)
    return content + bytes(-len(content) % 10240)


def _with_members(data: bytes, more: dict[str, bytes], drop: str = "") -> bytes:
    return _written({name: found for name, found in {**_contents(data), **more}.items() if name != drop})


def _reordered(data: bytes, order: Callable[[list[str]], list[str]]) -> bytes:
    found = _contents(data)
    return _written({name: found[name] for name in order(list(found))})


def _renamed(name: str) -> Edit:
    """Rename the policy's gates to *name* in the archive, in Latin-1."""

    def edit(data: bytes) -> bytes:
        at = data.index(b"policy/gates.toml\0")
        header = data[at : at + 512].replace(b"policy/gates.toml", name.encode("latin-1").ljust(17, b"\0"))
        return data[:at] + _summed(header) + data[at + 512 :]

    return edit


def _with_field(data: bytes, offset: int, value: bytes) -> bytes:
    """Change a field of a header, its checksum made right again."""
    at = data.index(b"release.toml\0")
    header = data[at : at + offset] + value + data[at + offset + len(value) : at + 512]
    return data[:at] + _summed(header) + data[at + 512 :]


def _summed(header: bytes) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


def _info(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = 315_532_800
    return info


def _tar_with(data: bytes, info: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT, pax: dict[str, str] | None = None) -> bytes:
    """Add a member by Python's own writer, in its place by name."""
    if not info.mtime:
        info.mtime = 315_532_800
    block = (
        info.tobuf(form) if pax is None else tarfile.TarInfo.create_pax_global_header(pax) + info.tobuf(tarfile.USTAR_FORMAT)
    )
    at = data.index(b"release.toml\0")
    return (data[:at] + block + data[at:]).rstrip(b"\0").ljust(len(data), b"\0") + bytes(10240)


def _other(folder: Path, draft: Draft) -> bytes:
    draft.write(folder / "other")
    return (folder / "other" / f"{TITLE}{sign.SUFFIX}").read_bytes()


def _resigned(folder: Path, data: bytes) -> bytes:
    payloads = [envelope.payload for envelope in sign.parse(data, "test")]
    return sign.sign(payloads, signers.of_file(key_file(folder, 2)))


def _next(char: str) -> str:
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    return alphabet[alphabet.index(char) ^ 1]


def _pem(raw: bytes) -> bytes:
    body = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + raw).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n".encode()


def _last_control() -> bytes:
    return b"\n[[control]]\n" + Draft().policy["checklist.toml"].split(b"[[control]]\n")[-1]


def _without_last_control() -> bytes:
    return Draft().policy["checklist.toml"].rpartition(b"[[control]]\n")[0]
