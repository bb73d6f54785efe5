"""Keys: made once, whole, and for nobody else's eyes."""

import multiprocessing
from pathlib import Path

import pytest

from sealrun.errors import UsageError
from sealrun.evidence import keys


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
