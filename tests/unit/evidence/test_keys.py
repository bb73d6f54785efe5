"""Keys: made once, whole, and for nobody else's eyes."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from sealrun.errors import UsageError
from sealrun.evidence import keys, trust


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key folder that does not exist yet."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "state" / "keys"))
    return tmp_path / "state" / "keys"


def test_a_key_is_made_on_first_use_and_kept(folder: Path) -> None:
    """The second use finds the first one's key, and different names are different keys."""
    first, again, other = keys.private("one"), keys.private("one"), keys.private("two")
    assert keys.fingerprint(first) == keys.fingerprint(again) != keys.fingerprint(other)
    assert sorted(path.name for path in folder.iterdir()) == ["one.pem", "two.pem"]


def test_only_the_owner_can_read_it(folder: Path) -> None:
    """The folder is 0700 and the file 0600, whatever the umask is."""
    assert (keys.private("one").stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(("which", "mode"), [("file", 0o640), ("file", 0o604), ("folder", 0o750), ("folder", 0o701)])
def test_a_key_that_others_can_reach_is_refused(folder: Path, which: str, mode: int) -> None:
    """A widened key is not used; the message names the command that mends it."""
    path = keys.private("one")
    (path if which == "file" else folder).chmod(mode)
    with pytest.raises(UsageError, match="chmod"):
        keys.private("one")


def test_makers_at_once_end_up_with_one_key(folder: Path) -> None:
    """Whoever comes second uses the first one's key, never half of one."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.map(_fingerprint, ["one"] * 16)
    assert len(set(names)) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(folder: Path, content: bytes) -> None:
    """A file that cannot be read as a key is an error of its own, not a new key."""
    path = keys.private("one")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="key"):
        keys.fingerprint(path)


def _fingerprint(name: str) -> str:
    return keys.fingerprint(keys.private(name))


def test_a_linked_key_is_refused(folder: Path, tmp_path: Path) -> None:
    """A key file that is a link, dangling or not, is not used."""
    path = keys.private("one")
    path.rename(folder / "moved.pem")
    path.symlink_to("moved.pem")
    with pytest.raises(UsageError, match="link"):
        keys.private("one")
    (folder / "two.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="link"):
        keys.private("two")


def test_the_release_key_has_its_public_half_beside_it(folder: Path) -> None:
    """release.pub is the PEM of release.pem's public half, made again when it is another key's."""
    key = keys.public_key(keys.release())
    assert keys.parse_public((folder / "release.pub").read_bytes(), "test") == key
    (folder / "release.pub").write_bytes(b"another")
    keys.release()
    assert (folder / "release.pub").read_bytes() == key.pem


def test_a_key_of_another_kind_is_refused(folder: Path) -> None:
    """A key of another curve under the name of a release key is not used."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = keys.private("one")
    path.write_bytes(generate_private_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UsageError, match="no Ed25519 or P-256 key"):
        keys.public_key(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: b"",
        lambda pem: pem * 2,
        lambda pem: pem.replace(b"PUBLIC", b"PRIVATE"),
        lambda pem: pem[:40] + b"!" + pem[41:],
        lambda pem: pem.replace(b"MCow", b"MCox"),
        lambda pem: pem.decode().encode("utf-16"),
    ],
)
def test_what_is_no_public_key_is_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Only one sound Ed25519 key in one PEM block is a public key."""
    pem = keys.public_key(keys.private("one")).pem
    with pytest.raises(UsageError, match="where it stood"):
        keys.parse_public(change(pem), "where it stood")


def test_a_trust_folder_is_its_pub_files(folder: Path, tmp_path: Path) -> None:
    """Every *.pub of a folder is trusted, other files are not looked at; an empty folder trusts nobody."""
    assert trust.load(tmp_path, None, None).keys == ()
    known = [keys.public_key(keys.private(name)) for name in ("one", "two")]
    for number, key in enumerate(known):
        (tmp_path / f"{number}.pub").write_bytes(key.pem)
    (tmp_path / "README.md").write_text("not a key", "utf-8")
    assert {found.key for found in trust.load(tmp_path, None, None).keys} == set(known)
