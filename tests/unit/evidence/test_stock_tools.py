"""What other tools of the field make of our statements: in-toto's library, securesystemslib, OpenSSL, Sigstore's verifier."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from sealrun.evidence import attest
from sealrun.outcome import Finding, OutcomeKind, Severity
from tests.bundles import P256, Draft, public_key

SIGSTORE = os.environ.get("SEALRUN_SIGSTORE_JS", "")
NODE, OPENSSL = shutil.which("node"), shutil.which("openssl")
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
VULNS = {  # in-toto's predicate vulns, version 0.2: every field of the specification, no other
    "type": "object", "required": ["scanner", "metadata"], "additionalProperties": False,
    "properties": {
        "scanner": {
            "type": "object", "required": ["uri", "db", "result"], "additionalProperties": False,
            "properties": {
                "uri": {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:"}, "version": {"type": "string"},
                "db": {"type": "object", "required": ["lastUpdate"], "additionalProperties": False,
                       "properties": {"uri": {"type": "string"}, "version": {"type": "string"}, "lastUpdate": _TIME}},
                "result": {"type": "array", "items": {
                    "type": "object", "required": ["id", "severity"], "additionalProperties": False,
                    "properties": {
                        "id": {"type": "string", "minLength": 1},
                        "severity": {"type": "array", "items": {
                            "type": "object", "required": ["method", "score"], "additionalProperties": False,
                            "properties": {"method": {"type": "string"}, "score": {"type": "string"}}}},
                        "annotations": {"type": "array", "items": {"type": "object"}}}}}}},
        "metadata": {"type": "object", "required": ["scanStartedOn", "scanFinishedOn"], "additionalProperties": False,
                     "properties": {"scanStartedOn": _TIME, "scanFinishedOn": _TIME}},
    },
}  # fmt: skip
FOUND = Finding(
    control="audit.clean", rule="PYSEC-2026-1", outcome=OutcomeKind.WAIVED, message="m", severity=Severity.HIGH,
    package="jinja2", version="3.1.0", advisory="PYSEC-2026-1",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a waived advisory, signed by two keys."""
    known = {**Draft().policy, f"trust/{P256}.pub": public_key(P256).pem}
    draft = Draft(policy=known, cosigners=(P256,), advisories=(FOUND,), kinds={"audit.clean": OutcomeKind.WAIVED})
    return draft.write(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def lines(made: Path) -> list[bytes]:
    """Its envelopes."""
    return made.with_name("tiny-1.0.0.intoto.jsonl").read_bytes().splitlines()


@pytest.fixture(scope="module")
def statements(lines: list[bytes]) -> dict[str, Any]:
    """Their statements by predicate type; that of one stage stands for those of all."""
    payloads = [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in lines]
    return {payload["predicateType"]: payload for payload in payloads}


def test_all_are_there(statements: dict[str, Any]) -> None:
    """Verification summary, provenance, test result, vulnerabilities, bill of materials, stages."""
    assert set(statements) == {
        "https://slsa.dev/verification_summary/v1", "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom",
        "https://in-toto.io/attestation/test-result/v0.1", "https://in-toto.io/attestation/vulns/v0.2", "urn:sealrun:stage:v1",
    }  # fmt: skip


def test_in_toto_reads_them(statements: dict[str, Any]) -> None:
    """in-toto's own library takes each as a Statement, and nothing in it is unknown to it."""
    for statement in statements.values():
        message = ParseDict(statement, statement_pb2.Statement())
        Statement.copy_from_pb(message).validate()


def test_their_subjects(statements: dict[str, Any]) -> None:
    """All but the stages are about the bundle, the report, the manifest and every file of the model."""
    subjects = [statement["subject"] for kind, statement in statements.items() if kind != "urn:sealrun:stage:v1"]
    assert all(subject == subjects[0] for subject in subjects)
    names = [subject["name"] for subject in subjects[0]]
    assert names == [
        "tiny-1.0.0.evidence.tar", "report.html", "manifest.json", "candidate/model.onnx", "candidate/tokenizer/vocab.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("https://slsa.dev/provenance/v1", provenance_pb2.Provenance),
        ("https://slsa.dev/verification_summary/v1", vsa_pb2.VerificationSummary),
        ("https://in-toto.io/attestation/test-result/v0.1", test_result_pb2.TestResult),
    ],
)
def test_predicates_have_their_schema(statements: dict[str, Any], kind: str, message: type[Message]) -> None:
    """Every field of a predicate is one of its schema, of its type."""
    predicate = dict(statements[kind]["predicate"])
    if "verifiedLevels" in predicate:  # this release of the library has one text for SLSA's list, and no version of a verifier
        predicate["verifiedLevels"] = predicate["verifiedLevels"][0]
        predicate["verifier"] = {"id": predicate["verifier"]["id"]}
    ParseDict(predicate, message())


def test_vulnerabilities_have_their_schema(statements: dict[str, Any]) -> None:
    """The predicate has the fields of its specification; the waived advisory stands in it, with its outcome."""
    predicate = statements["https://in-toto.io/attestation/vulns/v0.2"]["predicate"]
    jsonschema.validate(predicate, VULNS)
    assert predicate["scanner"]["uri"] == "pkg:pypi/tool@1.0"
    assert predicate["scanner"]["db"]["lastUpdate"] == "2026-01-10T00:00:00Z"
    (found,) = predicate["scanner"]["result"]
    assert found == {
        "annotations": [{"outcome": "waived", "package": "jinja2", "version": "3.1.0"}], "id": "PYSEC-2026-1",
        "severity": [{"method": "sealrun", "score": "high"}],
    }  # fmt: skip


