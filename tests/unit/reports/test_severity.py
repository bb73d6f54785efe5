"""Severity: vectors of every version of CVSS become scores and levels."""

import pytest

from sealrun.outcome import Severity
from sealrun.reports.osv import Advisory, Rating
from sealrun.reports.severity import Rated, rate

WORST_3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"
LOW_3 = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"


def advisory(*ratings: tuple[str, str], word: Severity = Severity.UNKNOWN) -> Advisory:
    rated = tuple(Rating(type=kind, score=score) for kind, score in ratings)
    return Advisory(id="PYSEC-2026-1", modified="2026-01-01T00:00:00Z", affected=(), severity=word, ratings=rated)


# Scores that the specifications' own examples and calculators give.
@pytest.mark.parametrize(
    ("kind", "vector", "score", "level"),
    [
        ("CVSS_V2", "AV:N/AC:L/Au:N/C:N/I:N/A:C", 7.8, Severity.HIGH),
        ("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0, Severity.HIGH),
        ("CVSS_V2", "AV:L/AC:H/Au:N/C:C/I:C/A:C", 6.2, Severity.MEDIUM),
        ("CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, Severity.MEDIUM),
        ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5, Severity.HIGH),
        ("CVSS_V3", WORST_3, 10.0, Severity.CRITICAL),
        ("CVSS_V3", LOW_3, 1.6, Severity.LOW),
        ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0, Severity.LOW),
        ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, Severity.CRITICAL),
        ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 6.9, Severity.MEDIUM),
    ],
)
def test_a_vector_has_its_score_and_level(kind: str, vector: str, score: float, level: Severity) -> None:
    """Each version by its own rules, a level by the score."""
    rated = rate([advisory((kind, vector))])
    assert (rated.score, rated.level, rated.vector) == (score, level, vector)
    assert f"{score:.1f}" in str(rated)


@pytest.mark.parametrize(
    ("kind", "vector"),
    [
        ("CVSS_V3", ""), ("CVSS_V3", "CVSS:3.1/AV:N"), ("CVSS_V3", "9.8"), ("CVSS_V3", WORST_3 + "/AV:N"),
        ("CVSS_V4", WORST_3), ("CVSS_V2", WORST_3), ("Ubuntu", "high"), ("CVSS_V9", WORST_3), ("CVSS_V3", "\x00" * 50),
    ],
)  # fmt: skip
def test_what_is_no_vector_is_no_level(kind: str, vector: str) -> None:
    """Nothing is guessed; a word beside it still counts."""
    assert rate([advisory((kind, vector))]) == Rated(level=Severity.UNKNOWN)
    assert rate([advisory((kind, vector), word=Severity.MEDIUM)]).level is Severity.MEDIUM


def test_the_worst_of_what_is_said_counts() -> None:
    """Of two vectors, two records, a vector and a word: the worst, in any order."""
    low, worst = advisory(("CVSS_V3", LOW_3)), advisory(("CVSS_V3", WORST_3))
    for records in ([low, worst], [worst, low], [advisory(("CVSS_V3", LOW_3), ("CVSS_V3", WORST_3))]):
        assert rate(records).level is Severity.CRITICAL
    assert rate([advisory(("CVSS_V3", LOW_3), word=Severity.HIGH)]) == Rated(level=Severity.HIGH)
    assert rate([advisory(("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C")), worst]).method == "CVSS 3.1"
    assert rate([]) == Rated(level=Severity.UNKNOWN)
