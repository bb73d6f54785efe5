"""Laws of keeping secrets out: whatever its form, a known secret is gone; nothing else is touched."""

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealrun import masking, settings

PLANTED = "/".join(("pl4nted", "value+of="))
ADDRESSED = "-".join(("in", "the", "address"))


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A secret in a variable named as one, and another in an address."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLANTED)
    monkeypatch.setenv("SOME_INDEX", f"https://user:{ADDRESSED}@example.org/simple")
    for cached in (masking._known, masking._known_forms):
        cached.cache_clear()
    yield
    for cached in (masking._known, masking._known_forms):
        cached.cache_clear()


def encodings(secret: str) -> list[str]:
    """The ways in which a program may write *secret*."""
    data = secret.encode()
    plain = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret), data.hex(), data.hex().upper()]
    padded = [base64.b64encode(b"x" * n + data + b"y" * m).decode() for n in range(3) for m in range(3)]
    return plain + padded + [base64.urlsafe_b64encode(b"user:" + data).decode()]


@pytest.mark.parametrize("text", encodings(PLANTED))
def test_a_secret_is_masked_in_every_form(text: str) -> None:
    """Clear, URL, hexadecimal, base64 at any alignment."""
    assert masking.MASK in masking.mask_text(f"before {text} after")
    assert PLANTED not in masking.mask_text(text)


def test_passwords_in_addresses_are_masked() -> None:
    """Known from a variable, or seen for the first time."""
    assert ADDRESSED not in masking.mask_text(f"GET {ADDRESSED}")
    assert masking.mask_text("https://me" + ":other-word@host/x") == f"https://{masking.MASK}@host/x"


@given(st.text())
def test_other_text_is_left_alone(text: str) -> None:
    """Without a known secret nothing changes but what is shaped like a credential."""
    if not any(form.decode("utf-8", "replace") in text for form in masking._known_forms()):
        assert masking.mask_text(text, shapes=False) == text


@pytest.mark.parametrize("before", [0, 1, 1024 * 1024 - 5, 1024 * 1024, 1024 * 1024 + 64 * 1024 - 3])
def test_a_file_is_masked_across_borders(tmp_path: Path, before: int) -> None:
    """Wherever a secret lies in a large file, it is masked, and nothing else changes."""
    path = tmp_path / "log"
    path.write_bytes(b"." * before + PLANTED.encode() + b"," * 1_200_000)
    assert masking.holds_secret(path)
    masking.mask_file(path)
    assert path.read_bytes() == b"." * before + masking.MASK.encode() + b"," * 1_200_000
    assert not masking.holds_secret(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1_200_000])
def test_of_a_credential_that_holds_a_known_secret_no_rest_stays(tmp_path: Path, size: int) -> None:
    """A token that begins with a known secret, one that ends within it, a key of which some lines are known: all of it goes."""
    lines = "\n".join(("-----BEGIN PRIVATE" + " KEY-----", PLANTED, "theLastLine=", "-----END PRIVATE" + " KEY-----"))
    for text in (f"Authorization: Bearer {PLANTED}.rest", f"Authorization: Bearer rest/{PLANTED}", f'"{lines}"'):
        path = tmp_path / "log"
        path.write_text(f"{text} {'.' * size}")
        masking.mask_file(path)
        for masked in (path.read_text(), masking.mask_text(text)):
            assert not any(word in masked for word in ("rest", "theLastLine", PLANTED)), masked[:200]


@pytest.mark.parametrize("behind", range(-20, 20))
def test_what_stands_before_a_shape_is_seen_across_borders(tmp_path: Path, behind: int) -> None:
    """A password in an address of a large file is masked, wherever the file is read in two."""
    path = tmp_path / "log"
    path.write_bytes(b"." * (1024 * 1024 - 64 * 1024 + behind) + b"https://me" + b":other-word@host " + b"," * 1_200_000)
    masking.mask_file(path)
    assert b"other-word" not in path.read_bytes()


@pytest.mark.parametrize("name", ["API_KEY", "GITHUB_TOKEN", "PGPASSWORD", "client_secret", "AWS_SECRET_ACCESS_KEY", "X_PAT"])
def test_names_that_say_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The value of a variable named so is a secret."""
    monkeypatch.setenv(name, "value-of-it")
    assert "value-of-it" in settings.secret_values()


@pytest.mark.parametrize(
    ("name", "value"), [("PWD", "/tmp/somewhere"), ("TOKENIZERS_PARALLELISM", "false"), ("A_KEY", "short"), ("X_TOKEN", "/tmp")]
)
def test_names_and_values_that_do_not(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A folder, a switch or a word of a few letters is none."""
    monkeypatch.setenv(name, value)
    assert value not in settings.secret_values()


def test_a_file_named_as_secret_is_read_for_what_to_mask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable that points to a file makes the file's content the secret."""
    (tmp_path / "key").write_text("content-of-the-file\n")
    monkeypatch.setenv("SIGNING_KEY", str(tmp_path / "key"))
    assert "content-of-the-file" in settings.secret_values()


def test_terminal_and_traceback_are_covered() -> None:
    """Standard output, standard error, logging and an uncaught error's traceback show no secret."""
    code = (
        "import logging, sys, os; logging.basicConfig(stream=sys.stderr)\n"
        "from sealrun import masking; masking.cover_terminal(); s = os.environ['MY_SERVICE_TOKEN']\n"
        "print(s); print(s, file=sys.stderr); logging.error('log %s', s); raise ValueError(s)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        "MY_SERVICE_TOKEN": PLANTED, "PYTHONPATH": ":".join(sys.path), "LD_LIBRARY_PATH": "", "PATH": "/usr/bin:/bin",
    })  # fmt: skip
    assert PLANTED not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(masking.MASK) >= 4


def test_a_text_full_of_secrets_takes_no_longer_than_its_length() -> None:
    """Two hundred thousand of them: each is masked, in time that grows with their number and not with its square."""
    text = "https://me:word@host\n" * 200_000
    began = time.process_time()
    assert masking.mask_text(text) == f"https://{masking.MASK}@host\n" * 200_000
    assert time.process_time() - began < 10
