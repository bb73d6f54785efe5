"""Laws of the archive, and of what the stage makes of a release."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealrun import digest
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.evidence import bundle, source
from sealrun.evidence.manifest import Source
from tests.conftest import git

_PART = st.from_regex(r"[a-z0-9_-][a-z0-9._-]{0,20}", fullmatch=True)
_NAMES = st.lists(_PART, min_size=2, max_size=4).map("/".join)


def read_back(data: bytes, tmp: Path) -> dict[str, bytes]:
    """Write *data* to a file and read every member of it."""
    path = tmp / "x.evidence.tar"
    path.write_bytes(data)
    with bundle.opened(path) as archive:
        assert archive.sha256 == digest.of_bytes(data)
        return {name: archive.read(name) for name in archive.members}


@given(members=st.dictionaries(_NAMES, st.binary(max_size=1500), max_size=6))
def test_what_is_written_is_read(members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Reading gives back the members, manifest first, the rest in order; the size is whole records."""
    given_members = {**members, "manifest.json": b"{}"}
    if bundle.names_problem(bundle._ordered(given_members)):
        return  # one name below another
    data = bundle.build(given_members)
    found = read_back(data, tmp_path_factory.mktemp("tar"))
    assert found == given_members
    assert list(found) == ["manifest.json", *sorted(members)]
    assert len(data) % 10240 == 0


def test_order_of_the_members_does_not_matter() -> None:
    """The same members in another order give the same bytes."""
    members = {"manifest.json": b"{}", "b": b"2", "a": b"1", "c/d": b"3"}
    assert bundle.build(members) == bundle.build(dict(reversed(members.items())))


def test_other_programs_read_it(tmp_path: Path) -> None:
    """Python's tarfile and the system's tar list and extract what was written, long names included."""
    long = "evidence/" + "x" * 70 + "/" + "y" * 80 + "/z.json"
    members = {"manifest.json": b"{}", long: b"long", "empty": b""}
    data = bundle.build(members)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            assert (info.mode, info.uid, info.gid, info.uname, info.mtime) == (0o644, 0, 0, "", 315_532_800)
        assert archive.getnames() == sorted(members, key=lambda name: (name != "manifest.json", name))
    (tmp_path / "x.tar").write_bytes(data)
    subprocess.run(["tar", "-xf", "x.tar"], cwd=tmp_path, check=True, capture_output=True)
    assert {name: (tmp_path / name).read_bytes() for name in members} == members


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "...", "a b", "a\\b", "ä", "a\nb", "C:a", "a" * 256, "a" * 101,
     "b/" + "a" * 101, "a" * 156 + "/b", "MANIFEST.json", "manifest.json/x"],
)  # fmt: skip
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    """A name that leads elsewhere, that some system cannot hold, or that a header cannot say is not written."""
    with pytest.raises(ToolFailed, match="name"):
        bundle.build({"manifest.json": b"{}", name: b""})


@pytest.mark.parametrize(("length", "cut"), [(100, 0), (101, 1), (255, 154)])
def test_the_cut_of_a_long_name(length: int, cut: int) -> None:
    """Names go whole up to 100 bytes; longer ones are cut at the first slash that leaves at most 100."""
    name = ("a/" * 200)[:length].rstrip("/").ljust(length, "a")
    prefix, rest = bundle._split(name) or ("", "")
    assert (f"{prefix}/{rest}" if prefix else rest) == name
    assert len(rest) <= 100
    assert len(prefix) >= cut


def test_the_manifest_is_needed() -> None:
    """An archive without manifest is not written."""
    with pytest.raises(ToolFailed, match=r"manifest\.json"):
        bundle.build({"a": b""})


def test_every_changed_byte_outside_the_contents_is_refused(tmp_path: Path) -> None:
    """Headers, padding and end have no byte that could be another."""
    data = bundle.build({"manifest.json": b"{}", "a": b"x" * 10})
    path = tmp_path / "x.evidence.tar"
    contents = {*range(512, 514), *range(1536, 1546)}
    for offset in set(range(len(data))) - contents:
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0x41]) + data[offset + 1 :])
        with pytest.raises(VerificationFailed), bundle.opened(path):
            pass


def test_a_member_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """What is read is compared with what was scanned."""
    path = tmp_path / "x.evidence.tar"
    path.write_bytes(bundle.build({"manifest.json": b"{}", "a": b"x" * 100_000}))
    with bundle.opened(path) as archive:
        with path.open("r+b") as stream:
            stream.seek(archive.members["a"].offset + 50_000)
            stream.write(b"y")
        with pytest.raises(VerificationFailed, match="changed while it was read"):
            archive.read("a")


def test_a_large_member_is_not_decoded(tmp_path: Path) -> None:
    """What would be parsed has a limit."""
    path = tmp_path / "x.evidence.tar"
    path.write_bytes(bundle.build({"manifest.json": b"{}", "a": bytes(2000)}))
    with bundle.opened(path) as archive, pytest.raises(VerificationFailed, match="2000 bytes, expected at most 1000"):
        archive.read("a", limit=1000)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    """What is no regular file is refused at once."""
    os.mkfifo(tmp_path / "x.evidence.tar")
    with pytest.raises(VerificationFailed, match="regular file"), bundle.opened(tmp_path / "x.evidence.tar"):
        pass


