"""No secret of the corpus stands in anything that the secret scan writes or prints, in clear or encoded."""

import base64
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealrun import files
from tests.conftest import ROOT, git
from tests.secret_corpus import Labelled, corpus
from tests.small import scanning

pytestmark = pytest.mark.e2e
LEAST = 8  # characters; a shorter one is in any file by chance


@pytest.fixture(scope="module")
def made() -> list[Labelled]:
    return [entry for entry in corpus(7) if entry.rule]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scanning(tmp_path / "repository")


@pytest.fixture
def other(tmp_path: Path, made: list[Labelled]) -> Path:
    """A repository with the corpus in its tree, its history, a message, a tag, an archive and what is staged."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet", "--initial-branch=main")
    for entry in made:
        path = other / f"{entry.number:03d}" / entry.path
        path.parent.mkdir(parents=True)
        path.write_text(entry.text + "\n")
    git(other, "add", "--force", ".")
    git(other, "commit", "--quiet", "--message=first")
    git(other, "archive", "--format=tar.gz", "--output=all.tar.gz", "HEAD")
    for entry in made[::2]:
        (other / f"{entry.number:03d}" / entry.path).unlink()
    git(other, "add", "--force", "--all", ".")
    git(other, "commit", "--quiet", f"--message=second\n\n{made[0].text}\n{made[40].text}")
    git(other, "tag", "--annotate", f"--message={made[1].text}", "v1")
    (other / "staged.txt").write_text("\n".join(entry.text for entry in made[1:60]))
    git(other, "add", "staged.txt")
    return other


def disguises(secret: str) -> Iterator[bytes]:
    """Yield *secret* in clear, as UTF-16, hex, percent-encoded, JSON's escapes, and base64 wherever it begins in a longer text."""
    raw = secret.encode()
    yield from {raw, secret.encode("utf-16-le"), raw.hex().encode(), raw.hex().upper().encode()}
    yield from {urllib.parse.quote(secret, safe="").encode(), "".join(f"%{byte:02X}" for byte in raw).encode()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        whole = encoded[(0, 2, 3)[before] : len(encoded) - (0 if len(raw + b"\0" * before) % 3 == 0 else 3)]
        yield from {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}


def leaked(made: list[Labelled], data: bytes) -> list[str]:
    """Return the rules of the secrets that stand in *data*, one way or another."""
    secrets = {(entry.rule, text) for entry in made for text in entry.made_up if len(text) >= LEAST}
    return sorted(rule for rule, secret in secrets if any(one in data for one in disguises(secret)))


def run(root: Path, *arguments: str | Path) -> bytes:
    """Run a command as a user does, and return everything that it printed."""
    argv = [sys.executable, "-m", "sealrun", *arguments, f"--root={root}"]
    done = subprocess.run(
        argv, cwd=root, check=False, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    )
    assert done.returncode == 1, done.stderr
    return done.stdout + done.stderr


def test_what_is_looked_for_would_be_found(made: list[Labelled]) -> None:
    """The search itself finds each way to write a secret, in the middle of other text."""
    secret = next(text for entry in made for text in entry.made_up if len(text) == 40)
    for text in (secret, secret.encode().hex(), urllib.parse.quote(secret), f"%00{secret}"):
        assert leaked(made, f"before {text} after".encode())
    for before in ("", "a", "ab", "abc"):
        assert leaked(made, base64.b64encode(f"{before}{secret} and more".encode()))
    assert not leaked(made, b"before and after")


def test_no_output_log_cache_or_evidence_holds_a_secret(root: Path, other: Path, made: list[Labelled], tmp_path: Path) -> None:
    """Tree, history, messages, archives and the index are scanned, twice, from the cache as well; whatever the commands print
    and leave is searched."""
    out, state = tmp_path / "out", tmp_path / "state.json"
    printed = run(root, "stage", "secrets", other, f"--out={out}", f"--json={state}")
    printed += run(root, "stage", "secrets", other, f"--out={out}", "--json=-")
    git(other, "commit", "--quiet", "--message=third")
    printed += run(root, "stage", "secrets", other, f"--out={out}")  # what is new alone, the rest from the cache
    (other / "staged.txt").write_text("\n".join(entry.text for entry in made[60:]))
    git(other, "add", "staged.txt")
    printed += run(ROOT, "secrets.staged", f"--tree={other}", "--json=-")
    names = list(files.walk_files(out))
    assert {Path(name).name for name in names} >= {
        "scan.json", "coverage.json", "listing.json", "secrets.sarif", "gl-secret-detection-report.json", "found.json", "secrets.json",
    }  # fmt: skip
    for name in names:
        assert not leaked(made, (out / name).read_bytes()), name
    assert not leaked(made, state.read_bytes())
    assert not leaked(made, printed)
    assert b"staged.txt" in printed
    for name in files.walk_files(root):
        if not name.startswith(("policy/", ".git/")) and ".nox" not in name:
            assert not leaked(made, (root / name).read_bytes()), name
