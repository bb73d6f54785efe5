"""Laws of the lock stage: pinned, hashed, and made from the inputs as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sealrun import pipeline
from sealrun.evidence.statement import StageStatement
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stage import context_of

HASH = "--hash=sha256:"


def run(repository: Path) -> StageStatement:
    """The lock stage's statement."""
    return pipeline.execute(pipeline.stage_named("lock"), context_of(repository, None, Path("build")))


def kinds(statement: StageStatement) -> dict[str, OutcomeKind]:
    """Outcome by control."""
    return {outcome.control: outcome.outcome for outcome in statement.predicate.outcomes}


def test_the_project_s_own_locks_hold(repository: Path) -> None:
    """Every environment of this project is pinned, hashed and current."""
    statement = run(repository)
    assert statement.predicate.verdict is Verdict.PASSED, statement.predicate.findings
    assert statement.predicate.network == "unused"


def drop_hash(text: str) -> str:
    """Remove the hashes of the first pin."""
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if HASH in line)
    last = next(index for index in range(first, len(lines)) if HASH not in lines[index])
    return "\n".join([*lines[: first - 1], lines[first - 1].rstrip("\\ "), *lines[last:]]) + "\n"


@pytest.mark.parametrize(
    ("file", "change", "control"),
    [
        ("audit.txt", drop_hash, "lock.hashed"),
        ("audit.txt", lambda text: text + "six\n", "lock.hashed"),
        ("audit.txt", lambda text: text + "-e .\n", "lock.hashed"),
        ("audit.txt", lambda text: text + "six @ https://example.invalid/six.whl\n", "lock.hashed"),
        ("audit.txt", lambda _: "", "lock.hashed"),
        ("audit.in", lambda text: text + "# a reason\n", "lock.current"),
        ("audit.in", lambda text: text + "six\n", "lock.current"),
        ("audit.txt", lambda text: text.replace("# input: ", "# was: "), "lock.current"),
        ("secrets.overrides", lambda text: text + "six>=99\n", "lock.current"),
        ("runner.in", lambda text: text + "six\n", "lock.current"),
    ],
)
def test_each_flaw_fails_its_control(repository: Path, file: str, change: Callable[[str], str], control: str) -> None:
    """A missing hash, an unpinned or foreign requirement, an edited input: each fails the control that is about it."""
    path = repository / "requirements" / file
    path.write_text(change(path.read_text()))
    statement = run(repository)
    assert kinds(statement)[control] is OutcomeKind.FAILED
    assert any(finding.control == control and finding.path for finding in statement.predicate.findings)


def test_an_environment_without_its_lock_fails(repository: Path) -> None:
    """A lock that is gone is drift, named."""
    (repository / "requirements" / "model.txt").unlink()
    (outcome,) = [o for o in run(repository).predicate.outcomes if o.control == "lock.current"]
    assert outcome.outcome is OutcomeKind.FAILED
    assert "model" in outcome.seen


def test_a_lock_without_an_input_fails(repository: Path) -> None:
    """A lock that no input explains is drift."""
    (repository / "requirements" / "model.in").unlink()
    assert kinds(run(repository))["lock.current"] is OutcomeKind.FAILED


def test_an_unreadable_lock_is_wrong_input(repository: Path) -> None:
    """A lock that is no text ends in an error, not in a pass."""
    (repository / "requirements" / "model.txt").write_bytes(b"\xff\xfe\x00")
    statement = run(repository)
    assert (statement.predicate.verdict, statement.predicate.error_code) == (Verdict.ERROR, 2)
