"""The hook before a commit: what a staged change adds is found, what was there before stops nobody."""

import random
import string
from pathlib import Path

import pytest

from sealrun import staged, venvs
from sealrun.errors import InputMissing
from sealrun.outcome import OutcomeKind
from sealrun.stage import Context, context_of
from tests.conftest import ROOT, git


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
