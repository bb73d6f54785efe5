"""Time: the only place that reads the clock.

Rules: verdicts are judged at a UTC day, taken from SOURCE_DATE_EPOCH or from now, so that two clones released on one day
make the same bytes; durations come from the monotonic clock and stay out of what is signed.
"""

import time
from datetime import UTC, date, datetime

from sealrun.errors import UsageError


def judged_at(source_date_epoch: str | None) -> date:
    """Return the UTC day at which waivers, ages and expiries are judged. Raises UsageError for a malformed epoch."""
    if not source_date_epoch:
        return datetime.now(UTC).date()
    try:
        return datetime.fromtimestamp(int(source_date_epoch), UTC).date()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"SOURCE_DATE_EPOCH: got {source_date_epoch!r}, expected whole seconds since 1970; "
            "unset it or use `git log -1 --format=%ct`"
        ) from error


def now() -> datetime:
    """Return the real time, UTC, for `run.json` and for decisions that may not be dated back."""
    return datetime.now(UTC)


def seconds() -> float:
    """Return monotonic seconds; only differences mean something."""
    return time.monotonic()
