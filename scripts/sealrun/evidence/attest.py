"""The statements that other tools of the field read: provenance, test results, vulnerabilities, bill of materials.

Rules: each is rebuilt byte for byte from what the bundle holds, by whoever signs and by whoever verifies, so that it can say
nothing else; its subjects are those of the release; what differs from run to run is not in it (run.json has that).

Source: SLSA Provenance v1; in-toto predicates test-result v0.1 and vulns v0.2; CycloneDX; docs/bundle-format.md, section 5.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import checklist, manifest
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, StageStatement
from sealrun.outcome import Finding, OutcomeKind

URN = "urn:sealrun:attestation:"
BOM = "evidence/bundle/ml-bom.cdx.json"
SNAPSHOT = "evidence/audit/snapshot.json"

_BUILD_TYPE, _BUILDER, _PLAN = "urn:sealrun:release:v1", "urn:sealrun:builder:v1", "urn:sealrun:plan:"


class Basis(Struct, frozen=True, kw_only=True):
    """What they are made of. `members` are digests by name, `read` returns a member's bytes, None for one that is withheld."""

    subjects: tuple[Resource, ...]
    plan: manifest.PlanDocument
    statements: Mapping[str, StageStatement]
    lines: tuple[checklist.Line, ...]
    artifacts: manifest.Artifacts
    members: Mapping[str, digest.Sha256]
    read: Callable[[str], bytes | None]


class _Snapshot(Struct, frozen=True, kw_only=True):
    """The part of the advisory snapshot that is told."""

    as_of: manifest.Day
    sha256: digest.Sha256


def urns(members: Container[str]) -> list[str]:
    """Return which of them a bundle with these *members* has, in their order."""
    there = {"cyclonedx": BOM in members, "provenance": True, "test-result": True, "vulns": SNAPSHOT in members}
    return [URN + name for name, is_there in there.items() if is_there]


def attestations(basis: Basis) -> dict[str, bytes | None]:
    """Return the payloads by URN, sorted; None for one that cannot be rebuilt without a member that is withheld."""
    makers: Mapping[str, Callable[[Basis], bytes | None]] = {
        "cyclonedx": _bill,
        "provenance": lambda basis: _document(basis, "https://slsa.dev/provenance/v1", _provenance(basis)),
        "test-result": lambda basis: _document(basis, "https://in-toto.io/attestation/test-result/v0.1", _test_result(basis)),
        "vulns": _vulnerabilities,
    }
    return {urn: makers[urn.removeprefix(URN)](basis) for urn in urns(basis.members)}


def _document(basis: Basis, kind: str, predicate: Mapping[str, Any]) -> bytes:
    subject = msgspec.to_builtins(basis.subjects)
    value = {"_type": STATEMENT_TYPE, "predicate": predicate, "predicateType": kind, "subject": subject}
    return files.readable_json(value)


def _bill(basis: Basis) -> bytes | None:
    """Return the bill of materials as it lies in the bundle, its own bytes within the statement."""
    data = basis.read(BOM)
    if data is None:
        return None
    subject = digest.canonical_json(msgspec.to_builtins(basis.subjects)).strip()
    head = f'{{"_type":"{STATEMENT_TYPE}","predicate":'.encode()
    return head + data.strip() + b',"predicateType":"https://cyclonedx.org/bom","subject":' + subject + b"}\n"


def _provenance(basis: Basis) -> Mapping[str, Any]:
    plan, own = basis.plan, basis.statements["bundle"].predicate
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {
                "name": plan.name,
                "version": plan.version,
                "release": _resource(manifest.RELEASE, plan.release),
            },
            "internalParameters": {
                "judgedAt": plan.judged_at,
                "plan": plan.digest,
                "policy": plan.policy,
                "posture": plan.posture,
            },
            "resolvedDependencies": list(_dependencies(basis)),
        },
        "runDetails": {
            "builder": {"id": _BUILDER, "version": {"python": own.python, "sealrun": own.sealrun}},
            "byproducts": [_resource(name, basis.members[name]) for name in _below(basis, "statements/")],
            "metadata": {"invocationId": _PLAN + plan.digest},
        },
    }


def _dependencies(basis: Basis) -> Iterator[Mapping[str, Any]]:
    if basis.plan.source.commit:
        yield {"digest": {"gitCommit": basis.plan.source.commit}, "name": "source"}
    for role, found in (("baseline", basis.artifacts.baseline), ("data", basis.artifacts.data)):
        yield from (_resource(f"{role}/{entry.path}", entry.sha256) for entry in found)
    yield from (_resource(name, basis.members[name]) for name in (*_below(basis, "requirements/"), *_below(basis, "policy/")))


def _test_result(basis: Basis) -> Mapping[str, Any]:
    failed = _controls(basis, lambda line: line.outcome is OutcomeKind.FAILED)
    warned = _controls(
        basis, lambda line: line.outcome is OutcomeKind.WAIVED or (line.outcome is OutcomeKind.PASSED and bool(line.warning))
    )
    return {
        "configuration": [
            _resource(manifest.CHECKLIST, basis.members[manifest.CHECKLIST]),
            _resource(manifest.RELEASE, basis.plan.release),
        ],
        "failedTests": failed,
        "passedTests": _controls(basis, lambda line: line.outcome is OutcomeKind.PASSED and not line.warning),
        "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
        "warnedTests": warned,
    }


def _vulnerabilities(basis: Basis) -> bytes | None:
    data = basis.read(SNAPSHOT)
    if data is None:
        return None
    taken = files.decode(data, _Snapshot, SNAPSHOT, VerificationFailed)
    said = basis.statements["audit"].predicate
    scanner = {"uri": "urn:sealrun:audit", "version": said.sealrun}
    if said.tools:
        first = said.tools[0]
        scanner = {"uri": f"pkg:pypi/{first.name}@{first.version}", "version": first.version}
    day = f"{basis.plan.judged_at}T00:00:00Z"
    predicate = {
        "metadata": {"scanFinishedOn": day, "scanStartedOn": day},
        "scanner": {
            **scanner,
            "db": {"lastUpdate": f"{taken.as_of}T00:00:00Z", "version": f"sha256:{taken.sha256}"},
            "result": [_vulnerability(found) for found in said.findings if found.advisory],
        },
    }
    return _document(basis, "https://in-toto.io/attestation/vulns/v0.2", predicate)


def _vulnerability(found: Finding) -> Mapping[str, Any]:
    told = {"outcome": found.outcome.value, "package": found.package, "version": found.version}
    return {
        "annotations": [{name: value for name, value in told.items() if value is not None}],
        "id": found.advisory,
        "severity": [{"method": "sealrun", "score": found.severity.value}],
    }


def _controls(basis: Basis, chosen: Callable[[checklist.Line], bool]) -> list[str]:
    return [line.id for line in basis.lines if chosen(line)]


def _below(basis: Basis, folder: str) -> Sequence[str]:
    return [name for name in basis.members if name.startswith(folder)]


def _resource(name: str, sha256: digest.Sha256) -> Mapping[str, Any]:
    return {"digest": {"sha256": sha256}, "name": name}
