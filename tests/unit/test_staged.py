"""The hook before a commit: what a staged change adds is found, what was there before stops nobody."""

import os
import random
import resource
import string
import subprocess
from pathlib import Path

import pytest

from sealrun import staged, venvs
from sealrun.errors import InputMissing
from sealrun.outcome import OutcomeKind
from sealrun.stage import Context, context_of
from tests.conftest import ROOT, git

HOOKS = ROOT / ".pre-commit-hooks.yaml"


def planted(seed: int) -> str:
    return "AKIA" + "".join(random.Random(seed).choices(string.ascii_uppercase + string.digits, k=16))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    try:
        venvs.existing(ROOT, "secrets")
    except InputMissing as error:
        pytest.skip(str(error))
    git(tmp_path, "init", "--quiet")
    return context_of(ROOT, None, tree=tmp_path)


def stage(context: Context, name: str, data: str | bytes) -> None:
    path = context.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    git(context.root, "add", "--", name)


def test_an_empty_repository_has_all_that_is_staged_as_new(context: Context) -> None:
    """Before the first commit every line counts; the index is read, whatever the working tree says by now."""
    stage(context, "a b/é.py", f"x = 1\nkey = '{planted(1)}'\n")
    (context.root / "a b" / "é.py").write_text("x = 1\n")
    found, skipped = staged.look(context.root)
    outcome, judged = staged.scan(context, found)
    assert (outcome.outcome, skipped) == (OutcomeKind.FAILED, {})
    assert [(finding.path, finding.line) for finding in judged.findings] == [("a b/é.py", 2)]
    assert planted(1) not in outcome.seen


def test_what_was_there_before_stops_nobody(context: Context) -> None:
    """A file that holds a secret may be changed elsewhere; a line that the change adds counts."""
    stage(context, "a.py", f"key = '{planted(1)}'\n")
    git(context.root, "commit", "--quiet", "--message=first")
    stage(context, "a.py", f"key = '{planted(1)}'\nx = 2\n")
    assert staged.scan(context, staged.look(context.root)[0])[0].outcome is OutcomeKind.PASSED
    stage(context, "a.py", f"key = '{planted(1)}'\nx = 2\nother = '{planted(2)}'\n")
    judged = staged.scan(context, staged.look(context.root)[0])[1]
    assert [finding.line for finding in judged.findings] == [3]


def test_links_are_skipped_with_the_reason_and_deletions_are_nothing(context: Context) -> None:
    """Only what has bytes is read."""
    stage(context, "gone.txt", "1\n")
    git(context.root, "commit", "--quiet", "--message=first")
    git(context.root, "rm", "--quiet", "gone.txt")
    (context.root / "link").symlink_to("/etc/passwd")
    git(context.root, "add", "link")
    assert staged.look(context.root) == ((), {"link": "link, not followed"})


def test_without_a_repository_the_message_says_so(tmp_path: Path) -> None:
    """No repository is no success."""
    with pytest.raises(InputMissing, match="no git repository"):
        staged.look(tmp_path)


# -- a real commit, with the hook that .pre-commit-hooks.yaml declares


@pytest.fixture
def hooked(context: Context) -> Path:
    """A repository whose commits run the hook."""
    entry = next(line.split()[1] for line in HOOKS.read_text("utf-8").splitlines() if line.strip().startswith("entry:"))
    assert os.access(ROOT / entry, os.X_OK)
    hook = context.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec '{ROOT / entry}'\n")
    hook.chmod(0o755)
    return context.root


def commit(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Commit as a person does."""
    names = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    argv = ["git", "commit", "--quiet", "--message=change", *arguments]
    return subprocess.run(argv, cwd=root, check=False, capture_output=True, text=True, env=os.environ | names)


def test_a_commit_with_a_secret_is_refused_and_one_without_is_made(context: Context, hooked: Path) -> None:
    """The hook ends the commit, names the place, and repeats nothing; a clean change goes through."""
    stage(context, "a.py", "x = 1\n")
    assert commit(hooked).returncode == 0
    stage(context, "b.py", f"\nkey = '{planted(1)}'\n")
    done = commit(hooked)
    assert done.returncode == 1
    assert "b.py:2" in done.stderr
    assert planted(1) not in done.stdout + done.stderr
    assert git(hooked, "rev-list", "--count", "HEAD").strip() == "1"


@pytest.mark.parametrize("arguments", [("-a",), ("a.py",)])
def test_a_commit_that_stages_by_itself_is_scanned_as_what_it_will_be(
    context: Context, hooked: Path, arguments: tuple[str, ...]
) -> None:
    """`commit -a` and `commit PATH` have an index of their own, which is the one to read."""
    stage(context, "a.py", "x = 1\n")
    assert commit(hooked).returncode == 0
    (hooked / "a.py").write_text(f"key = '{planted(2)}'\n")
    assert commit(hooked, *arguments).returncode == 1
    (hooked / "a.py").write_text("x = 2\n")
    assert commit(hooked, *arguments).returncode == 0


def test_the_hook_is_quick(context: Context, hooked: Path) -> None:
    """A commit of a few files takes no more than half a second of processors."""
    spent = []
    for number in range(4):
        for name in "abc":
            stage(context, f"{name}.py", f"x = {number}\n" * 200)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert commit(hooked).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.5, spent


def test_a_hook_that_is_not_installed_ends_the_commit(hooked: Path, tmp_path: Path) -> None:
    """Nothing scanned is nothing committed, and the message says what to run."""
    copy = tmp_path / "elsewhere" / "scripts" / "scan_staged.sh"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((ROOT / "scripts" / "scan_staged.sh").read_bytes())
    copy.chmod(0o755)
    done = subprocess.run([copy], cwd=hooked, check=False, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 3
    assert "INVARLOCK_ALLOW_NETWORK=1" in done.stderr
