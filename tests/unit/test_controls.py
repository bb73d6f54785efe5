"""Controls that the runner itself makes hard to fail: their judges say no all the same."""

from pathlib import Path

from sealrun import files, pipeline
from sealrun.__main__ import context_of
from sealrun.outcome import OutcomeKind


def test_an_old_python_fails(repository: Path) -> None:
    """The lock stage refuses a run on a Python before 3.12."""
    context, stage = context_of(repository, None, Path("build")), pipeline.stage_named("lock")
    pipeline.execute(stage, context)
    report = context.evidence("lock") / "locks.json"
    files.write_bytes(report, report.read_bytes().replace(b'"python": "3.', b'"python": "2.'))
    outcomes = {outcome.control: outcome.outcome for outcome in stage.judge(context).outcomes}
    assert outcomes["python.version"] is OutcomeKind.FAILED
    assert outcomes["lock.hashed"] is OutcomeKind.PASSED
