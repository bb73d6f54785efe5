"""Laws of names, strict JSON and whole-or-nothing writing."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, UsageError
from sealrun.policy.model import Checklist, Gates, Release, Waivers


class Point(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value to decode."""

    x: int


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/../b", "/etc/passwd", "a//b", "a\\b", "C:x", "a/./b", "a\nb", "a\0b", "../a", "a/", "\x7f"]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    """A name with .., a root, a drive, a backslash or a control character is refused."""
    with pytest.raises(UsageError, match="test: got the path"):
        files.relative_name(name, "test")


@given(st.text())
def test_an_accepted_name_stays_inside(name: str) -> None:
    """Whatever is accepted has no way out of its folder."""
    try:
        path = files.relative_name(name, "test")
    except UsageError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert os.path.normpath(path) == str(path)


def test_a_link_out_is_refused(tmp_path: Path) -> None:
    """A link that leads out of the folder is not followed; one that stays inside is."""
    (tmp_path / "outside").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside").write_text("x")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to("inside")
    assert files.regular_file(root, "in", "test") == root / "in"
    with pytest.raises(UsageError, match="leads out"):
        files.regular_file(root, "out", "test")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe or a folder is refused at once instead of being waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        files.read_bytes(tmp_path / "pipe", "test")
    with pytest.raises(UsageError, match="no regular file"):
        files.regular_file(tmp_path, "pipe", "test")
    with pytest.raises(SealrunError):
        files.read_bytes(tmp_path, "test")
    with pytest.raises(InputMissing):
        files.read_bytes(tmp_path / "none", "test")


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    """A file over the limit is refused by its size."""
    with (tmp_path / "big").open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(UsageError, match="at most"):
        files.read_bytes(tmp_path / "big", "test")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"x": NaN}', b'{"x": Infinity}', b'{"x": 1, "x": 2}', b'{"x": 1} 2', b"\xff\xfe{\x00", b"[" * 100_000,
     b'{"x":' * 100 + b"1" + b"}" * 100, b'{"x": 1' + b"0" * 10_000 + b"}"],
)  # fmt: skip
def test_json_that_is_not_strict_is_refused(data: bytes) -> None:
    """Empty, cut, duplicate keys, NaN, other encodings and deep nesting end in one clear error."""
    with pytest.raises(UsageError, match="test: "):
        files.decode(data, Point, "test")


@given(st.binary())
def test_any_bytes_end_in_a_value_or_an_error(data: bytes) -> None:
    """Nothing but a value or our own error comes out of reading bytes."""
    try:
        files.decode(data, Point, "test")
    except UsageError as error:
        assert str(error).startswith("test: ")


def test_unknown_and_missing_fields_are_named() -> None:
    """A field too many or too few is refused by name."""
    with pytest.raises(UsageError, match="y"):
        files.decode(b'{"x": 1, "y": 2}', Point, "test")
    with pytest.raises(UsageError, match="x"):
        files.decode(b"{}", Point, "test")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old file and no other."""
    path = tmp_path / "f"
    files.write_bytes(path, b"old")

    def refuse(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_everything_in_a_folder_is_listed(tmp_path: Path) -> None:
    """Hidden files and links to folders are listed, and links are not followed."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden").write_text("x")
    (tmp_path / "b").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(files.walk_files(tmp_path)) == [".git/hidden", "b", "loop"]


