"""Every reader of paths, configuration and tool output, on hostile input: a value or our own error, and nothing written.

Inputs are sound ones with something wrong in them, and noise. Each is made from its number, so a failure names what to repeat.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import pytest

import verify_bundle
from sealrun import files, settings
from sealrun.errors import SealrunError
from sealrun.evidence import checklist, keys, revocation, sign, statement
from sealrun.policy.load import load_plan
from sealrun.policy.model import Checklist, Gates, Release, Retention
from sealrun.reports import cyclonedx, lock_formats, osv, pip_audit, records, requirements
from tests.conftest import ROOT

MANY, FEW = 10_000, 100
POLICY, EXAMPLE = ROOT / "policy", ROOT / "examples" / "tiny-lm"
PIECES = [
    b"..", b"/", b"\\", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\x1b[2J", b"[" * 200, b"{" * 200, b"NaN", b"1e999", b"-0",
    b"9" * 400, b'"', b"'''", b"= =", b"null", b"true", b"[]", b"{}", b'"\\ud800"', "e\u0301".encode(), "\u202e".encode(), b"#",
    b"C:", b"~", b"%2e%2e", b"$(id)", b"__proto__", b"x" * 5000,
]  # fmt: skip

type Read = Callable[[bytes], object]


def from_file(read: Callable[[Path], object], folder: Path, name: str) -> Read:
    """A reader of bytes that reads them from the file *name*."""

    def reader(data: bytes) -> object:
        (folder / name).unlink(missing_ok=True)  # a file written over may have to wait for its disk
        (folder / name).write_bytes(data)
        return read(folder / name)

    return reader


def plan_with(folder: Path, name: str) -> Read:
    """A reader that loads a whole plan with the file *name* of its repository exchanged."""
    for each in ("policy", "examples/tiny-lm"):
        shutil.copytree(ROOT / each, folder / each, ignore=shutil.ignore_patterns("advisories", "secrets", "*.onnx", "*.jsonl"))
    config = folder / "examples" / "tiny-lm" / "release.toml"
    return from_file(lambda _: load_plan(folder, config, date(2026, 1, 1)), folder, name)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, Read]]:
    """Each reader by name, with an input that it accepts."""
    tmp = tmp_path_factory.getbasetemp() / "readers"
    tmp.mkdir()
    lock = (ROOT / "requirements" / "audit.txt").read_bytes()[:3000]
    bom = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}).encode()
    report = b'{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X", "fix_versions": [], "aliases": []}]}], "fixes": []}'
    record = json.dumps({
        "id": "PYSEC-1", "modified": "2026-01-01T00:00:00Z", "affected": [{"package": {"name": "a", "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]}], "versions": ["1.0"]}],
    }).encode()  # fmt: skip
    case = b'{"text": "a text", "id": 1}\n{"text": "another"}\n'
    text = {"release.toml": EXAMPLE / "release.toml"} | {
        f"{name}.toml": POLICY / f"{name}.toml" for name in ("gates", "checklist", "waivers", "retention")
    }
    whole = {name: path.read_bytes() for name, path in text.items()}
    sound = {name: data[: data.find(b"\n", 600)] for name, data in whole.items()}  # as much as is read quickly
    found: dict[str, tuple[bytes, Read]] = {
        "release": (sound["release.toml"], from_file(lambda path: files.load_toml(path, Release), tmp, "release.toml")),
        "gates": (sound["gates.toml"], from_file(lambda path: files.load_toml(path, Gates), tmp, "gates.toml")),
        "checklist": (sound["checklist.toml"], from_file(lambda path: files.load_toml(path, Checklist), tmp, "checklist.toml")),
        "retention": (sound["retention.toml"], from_file(lambda path: files.load_toml(path, Retention), tmp, "retention.toml")),
        "checklist of a bundle": (sound["checklist.toml"], checklist.parse),
        "public key": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", lambda data: keys.parse_public(data, "k")),
        "private key": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", from_file(keys.load_private, tmp, "key.pem")),
        "revocation": (b'{"payload": "e30=", "signatures": []}', lambda data: revocation.parse(data, "revocation")),
        "envelopes": (b'{"payload": "e30=", "payloadType": "x", "signatures": [{"sig": ""}]}\n', lambda data: sign.parse(data, "x")),
        "statement": (b'{"_type": "https://in-toto.io/Statement/v1", "subject": []}', from_file(statement.load, tmp, "s.json")),
        "JSON": (bom, lambda data: files.parse_json(data, "test")),
        "SBOM written": (bom, lambda data: cyclonedx.parse_written(data, "test")),
        "SBOM": (bom, lambda data: cyclonedx.parse_document(data, "test")),
        "advisory": (record, lambda data: osv.parse_record(data, "test")),
        "audit report": (report, lambda data: pip_audit.parse_report(data, "test")),
        "audit questions": (b'{"name": "a", "version": "1"}\n', lambda data: pip_audit.parse_questions(data, "test")),
        "cases": (case, lambda data: records.parse_cases(data, "text", "test")),
        "records": (case, lambda data: records.parse_records(data, "test")),
        "lock": (lock, lambda data: requirements.parse_lock(data.decode("utf-8", "replace"), "test")),
        "other locks": (b'version = 1\n[[package]]\nname = "a"\nversion = "1"\n',
                        lambda data: [lock_formats.parse(data.decode("utf-8", "replace"), name)
                                      for name in ("uv.lock", "poetry.lock", "pylock.toml", "Pipfile.lock")]),
    }  # fmt: skip
    for name in ("gates", "waivers", "checklist", "retention"):
        (tmp / f"plan {name}").mkdir()
        found[f"plan, {name}"] = (whole[f"{name}.toml"], plan_with(tmp / f"plan {name}", f"policy/{name}.toml"))
    (tmp / "plan release").mkdir()
    found["plan, release"] = (whole["release.toml"], plan_with(tmp / "plan release", "examples/tiny-lm/release.toml"))
    return found


def hostile(sound: bytes, number: int) -> bytes:
    """The hostile input *number* made from a *sound* one: cut, doubled, with pieces put in or exchanged; or noise."""
    chance = random.Random(number)
    if number % 10 == 0:
        return chance.randbytes(chance.randrange(200))
    data = bytearray(sound)
    for _ in range(chance.randint(1, 4)):
        here, there = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        there = min(there, here + chance.choice((0, 1, 8, 64)))
        change = chance.randrange(4)
        if change == 0:
            data[here:there] = chance.choice(PIECES)
        elif change == 1:
            data[here:there] = b""
        elif change == 2:
            data[here:here] = data[here:there] * 2
        else:
            data[here:there] = chance.randbytes(there - here)
    return bytes(data)


def names(number: int) -> str:
    """The hostile path *number*."""
    chance = random.Random(number)
    parts = ["..", ".", "", "a", "A", "link", "fifo", "hard", "folder", "C:", "x" * 300, "e\u0301", "\u00e9", "\u202e", "\ud800",
             "\0", "a\\b", "~", "%2e%2e", " ", "\n", "a:b", "/etc/passwd", "loop"]  # fmt: skip
    return "/".join(chance.choice(parts) for _ in range(chance.randint(1, 5)))


def everything(folder: Path) -> list[str]:
    """Every name below *folder*."""
    return sorted(str(path) for path in folder.rglob("*"))


def _ended(read: Callable[[], object], what: str) -> bool:
    """Whether *read* gave a value. Anything but our own error, with a message that says something, fails the test."""
    try:
        read()
    except SealrunError as error:
        assert ":" in str(error), f"{what}: the message {str(error)!r} names no place"
        return False
    except BaseException as error:
        raise AssertionError(f"{what}: got {type(error).__name__}: {error}, expected our own error") from error
    return True


def _each_reader(readers: dict[str, tuple[bytes, Read]], count: int, place: Path) -> None:
    for name, (sound, read) in readers.items():
        _ended(partial(read, sound), name)
        before = everything(place)
        numbers = range(0, count, 50 if name.startswith("plan") else 1)  # these read a whole policy each time
        refused = sum(not _ended(partial(read, hostile(sound, number)), f"{name}, input {number}") for number in numbers)
        assert refused, f"{name}: refused nothing at all"
        assert everything(place) == before


def _each_path(count: int, root: Path) -> None:
    before, inside = everything(root.parent), 0
    for number in range(count):
        name = names(number)

        def read(name: str = name) -> None:
            path = files.regular_file(root, name, "test")
            assert path.resolve().is_relative_to(root.resolve())

        inside += _ended(read, f"path {number}")
        _ended(lambda name=name: files.relative_name(name, "test"), f"name {number}")  # type: ignore[misc]
        if "\0" not in name and "\ud800" not in name:
            _ended(lambda name=name: files.output_folder(root / name), f"--out {number}")  # type: ignore[misc]
    assert inside
    assert everything(root.parent) == before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file, a link out, a loop, a pipe and a hard link, beside a file that is not to be reached."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "a").write_text("a")
    (root / "folder" / "a").write_text("a")
    (tmp_path / "outside").write_text("x")
    (root / "link").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    os.link(tmp_path / "outside", root / "hard")
    os.mkfifo(root / "fifo")
    return root


def _each_variable(count: int) -> None:
    for number in range(count):
        value = hostile(b"1", number).decode("utf-8", "surrogateescape").replace("\0", "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INVARLOCK_ALLOW_NETWORK", value)
            patch.setenv("SOME_TOKEN", value)
            if _ended(settings.network_allowed, f"variable {number}"):
                assert value.strip().lower() in ("", "1", "true", "yes", "on")
            settings.secret_values()


def test_no_reader_is_surprised(readers: dict[str, tuple[bytes, Read]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hostile content ends in a value or in our own error that names the place."""
    _each_reader(readers, FEW, tmp_path_factory.getbasetemp() / "readers")