def test_provenance_says_what_was_used(statements: dict[str, Any]) -> None:
    """Source, baseline, locks and policy are dependencies; byproducts are the stages; there is no clock in it."""
    predicate = statements["https://slsa.dev/provenance/v1"]["predicate"]
    names = [entry["name"] for entry in predicate["buildDefinition"]["resolvedDependencies"]]
    assert names[:3] == ["source", "baseline/model.onnx", "requirements/tool.txt"]
    assert {"policy/checklist.toml", "policy/gates.toml"} <= set(names)
    assert len(predicate["runDetails"]["byproducts"]) == 8
    assert set(predicate["runDetails"]["metadata"]) == {"invocationId"}


def test_a_test_result_has_every_control(statements: dict[str, Any]) -> None:
    """Waived and warned controls are warnings."""
    predicate = statements["https://in-toto.io/attestation/test-result/v0.1"]["predicate"]
    assert (predicate["result"], predicate["failedTests"]) == ("WARNED", [])
    assert predicate["warnedTests"] == ["audit.clean", "release.key"]
    assert len(predicate["passedTests"]) == 11


def test_the_bill_is_the_one_in_the_bundle(made: Path, statements: dict[str, Any]) -> None:
    """The predicate is the ML-BOM as it lies in the bundle."""
    from sealrun.evidence import bundle

    with bundle.opened(made) as archive:
        assert statements["https://cyclonedx.org/bom"]["predicate"] == json.loads(archive.read(attest.BOM))


def test_securesystemslib_verifies_two_of_two(lines: list[bytes]) -> None:
    """The field's DSSE library counts both signatures on every line, of Ed25519 and of P-256."""
    one, two = public_key(1), public_key(P256)
    known = [
        SSlibKey(one.keyid, "ed25519", "ed25519", {"public": one.raw.hex()}),
        SSlibKey(two.keyid, "ecdsa", "ecdsa-sha2-nistp256", {"public": two.pem.decode()}),
    ]
    for line in lines:
        assert set(Envelope.from_dict(json.loads(line)).verify(known, 2)) == {one.keyid, two.keyid}  # type: ignore[arg-type]


@pytest.mark.skipif(OPENSSL is None, reason="no openssl on PATH")
def test_openssl_verifies_a_line(lines: list[bytes], tmp_path: Path) -> None:
    """OpenSSL alone verifies the signature over DSSE's encoding, and no other message."""
    value = json.loads(lines[0])
    payload = base64.b64decode(value["payload"])
    made = {signature["keyid"]: base64.b64decode(signature["sig"]) for signature in value["signatures"]}
    (tmp_path / "key.pub").write_bytes(public_key(1).pem)
    (tmp_path / "sig").write_bytes(made[public_key(1).keyid])
    for message, good in ((payload, True), (payload + b" ", False)):
        (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(message), message))
        argv = [OPENSSL, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-in", "pae", "-sigfile", "sig"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)  # type: ignore[arg-type]
        assert (done.returncode == 0) is good, done.stderr


@pytest.mark.skipif(
    NODE is None or not SIGSTORE,
    reason="SEALRUN_SIGSTORE_JS names no folder: npm install --prefix DIR @sigstore/verify@2 @sigstore/bundle@3",
)
@pytest.mark.parametrize("seed", [1, P256])
def test_sigstore_verifies_every_line(lines: list[bytes], tmp_path: Path, seed: int) -> None:
    """Sigstore's own verifier, which npm uses, takes each line as a bundle signed by the key, and no changed one."""
    key = public_key(seed)
    script = """
      const [file, pem, hint] = process.argv.slice(1);
      const { bundleFromJSON } = require("@sigstore/bundle");
      const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");
      const root = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
      const trust = toTrustMaterial(root, { [hint]: { rawBytes: pem } });
      const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0 });
      for (const line of require("fs").readFileSync(file, "utf8").trim().split("\\n")) {
        const envelope = JSON.parse(line);
        envelope.signatures = envelope.signatures.filter((signature) => signature.keyid === hint);
        const bundle = bundleFromJSON({
          mediaType: "application/vnd.dev.sigstore.bundle+json;version=0.2", dsseEnvelope: envelope,
          verificationMaterial: { publicKey: { hint }, tlogEntries: [] } });
        verifier.verify(toSignedEntity(bundle));
        console.log("verified");
      }"""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"\n".join(lines) + b"\n")
    value = json.loads(lines[0])
    value["payload"] = base64.b64encode(base64.b64decode(value["payload"]) + b" ").decode()
    bad.write_text(json.dumps(value) + "\n")
    for path, verified in ((good, len(lines)), (bad, 0)):
        argv = [str(NODE), "-e", script, str(path), key.pem.decode(), key.keyid]
        done = subprocess.run(argv, cwd=SIGSTORE, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.count("verified") == verified, done.stderr
        assert (done.returncode == 0) is (verified > 0)
