"""Laws of making a bundle again: keys stand for the maker's, and its signed files are taken where the key alone differs."""

import shutil
from pathlib import Path

import pytest

from sealrun import digest, files, rebuild
from sealrun.evidence import bundle, keys, signers
from tests.bundles import public_key
from tests.conftest import ROOT

RECORDED = ROOT / "tests" / "recorded" / "invarlock" / "candidate"
CERTIFICATE = "certify/certificate/manifest.json"
RECEIPT = "verify/receipt.json"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle's archive around the recorded certificate and receipt; new keys of ours stand for those that signed them."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    members = {
        f"evidence/{stage}/{name}": (RECORDED / stage / name).read_bytes()
        for stage in ("certify", "verify")
        for name in files.walk_files(RECORDED / stage)
    }
    path = tmp_path / "x.evidence.tar"
    path.write_bytes(bundle.build({"manifest.json": b"{}", "evidence/bundle/release.pub": public_key().pem, **members}))
    receipt = files.parse_json((RECORDED / RECEIPT).read_bytes(), "receipt")["statement"]["verifier"]["signing_key_fingerprint"]
    signer = (RECORDED / "signer.txt").read_text().strip()
    for name, theirs in (("invarlock-evidence", signer), ("invarlock-verifier", receipt.removeprefix("sha256:"))):
        keys.private(name)
        files.write_bytes(keys.stands_for(name), theirs.encode())
    return path


def ours(tmp: Path, stage: str, name: str, signed: str) -> Path:
    """What we would have made: the recorded evidence under our key, unsigned by theirs. Returns the stage's folder."""
    shutil.copytree(RECORDED / stage, tmp / "evidence" / stage)
    path = tmp / "evidence" / name
    own = keys.fingerprint(keys.private(f"invarlock-{signed}"))
    path.write_bytes(path.read_bytes().replace(keys.identity(f"invarlock-{signed}").encode(), own.encode()))
    return tmp / "evidence" / stage


@pytest.mark.parametrize(("stage", "name", "signed"), [("certify", CERTIFICATE, "evidence"), ("verify", RECEIPT, "verifier")])
class TestSigned:
    """A file that only a key can make."""

    def test_it_is_taken_where_the_key_alone_differs(
        self, made: Path, tmp_path: Path, stage: str, name: str, signed: str
    ) -> None:
        """The bundle's bytes replace ours, its signature with them."""
        folder = ours(tmp_path, stage, name, signed)
        assert (tmp_path / "evidence" / name).read_bytes() != (RECORDED / name).read_bytes()
        with bundle.opened(made) as archive:
            assert rebuild._take_signed(stage, folder, archive)
        for path in files.walk_files(RECORDED / stage):
            assert (folder / path).read_bytes() == (RECORDED / stage / path).read_bytes()

    def test_ours_stays_where_anything_else_differs(
        self, made: Path, tmp_path: Path, stage: str, name: str, signed: str
    ) -> None:
        """One other digit in what was signed, and the bundle's file is not taken."""
        folder = ours(tmp_path, stage, name, signed)
        path = tmp_path / "evidence" / name
        path.write_bytes(path.read_bytes().replace(b'"captured"', b'"Captured"', 1))
        before = path.read_bytes()
        with bundle.opened(made) as archive:
            assert not rebuild._take_signed(stage, folder, archive)
        assert path.read_bytes() == before

    def test_nothing_is_taken_where_nothing_was_made(
        self, made: Path, tmp_path: Path, stage: str, name: str, signed: str
    ) -> None:
        """A certificate or receipt that was not made again is not put there."""
        folder = ours(tmp_path, stage, name, signed)
        (tmp_path / "evidence" / name).unlink()
        with bundle.opened(made) as archive:
            assert not rebuild._take_signed(stage, folder, archive)
        assert not (tmp_path / "evidence" / name).exists()


def test_a_key_stands_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stand-in a key is known by its own fingerprint, with one by the other's; what it signs is its own."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    own = keys.fingerprint(keys.private("invarlock-evidence"))
    assert keys.identity("invarlock-evidence") == own
    files.write_bytes(keys.stands_for("invarlock-evidence"), digest.of_bytes(b"x").encode())
    assert keys.identity("invarlock-evidence") == digest.of_bytes(b"x")
    assert keys.fingerprint(keys.private("invarlock-evidence")) == own


def test_the_release_key_is_the_makers_and_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The public half is that of the bundle; there is no private half that could sign."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    (tmp_path / "keys").mkdir(mode=0o700)
    files.write_bytes(tmp_path / "keys" / "release.uri", b"reproduce:\n", mode=0o600)
    files.write_bytes(tmp_path / "keys" / "release.pub", public_key().pem)
    assert signers.release_public() == public_key()
    with pytest.raises(Exception, match="reproduce"):
        signers.release()
