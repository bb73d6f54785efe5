"""The secret scan in every state that a git repository can be in: the right result, or a clear error."""

import os
import random
import string
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sealrun.errors import UsageError
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import Verdict
from sealrun.stages import secrets
from tests.conftest import git
from tests.small import context_of, execute, scanning

pytestmark = pytest.mark.e2e


def planted(seed: int) -> str:
    return "AKIA" + "".join(random.Random(seed).choices(string.ascii_uppercase + string.digits, k=16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scanning(tmp_path / "repository")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A repository to be scanned: a secret was committed, and removed by the next commit."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet", "--initial-branch=main")
    for text in (f"key = '{planted(1)}'\n", "nothing\n"):
        (other / "a.py").write_text(text)
        git(other, "add", "a.py")
        git(other, "commit", "--quiet", "--message=change")
    return other


def scan(root: Path, *targets: Path) -> StagePredicate:
    said = execute(secrets.STAGE, context_of(root, *targets))
    assert not said.error
    return said


def places(said: StagePredicate) -> list[str | None]:
    return [finding.path for finding in said.findings]


def test_a_detached_head_a_worktree_and_a_bare_clone_have_the_history(root: Path, other: Path, tmp_path: Path) -> None:
    """Wherever a checkout stands, and without one, what its refs and HEAD reach is scanned."""
    git(other, "worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"))
    git(tmp_path, "clone", "--quiet", "--bare", str(other), "bare.git")
    git(other, "checkout", "--quiet", "--detach", "HEAD")
    git(other, "branch", "--quiet", "-D", "main")
    for target in (other, tmp_path / "worktree", tmp_path / "bare.git"):
        said = scan(root, target)
        assert (said.verdict, places(said)) == (Verdict.FAILED, ["a.py"]), target


def test_a_shallow_clone_is_said_to_be_one_and_a_submodule_to_be_skipped(root: Path, other: Path, tmp_path: Path) -> None:
    """What is not there cannot be scanned, and coverage says what that is."""
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{other}", "shallow")
    git(tmp_path / "shallow", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "sub")
    said = scan(root, tmp_path / "shallow")
    coverage = next(outcome for outcome in said.outcomes if outcome.control == "secrets.coverage")
    assert said.verdict is Verdict.PASSED
    assert "shallow" in coverage.warning
    assert "1 skipped" in coverage.seen


def test_an_empty_repository_is_scanned_without_a_history(root: Path, tmp_path: Path) -> None:
    """No commit yet: the files that could be added are all there is, one called HEAD among them."""
    git(tmp_path, "init", "--quiet", "new")
    (tmp_path / "new" / "HEAD").write_text("no revision\n")
    (tmp_path / "new" / "a.py").write_text(f"key = '{planted(3)}'\n")
    assert places(scan(root, tmp_path / "new")) == ["new/a.py"]


@pytest.mark.parametrize("name", ["*", "[a-z]", "?ew", "new ", "a\\b"])
def test_what_sealrun_writes_is_left_out_by_name_and_no_pattern(root: Path, name: str) -> None:
    """Output folder and cache are no part of what is judged, whatever they are called; what lies beside them is."""
    context = replace(context_of(root), out=root / name / "made", cache=root / f"cache {name}")
    for path in (context.out / "x", root / f"cache {name}" / "x", root / "new" / "x"):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    listed = secrets._listed(root, secrets._ours(context))
    assert b"new/x" in listed
    assert not [each for each in listed if os.fsdecode(each).startswith((f"{name}/", "cache "))]


def test_names_that_are_not_utf8_are_scanned_wherever_they_stand(root: Path, tmp_path: Path) -> None:
    """A file, a folder, what was removed since and the repository itself may have any name."""
    other = tmp_path / os.fsdecode(b"repo\xe9")
    (other / os.fsdecode(b"d\xfe")).mkdir(parents=True)
    git(other, "init", "--quiet", "--initial-branch=main")
    for number, name in enumerate((b"\xff.py", b"d\xfe/x.py", b"old\xfd.py")):
        (other / os.fsdecode(name)).write_text(f"key = '{planted(number)}'\n")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "--message=one")
    (other / os.fsdecode(b"old\xfd.py")).unlink()
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message=two")
    found = {(path or "").rpartition("\\xe9/")[2] for path in places(scan(root, other))}
    assert found == {"\\xff.py", "d\\xfe/x.py", "old\\xfd.py"}


def test_commits_made_meanwhile_change_nothing(root: Path, other: Path) -> None:
    """The scan is of the objects that the refs reached when it began."""
    writer = subprocess.Popen(
        ["/bin/sh", "-c", "while :; do git commit -q --allow-empty -m more || exit; done"], cwd=other,
        env={**os.environ, **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "a"),
             **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@example.org")},
    )  # fmt: skip
    try:
        assert places(scan(root, other)) == ["a.py"]
    finally:
        writer.kill()
        writer.wait()


def test_two_repositories_at_once_are_refused(root: Path, other: Path, tmp_path: Path) -> None:
    """One history at a time, a bare one too."""
    git(tmp_path, "clone", "--quiet", "--bare", str(other), "bare.git")
    with pytest.raises(UsageError, match="one repository at a time"):
        scan(root, other, tmp_path / "bare.git")