def test_the_digest_of_a_folder_is_sha256sum_s(tmp_path: Path) -> None:
    """A folder's digest can be had with standard tools: the sha256 of the sorted lines of sha256sum."""
    for name in ("b", "a", "B"):
        (tmp_path / name).write_text(name)
    manifest = digest.describe_files(tmp_path, files.walk_files(tmp_path))
    lines = "".join(f"{digest.of_bytes(name.encode())}  {name}\n" for name in ("B", "a", "b"))
    assert digest.of_manifest(manifest) == digest.of_bytes(lines.encode())


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_canonical_json_is_stable_and_readable(value: dict[str, object]) -> None:
    """Canonical JSON decodes to the same value, whatever the order of its keys."""
    try:
        data = digest.canonical_json(value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert json.loads(data) == value
    assert digest.canonical_json(dict(reversed(list(value.items())))) == data


def test_canonical_json_refuses_nan() -> None:
    """NaN has no place in what is hashed."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest.canonical_json({"x": float("nan")})


@pytest.mark.parametrize("name", ["e\u0301", "a\u202eb", "a\u2028b", "\ud800", "a\u200bb"])
def test_names_that_look_like_others_are_refused(name: str) -> None:
    """Decomposed, reordering, invisible and unwritable names are refused."""
    with pytest.raises(UsageError, match="test: got the path"):
        files.relative_name(name, "test")


@pytest.mark.parametrize("twins", [("Model.onnx", "model.onnx"), ("stra\u00dfe", "STRASSE"), ("a/B", "A/b")])
def test_twins_are_refused(twins: tuple[str, str]) -> None:
    """Two names that are one where case does not count are refused; others are not."""
    with pytest.raises(UsageError, match="twins"):
        files.refuse_twins(["other", *twins], "test")
    files.refuse_twins(["a", "b", "a/b"], "test")


def test_a_hard_link_out_is_refused(tmp_path: Path) -> None:
    """A file that has another name, from which it could be changed, is not read as an input."""
    (tmp_path / "outside").write_text("x")
    (tmp_path / "root").mkdir()
    os.link(tmp_path / "outside", tmp_path / "root" / "inside")
    with pytest.raises(UsageError, match="hard links"):
        files.regular_file(tmp_path / "root", "inside", "test")


def test_the_output_folder_is_checked_once(tmp_path: Path) -> None:
    """Its parent must exist, it must be a folder, and not one that holds everything; a link is resolved now."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("x")
    assert files.output_folder(tmp_path / "link") == (tmp_path / "real").resolve()
    assert files.output_folder(tmp_path / "new") == tmp_path.resolve() / "new"
    for wrong in (tmp_path / "missing" / "new", tmp_path / "file", Path("/")):
        with pytest.raises(UsageError, match="--out"):
            files.output_folder(wrong)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("text", ['"\\ud800"', "1e999", "-1e999", '{"a": [1e400]}'])
def test_json_that_cannot_be_written_again_is_refused(text: str) -> None:
    """Lone surrogates and infinities are no values."""
    with pytest.raises(UsageError):
        files.parse_json(text.encode(), "test")


_PARTS = st.sampled_from(
    ["..", ".", "/", "\\", "C:", "a", "A", "\0", "\n", "\u202e", "e\u0301", "~", "%2e%2e", " ", "x" * 300, "link"]
)
_TOML = st.text(alphabet=st.sampled_from(list("[]{}=\"'.,#\n\\ \t-+_:0123456789eTZxobinfatrul\u00e9\ud7ff")), max_size=200)


def _hostile_path(root: Path, name: str) -> None:
    before = sorted(path.name for path in root.parent.rglob("*"))
    try:
        path = files.regular_file(root, name, "test")
        assert path.resolve().is_relative_to(root.resolve())
    except SealrunError:
        pass
    assert sorted(path.name for path in root.parent.rglob("*")) == before


def _hostile_configuration(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    for kind in (Release, Gates, Checklist, Waivers):
        with pytest.raises(SealrunError):
            files.load_toml(path, kind)
    with suppress(SealrunError):
        files.parse_json(text, "test")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, a link out, a loop and a pipe, beside a file that is not to be reached."""
    root = tmp_path_factory.mktemp("hostile") / "root"
    root.mkdir()
    (root / "a").write_text("a")
    (root.parent / "outside").write_text("x")
    (root / "link").symlink_to("../outside")
    (root / "A").symlink_to("A")
    os.mkfifo(root / "~")
    return root


@given(st.one_of(st.text(), st.lists(_PARTS, max_size=6).map("".join)))
def test_no_hostile_path_gets_through(hostile: Path, name: str) -> None:
    """Whatever the name, it ends in our own error or inside the folder, and nothing is written."""
    _hostile_path(hostile, name)


@given(st.one_of(st.binary(max_size=300), _TOML.map(lambda text: text.encode("utf-8", "replace"))))
def test_no_hostile_configuration_gets_through(hostile: Path, text: bytes) -> None:
    """Whatever the bytes, they end in our own error that names the file."""
    _hostile_configuration(hostile.parent / "hostile.toml", text)
