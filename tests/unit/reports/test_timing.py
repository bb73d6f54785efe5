"""Laws of `explain --time`: what overlaps is counted once, what no stage did is the rest."""

from pathlib import Path

import pytest

from sealrun import console, files
from sealrun.errors import InputMissing
from sealrun.reports import timing
from sealrun.reports.timing import StageTime, Times

TIMES = Times(
    started="2026-01-01T00:00:00+00:00", began=100.0, seconds=10.0,
    stages=(
        StageTime(stage="certify", state="passed", began=103.0, seconds=5.0, programs={"score": 4.0}, reason="no earlier run"),
        StageTime(stage="lock", state="passed", began=101.0, seconds=1.0, reused=True),
        StageTime(stage="audit", state="passed", began=101.5, seconds=2.5),
        StageTime(stage="bundle", state="waiting"),
    ),
)  # fmt: skip


def test_what_overlaps_is_counted_once() -> None:
    """Stages were at work from 101 to 108 of 100 to 110: three seconds were nobody's."""
    assert TIMES.idle == pytest.approx(3.0)


def test_every_stage_and_program_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `run.json` holds is read and shown; a release that never ran is said to be missing."""
    with pytest.raises(InputMissing, match="run `invoke release` first"):
        timing.load(tmp_path / "run.json")
    files.write_json(tmp_path / "run.json", TIMES)
    console.timed(timing.load(tmp_path / "run.json"))
    shown = capsys.readouterr().err
    for word in ("lock", "audit", "certify", "score", "bundle", "no stage at work", "10.0 s", "reused", "no earlier run"):
        assert word in shown
