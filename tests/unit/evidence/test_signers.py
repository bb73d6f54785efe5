"""Laws of signing by URI: a file, a token by PKCS #11, services on the network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import verify_bundle
from sealrun.errors import ToolFailed, UsageError
from sealrun.evidence import keys, sign, signers
from tests.bundles import P256, key_file, public_key

TOKEN = next(iter(sorted(Path("/usr").glob("lib/**/softhsm/libsofthsm2.so"))), None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty key folder."""
    place = tmp_path / "keys"
    monkeypatch.setenv("SEALRUN_KEYS", str(place))
    monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK", raising=False)
    return place


def both(public: keys.PublicKey, signer: object) -> bool:
    """Whether both verifiers accept what *signer* signs."""
    (envelope,) = sign.parse(sign.sign([b"payload"], signer), "test")  # type: ignore[arg-type]
    theirs = verify_bundle.parse_envelope(sign.sign([b"payload"], signer).strip(), "test")  # type: ignore[arg-type]
    key = verify_bundle.parse_key(public.pem)
    assert key is not None
    return envelope.signed_by(public) and theirs.signed_by(key)


@pytest.mark.parametrize("seed", [1, P256])
def test_a_file_by_uri(folder: Path, tmp_path: Path, seed: int) -> None:
    """A key file anywhere may sign, of either kind; from then on it is the release key."""
    path = key_file(tmp_path, seed)
    assert signers.use(f"file2:{path}") == signers.release_public() == public_key(seed)
    assert signers.where() == f"file2:{path}"
    assert both(public_key(seed), signers.release())


def test_p256_signatures_have_one_form() -> None:
    """Of the two values of s the smaller stands; the other one, and longer DER, is refused by both verifiers."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    private, public = ec.derive_private_key(P256, ec.SECP256R1()), public_key(P256)
    known = verify_bundle.parse_key(public.pem)
    assert known is not None
    for number in range(8):
        message = bytes([number])
        good = keys.normal(private.sign(message, ec.ECDSA(hashes.SHA256())))
        r, s = decode_dss_signature(good)
        assert public.signed(message, good)
        assert verify_bundle.signed(known, message, good)
        longer = good[:1] + bytes([good[1] + 1]) + good[2:3] + bytes([good[3] + 1]) + b"\0" + good[4:]
        for bad in (encode_dss_signature(r, verify_bundle.N - s), longer, good + b"\0", good[:-1], b"", bytes(70),
                    encode_dss_signature(0, s), encode_dss_signature(r, 0), encode_dss_signature(verify_bundle.N, s)):  # fmt: skip
            assert not public.signed(message, bad)
            assert not verify_bundle.signed(known, message, bad)
        for at in range(len(good)):
            changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            assert not public.signed(message, changed)
            assert not verify_bundle.signed(known, message, changed)


@pytest.mark.parametrize("raw", [b"\4" + bytes(64), b"\2" + bytes(64), b"\4" + b"\xff" * 64, b"\4" + bytes(63) + b"\1"])
def test_points_that_are_no_p256_key(raw: bytes) -> None:
    """Both verifiers refuse what is no uncompressed point of the curve."""
    assert not keys._sound(raw)
    assert verify_bundle.decode_affine(raw) is None


@pytest.mark.parametrize("uri", ["awskms:KEY", "gcpkms:projects/p", "azurekms://v.vault.azure.net/keys/k", "hv:name/1"])
def test_services_need_the_network_switched_on(folder: Path, uri: str) -> None:
    """A signer on the network is not asked without INVARLOCK_ALLOW_NETWORK."""
    with pytest.raises(UsageError, match="INVARLOCK_ALLOW_NETWORK"):
        signers.use(uri)
    assert not (folder / "release.uri").exists()


def test_what_cannot_sign_is_not_used(folder: Path, tmp_path: Path) -> None:
    """An unknown scheme, a missing file, a key that recipients cannot verify: said, and the release key stays as it was."""
    before = signers.release_public()
    other = tmp_path / "other.pem"
    other.write_bytes(
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for uri in ("pigeon:x", f"file2:{tmp_path}/none", f"file2:{other}"):
        with pytest.raises((UsageError, ToolFailed, Exception), match=r"docs/keys\.md|none|P-256"):
            signers.use(uri)
    assert signers.release_public() == before


@pytest.mark.skipif(TOKEN is None, reason="no token in software here: apt-get install softhsm2")
def test_a_token(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that never leaves its token signs by PKCS #11; without the PIN it does not."""
    import pkcs11
    import pkcs11.util.ec

    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(TOKEN))
    tool = shutil.which("softhsm2-util", path=f"{os.environ['PATH']}:/usr/bin")
    assert tool
    subprocess.run([tool, "--init-token", "--free", "--label", "sealrun", "--pin", "1234", "--so-pin", "5678"], check=True)
    with pkcs11.lib(str(TOKEN)).get_token(token_label="sealrun").open(user_pin="1234", rw=True) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        parameters.generate_keypair(store=True, id=b"\1")
    monkeypatch.setenv("SEALRUN_SIGNER_PIN", "1234")
    public = signers.use("hsm:1?label=sealrun")
    assert (public.kind, public) == ("p256", signers.release_public())
    assert both(public, signers.release())
    monkeypatch.setenv("SEALRUN_SIGNER_PIN", "4321")
    with pytest.raises(ToolFailed, match=r"docs/keys\.md"):
        signers.signature_of(signers.release(), b"message")
