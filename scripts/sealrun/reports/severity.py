"""Severity: CVSS vectors to a score and a level.

Rules: the base score counts, by the `cvss` library; a record that rates itself more than once has its worst level; a word of
the source counts beside its vectors; a vector that cannot be read says nothing; without any of these the level is `unknown`,
and what that means is policy's to say.

Source: CVSS 2.0 (levels as NVD names them), 3.0, 3.1 and 4.0, qualitative severity rating scale.
"""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from sealrun.outcome import Severity
from sealrun.policy import judge as policy
from sealrun.reports.osv import Advisory, Rating

_LEVELS = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM), (0.0, Severity.LOW))
_VERSIONS = ("CVSS_V2", "CVSS_V3", "CVSS_V4")


class Rated(Struct, frozen=True, kw_only=True):
    """A level; where a vector gave it, that vector, its version of CVSS and its base score."""

    level: Severity
    method: str = ""
    vector: str = ""
    score: float | None = None

    def __str__(self) -> str:
        return f"{self.level} ({self.method} {self.score:.1f})" if self.method else str(self.level)


def rate(advisories: Sequence[Advisory]) -> Rated:
    """Return the worst that the records of one vulnerability say of it."""
    by_vector = [rated for advisory in advisories for rating in advisory.ratings if (rated := _rated(rating))]
    by_word = [Rated(level=advisory.severity) for advisory in advisories]
    level = policy.worst([rated.level for rated in (*by_vector, *by_word)])
    worst = [rated for rated in by_vector if rated.level is level]
    return max(worst, key=lambda rated: (rated.score or 0.0, rated.vector), default=Rated(level=level))


@lru_cache(maxsize=4096)
def _rated(rating: Rating) -> Rated | None:
    """Return what a vector is worth, None for one that cannot be read."""
    from cvss import CVSS2, CVSS3, CVSS4
    from cvss.exceptions import CVSSError

    if rating.type not in _VERSIONS:
        return None
    kind = dict(zip(_VERSIONS, (CVSS2, CVSS3, CVSS4), strict=True))[rating.type]
    try:
        score = float(kind(rating.score).base_score)
    except (CVSSError, ValueError, KeyError, ArithmeticError):
        return None
    level = next(level for least, level in _LEVELS if score >= least)
    if kind is CVSS2 and level is Severity.CRITICAL:
        level = Severity.HIGH
    head = rating.score.split("/")[0]
    return Rated(level=level, method=head.replace("CVSS:", "CVSS ") if kind is not CVSS2 else "CVSS 2.0", vector=rating.score,
                 score=score)  # fmt: skip