def test_no_path_leads_out(root: Path) -> None:
    """Hostile names end inside the folder or in our own error."""
    _each_path(FEW * 5, root)


def test_no_variable_is_misunderstood() -> None:
    """A switch is on, off or refused."""
    _each_variable(FEW)


@pytest.mark.heavy
def test_ten_thousand_hostile_inputs_for_each_reader(
    readers: dict[str, tuple[bytes, Read]], root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same laws, ten thousand times for each reader."""
    _each_reader(readers, MANY, tmp_path_factory.getbasetemp() / "readers")
    _each_path(MANY, root)
    _each_variable(MANY)


def test_the_verifier_alone_is_not_surprised_either(tmp_path: Path) -> None:
    """A file that is no bundle is refused by the recipient's verifier, with its own exit code and no traceback."""
    for number in range(FEW):
        path = tmp_path / "x.evidence.tar"
        path.write_bytes(hostile(b"\0" * 512 + b"manifest.json", number))
        assert verify_bundle.main([str(path), "--fingerprint", "sha256:" + "0" * 64]) in (2, 3, 5)


def sources() -> Iterator[Path]:
    """Every module that decodes what others wrote."""
    for path in sorted((ROOT / "scripts" / "sealrun").rglob("*.py")):
        text = path.read_text("utf-8")
        if "inside" not in path.parts and ("tomllib.loads" in text or "json.loads" in text or "yaml.load" in text):
            yield path.relative_to(ROOT / "scripts" / "sealrun")


def test_bytes_become_values_in_few_places() -> None:
    """TOML and JSON are parsed by `files`, which the readers above go through, and where it is said here why not."""
    known = {
        "files.py": "the strict readers",
        "pin.py": "parses the text that it has just written, to see that it did not break it",
        "promotion.py": "members of a bundle, each a value or a refusal",
        "scaffold.py": "parses the text that it has just written",
        "known_secrets.py": "files of other programs, masked as far as they can be read",
        "policy/repository.py": "gates over gates, decoded into the value that files.py reads",
        "reports/invarlock03.py": "reports of InvarLock, each a value or a refusal",
        "reports/lock_formats.py": "locks of other tools, read above",
        "advisories/sources.py": "YAML records, each a value or a rejection",
    }
    assert {path.as_posix() for path in sources()} <= known.keys()