class TestSource:
    """The commit of a release."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """A repository with one commit and an ignored output folder."""
        (tmp_path / "tree").mkdir()
        git(tmp_path / "tree", "init", "--quiet")
        (tmp_path / "tree" / "a").write_text("a", "utf-8")
        git(tmp_path / "tree", "add", "a")
        git(tmp_path / "tree", "commit", "--quiet", "--message=a")
        return tmp_path / "tree"

    def test_a_clean_commit(self, tree: Path) -> None:
        """A tree as committed is clean at that commit."""
        found, changes = source.look(tree, tree / "build")
        assert found.commit == git(tree, "rev-parse", "HEAD").strip()
        assert (found.clean, changes) == (True, ())

    def test_changes_are_named(self, tree: Path) -> None:
        """A changed and a new file make it unclean; our own output does not."""
        (tree / "a").write_text("b", "utf-8")
        (tree / "new file").write_text("", "utf-8")
        (tree / "build").mkdir()
        (tree / "build" / "x").write_text("", "utf-8")
        found, changes = source.look(tree, tree / "build")
        assert not found.clean
        assert changes == ("a", "new file")

    @pytest.mark.parametrize("name", ["*", "[a-z]", "bu*ld", "a\\b"])
    def test_the_output_folder_is_a_name_and_no_pattern(self, tree: Path, name: str) -> None:
        """Whatever it is called, it hides nothing but itself."""
        (tree / "a").write_text("b", "utf-8")
        (tree / name).mkdir()
        (tree / name / "x").write_text("", "utf-8")
        assert source.look(tree, tree / name)[1] == ("a",)

    def test_a_submodule_that_asks_to_be_ignored_is_looked_at(self, tree: Path, tmp_path: Path) -> None:
        """A file changed within it makes the tree unclean, whatever .gitmodules says."""
        git(tree, "clone", "--quiet", str(tree), str(tmp_path / "part"))
        git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "part"), "part")
        git(tree, "config", "--file", ".gitmodules", "submodule.part.ignore", "all")
        git(tree, "add", ".")
        git(tree, "commit", "--quiet", "--message=part")
        assert source.look(tree, tree / "build")[0].clean
        (tree / "part" / "a").write_text("b", "utf-8")
        assert source.look(tree, tree / "build")[1] == ("part",)

    @pytest.mark.parametrize("told", ["--assume-unchanged", "--skip-worktree"])
    def test_what_git_was_told_to_pass_over_is_not_clean(self, tree: Path, told: str) -> None:
        """A file whose changes git does not look for makes the tree unclean, changed or not."""
        git(tree, "update-index", told, "a")
        assert source.look(tree, tree / "build") == (
            Source(commit=git(tree, "rev-parse", "HEAD").strip(), clean=False), ("a",)
        )  # fmt: skip
        (tree / "a").write_text("b", "utf-8")
        assert source.look(tree, tree / "build")[1] == ("a",)

    def test_whatever_git_says_of_a_path_is_read(self, tree: Path) -> None:
        """Odd names, conflicts and paths that moved are paths that differ."""
        odd = ("two  spaces", " begins", "new\nline", "# branch.oid x", "\u00fc")
        for name in odd:
            (tree / name).write_text(name, "utf-8")
        git(tree, "add", "--", *odd[:2])
        git(tree, "mv", "a", "moved")
        assert source.look(tree, tree / "build")[1] == tuple(sorted((*odd, "a", "moved")))
        git(tree, "commit", "--quiet", "--message=b")
        for name in ("ours", "theirs"):
            git(tree, "branch", name)
        for name, text in (("theirs", "1"), ("ours", "2")):
            git(tree, "checkout", "--quiet", name)
            (tree / "both").write_text(text, "utf-8")
            git(tree, "add", "both")
            git(tree, "commit", "--quiet", "--message=both")
        with pytest.raises(subprocess.CalledProcessError):
            git(tree, "merge", "--quiet", "theirs")
        assert "both" in source.look(tree, tree / "build")[1]

    def test_no_repository_and_no_commit(self, tmp_path: Path) -> None:
        """Without repository or commit the answer is none."""
        assert source.look(tmp_path, tmp_path / "build")[0].commit is None
        git(tmp_path, "init", "--quiet")
        assert source.look(tmp_path, tmp_path / "build")[0].commit is None

    def test_no_git(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without git the answer is none."""
        monkeypatch.setenv("PATH", "/nonexistent")
        assert source.look(tree, tree / "build")[0].commit is None

    def test_hooks_of_the_repository_do_not_write(self, tree: Path) -> None:
        """What a repository's own configuration starts can leave nothing behind."""
        git(tree, "config", "core.fsmonitor", f"touch {tree / 'written'}")
        source.look(tree, tree / "build")
        assert not (tree / "written").exists()
