"""The parts of the secret scan that need no tool: reading, decoding, judging, fingerprints."""

import gzip
import hashlib
import io
import json
import zipfile
from types import SimpleNamespace

import pytest

from sealrun.inside import scan_secrets, secret_text
from sealrun.inside.scan_secrets import Here, Scan, fingerprint
from sealrun.inside.secret_context import CHECKS, Place, whole, why_not
from sealrun.inside.secret_engine import Hit, Scanned, decoded, fits
from sealrun.inside.secret_text import Part, Skipped, lines_of, parts

ALLOW = {"id": "hash", "rules": ["high-entropy"], "secret": "[0-9a-f]{8}", "line": r"sha256:SECRET$", "before": ""}


def read(data: bytes) -> list[Part | Skipped]:
    return list(parts(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "read_as", "text"),
    [
        (b"abc", "text", "abc"),
        (b"", "text", ""),
        ("\ufeffabc".encode(), "text", "abc"),
        ("abcdef".encode("utf-16"), "utf-16", "abcdef"),
        (b"caf\xe9", "latin-1", "café"),
        (b"\x00\x01secret\xff", "strings", "secret\n"),
        (b"\x01\x02" + "secret".encode("utf-16-le"), "strings", "secret\n"),
    ],
)
def test_any_bytes_have_a_text(data: bytes, read_as: str, text: str) -> None:
    """Every encoding is read; of binary data its strings, wide ones too."""
    assert read(data) == [Part("", read_as, text, None if read_as == "strings" else 1)]


def test_a_large_file_is_judged_line_by_line_each_with_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line is judged in exactly one piece, under its own number, and stands there with those around it."""
    monkeypatch.setattr(secret_text, "PIECE", 1000)
    monkeypatch.setattr(secret_text, "AROUND", 300)
    lines = [f"line {number} {'x' * (number % 97)}" for number in range(500)] + ["the end"]
    found = [part for part in read("\n".join(lines).encode()) if isinstance(part, Part)]
    judged = []
    for part in found:
        own = part.text.split("\n")
        assert part.first is not None
        own = own[: len(own) - part.after]
        own = own if own[-1] else own[:-1]  # a piece ends in a newline
        assert own == lines[part.first - 1 : part.first - 1 + len(own)]
        judged += own[part.before :]
    assert judged == lines
    assert len(found) > 10
    assert all(part.before for part in found[1:])
    assert any(part.after for part in found)


def test_a_string_of_a_binary_file_is_whole_where_pieces_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No printable string is cut because a piece ended in it, wide ones neither."""
    monkeypatch.setattr(secret_text, "PIECE", 64)
    for shift in range(64):
        for text in (b"a secret in here", "a secret in here".encode("utf-16-le")):
            found = read(b"\x00\x01" * 20 + b"\x02" * shift + text + b"\xff" * 70)
            assert "a secret in here" in "".join(part.text for part in found if isinstance(part, Part)), shift


def test_breaks_that_only_python_knows_keep_the_number_of_the_line() -> None:
    """A form feed splits a line for the scanner, not for the reader."""
    assert lines_of("one\x0ctwo\u2028three\r\nfour") == ("one\ntwo\nthree\nfour", [0, 0, 0, 1])
    assert lines_of("one\ntwo") == ("one\ntwo", None)


