"""Laws of envelopes: one form, one signature, the same bytes each time, readable by the field's own library."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from sealrun import files
from sealrun.errors import VerificationFailed
from sealrun.evidence import manifest, sign, signers
from sealrun.evidence.sign import ReleaseStatement
from tests.bundles import Draft, key_file, public_key


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a test key."""
    return key_file(tmp_path_factory.mktemp("key"))


@given(payloads=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_what_is_signed_is_read_and_verifies(payloads: list[bytes], key: Path) -> None:
    """Parsing gives back each payload; each is signed by the key, and by no other."""
    parsed = sign.parse(sign.sign(payloads, signers.of_file(key)), "test")
    assert [envelope.payload for envelope in parsed] == payloads
    assert all(envelope.signed_by(public_key()) and not envelope.signed_by(public_key(2)) for envelope in parsed)


def test_signing_twice_gives_the_same_bytes(key: Path) -> None:
    """Ed25519 needs no randomness."""
    assert sign.sign([b"a", b"b"], signers.of_file(key)) == sign.sign([b"a", b"b"], signers.of_file(key))


def test_the_library_of_the_field_verifies_it(key: Path) -> None:
    """securesystemslib accepts each line as a DSSE envelope under the same key id."""
    public = public_key()
    known = SSlibKey(public.keyid, "ed25519", "ed25519", {"public": public.raw.hex()})
    for line in sign.sign([b"a", b"b"], signers.of_file(key)).splitlines():
        assert list(Envelope.from_dict(json.loads(line)).verify([known], 1)) == [public.keyid]


def test_the_key_id_is_that_of_the_public_key_file(tmp_path: Path) -> None:
    """The key id is the sha256 of the DER that other tools make of the PEM."""
    from hashlib import sha256

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    der = load_pem_public_key(public_key().pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key().fingerprint == f"sha256:{sha256(der).hexdigest()}"


@pytest.mark.parametrize("data", [b"", b"{}", b"{}\n", b"\n", b"null\n", b"[]\n"])
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    """Anything but whole envelopes is refused, with the line."""
    with pytest.raises(VerificationFailed, match="test"):
        sign.parse(data, "test")


def test_the_release_statement_is_an_in_toto_statement(tmp_path: Path) -> None:
    """The first line has the fields that in-toto's Statement v1 and SLSA's verification summary ask for."""
    path = Draft().write(tmp_path)
    first = sign.parse(path.with_name("tiny-1.0.0.intoto.jsonl").read_bytes(), "test")[0].payload
    value = json.loads(first)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert all(subject["name"] and subject["digest"]["sha256"] for subject in value["subject"])
    needed = {"verifier", "timeVerified", "resourceUri", "policy", "verificationResult", "verifiedLevels"}
    assert needed <= set(value["predicate"])
    assert not any(level.startswith("SLSA_") for level in value["predicate"]["verifiedLevels"])
    assert files.readable_json(manifest.decode(first, ReleaseStatement, "test")) == first
