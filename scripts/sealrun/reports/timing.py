"""Where the time of a release went, from its `run.json`.

Rules: stages run side by side, so their seconds do not add up to the whole; what no stage was at work in is said as such.
"""

from pathlib import Path

from msgspec import Struct

from sealrun import files
from sealrun.errors import InputMissing


class StageTime(Struct, frozen=True, kw_only=True):
    """One stage: when it began on the machine's monotonic clock, its seconds, those of its programs, and why it ran."""

    stage: str
    state: str
    began: float = 0.0
    seconds: float = 0.0
    programs: dict[str, float] = {}
    reused: bool = False
    reason: str = ""


class Times(Struct, frozen=True, kw_only=True):
    """The times of one run, which began at `began` on the same clock."""

    started: str
    began: float = 0.0
    seconds: float
    stages: tuple[StageTime, ...]

    @property
    def idle(self) -> float:
        """Seconds in which no stage was at work: starting, handing over, waiting."""
        busy, until = 0.0, 0.0
        for stage in sorted(self.stages, key=lambda stage: stage.began):
            end = stage.began + stage.seconds
            busy += max(0.0, end - max(stage.began, until))
            until = max(until, end)
        return max(0.0, self.seconds - busy)


def load(path: Path) -> Times:
    """Return the times in the `run.json` at *path*. Raises InputMissing or UsageError."""
    if not path.is_file():
        raise InputMissing(f"explain: no {path}; run `invoke release` first")
    return files.decode(files.read_bytes(path, "run"), Times, str(path))