def zipped(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def test_archives_are_opened_to_a_depth() -> None:
    """An archive in an archive is opened; the one too deep is said to be skipped."""
    nested = zipped("c", zipped("b", gzip.compress(b"found")))
    assert read(nested) == [Part("!c!b!", "text", "found", 1)]
    [skipped] = read(zipped("d", nested))
    assert isinstance(skipped, Skipped)
    assert "not opened" in skipped.reason


def test_an_archive_beyond_the_limits_is_said_to_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is not unpacked."""
    monkeypatch.setattr(secret_text, "UNPACKED", 1000)
    assert [type(part) for part in read(gzip.compress(b"0" * 10_000))] == [Skipped]


def test_what_only_begins_like_an_archive_is_read_as_it_is() -> None:
    """A damaged one too: nothing goes unread."""
    [part] = read(b"PK\x03\x04 secret text")
    assert isinstance(part, Part)
    assert "secret text" in part.text


@pytest.mark.parametrize(
    ("line", "layer", "said"),
    [
        ("x cGFzc3dvcmQgaXMgc2FpZA== y", "base64", "password is said"),
        ("x " + b"password is said".hex(), "hex", "password is said"),
        ("password%20is%20said", "url", "password is said"),
        (r"password\040is\040said", "octal", "password is said"),
    ],
)
def test_encodings_are_undone(line: str, layer: str, said: str) -> None:
    """Base64, hex and URL encoding hide nothing."""
    assert (layer, said) in {(how, text) for how, _, _, text in decoded(line)}


@pytest.mark.parametrize(
    ("line", "taken"), [("sha256:0123abcd", True), ("0123abcd", False), ("sha256:0123abcd and more", False)]
)
def test_an_allow_entry_takes_a_secret_only_where_its_line_fits(line: str, taken: bool) -> None:
    """The secret alone is not enough."""
    assert fits(ALLOW, "0123abcd", line, "") is taken
    assert not fits(ALLOW | {"before": "^digest:$"}, "0123abcd", line, "other:")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5" + bytes(range(90)), "keepass"),
        (b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x01x" + bytes(90), "java"),
        (b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x01x" + bytes(90), ""),  # certificates alone
        (b"SQLite format 3\0" + bytes(90) + b"CREATE TABLE nssPrivate (id)" + b"password0\x12\x04", "nss"),
        (b"SQLite format 3\0" + bytes(90) + b"CREATE TABLE nssPrivate (id)", ""),  # made, and never used
        (b"\0\x06\x15\x61" + bytes(90) + b"global-salt Version password-check", "nss"),
        (bytes.fromhex("308209cf02010330820985") + bytes(9) + bytes.fromhex("2a864886f70d010c0a0102"), "pkcs12"),
        (bytes.fromhex("308209cf02010330820985") + bytes(9) + bytes.fromhex("2a864886f70d010c0a0103"), ""),  # a certificate
        (bytes.fromhex("308204bd020100300d06092a864886f70d0101010500048204a7") + bytes(90), "der"),
        (bytes.fromhex("308204a30201000282010100") + bytes(90), "der"),
        (bytes.fromhex("302e020100300506032b657004220420") + bytes(32), "der"),
        (bytes.fromhex("3082052d305706092a864886f70d01050d304a") + bytes(90), "der"),
        (bytes.fromhex("30820122300d06092a864886f70d01010105000382010f00") + bytes(90), ""),  # a public key
        (bytes.fromhex("3082030f308201f7a003020102021449") + bytes(90), ""),  # a certificate
        (b"\x05\x02\0\0\0A\0\x02\0\x08CORP.LAN\0" + bytes(90), "kerberos"),
    ],
)
def test_a_store_of_keys_is_known_by_its_bytes(data: bytes, kind: str) -> None:
    """What has no lines is found too; what holds certificates or public keys alone is none."""
    first = read(data)[0]
    assert isinstance(first, Part)
    assert first.text.startswith(f"\0store {kind} ") if kind else "store" not in first.text


def test_what_follows_a_head_is_judged_and_named_where_it_stands() -> None:
    """A call over several lines: the literal is the secret, and its line is the one reported."""
    lines = ["conn.login(", "  'me',", "  'tr1cky-Word'", ")"]
    place = Place(lines, 0, 5, 11, "", "a.js")
    assert (why_not("call", "login(", place), whole("call", "login(", place)) == ("", (2, "tr1cky-Word"))
    assert why_not("call", "login(", place._replace(lines=["conn.login(", "  user,", "  secret)"])) == "no password"


def test_every_check_is_asked_by_its_name() -> None:
    """A check that does not exist is an error, never a pass."""
    with pytest.raises(KeyError):
        why_not("nonsense", "x", Place(["x"], 0, 0, 1, "", "a.py"))
    assert all(callable(check) for check in CHECKS.values())


def test_a_fingerprint_depends_on_rule_and_secret_alone_and_hides_it() -> None:
    """Equal pairs agree, others differ, and the secret cannot be read from it."""
    seen = {fingerprint(pair) for pair in [("a", "hunter2"), ("b", "hunter2"), ("a", "hunter3"), ("a", "hunter2")]}
    assert len(seen) == 3
    assert all(text.startswith("scrypt:") and "hunter" not in text for text in seen)


def scan(**job: object) -> Scan:
    """A scan of nothing yet, under one rule."""
    made = Scan.__new__(Scan)
    made.job, made.key, made.entries = job, "key", {}
    made.unreported, made.partial = set(), set()
    made.rules = SimpleNamespace(rules=[SimpleNamespace(id="rule")])  # type: ignore[assignment]
    return made


def test_what_is_too_much_to_report_is_no_part_of_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A content with secrets beyond those reported is scanned again by the next run, instead of being taken as cleaner."""
    monkeypatch.setattr(scan_secrets, "REPORTED", 2)
    run = scan()
    contents = {name: Scanned("text", tuple(Hit(0, 1, (), each) for each in name), {}, {}, 1, (), {}) for name in ("ab", "cb")}
    run.keep(contents, Here())
    assert [len(run.entries[name]["hits"]) for name in ("ab", "cb")] == [2, 1]
    assert run.unreported == {(0, "c")}
    assert list(json.loads(run.found())["entries"]) == ["ab"]


@pytest.mark.parametrize("of", [1, 2, 3, 7, 256])
def test_every_id_is_in_one_shard(of: int) -> None:
    """The ranges cover all ids, the first and the last one too, and do not overlap."""
    ids = ["0" * 40, "f" * 40, *(hashlib.sha1(bytes([number])).hexdigest() for number in range(256))]
    runs = [scan(shard=[number, of]) for number in range(1, of + 1)]
    assert [sum(run.is_ours(oid) for run in runs) for oid in ids] == [1] * len(ids)
    assert all(scan().is_ours(oid) for oid in ids)
