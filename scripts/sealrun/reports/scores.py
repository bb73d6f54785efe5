"""Scores of cases, paired: an evaluator's, or whether a model's own answer is the reference.

Rules: pure; shares no code with InvarLock; a case without a score on either side is an error, never left out. A recorded
score's interval is that of `recompute`, of the mean difference instead of a ratio. That of an exact match, which is right or
wrong, is Newcombe's hybrid score interval for paired proportions (R. Newcombe, Improved confidence intervals for the difference
between binomial proportions based on paired data, Statistics in Medicine 17, 1998, method 10): closed, so that it agrees to the
last digits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from sealrun import digest
from sealrun.errors import VerificationFailed
from sealrun.policy.model import Profile
from sealrun.reports import recompute
from sealrun.reports.invarlock import Metric
from sealrun.reports.ladder import Rung, at_least, at_most, near, same
from sealrun.reports.records import Records

_SIDES = ("baseline", "candidate")
_NEWCOMBE = "newcombe_hybrid_score_paired"
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


class Observation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case: its id, the digest of what was asked and expected, and its score; None where there is none."""

    id: str
    asked_sha256: digest.Sha256
    score: float | None


class Figures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own figures: means of the score, their difference (candidate - baseline) and its interval."""

    cases: int
    baseline_mean: float
    candidate_mean: float
    delta: float
    interval: recompute.Interval


def of_records(records: Records) -> tuple[Observation, ...]:
    """Return, for each case, whether the model's answer is the reference: 1 or 0, None where it has no answer."""
    return tuple(
        Observation(
            id=record.id,
            asked_sha256=record.text_sha256,
            score=None if record.output is None else float(digest.of_bytes(record.output.encode()) == record.text_sha256),
        )
        for record in records.cases
    )


def compare(observed: Mapping[str, Sequence[Observation]], *, matches: bool = False) -> Figures:
    """Return our own figures; *matches* are right or wrong. Raises VerificationFailed when cases differ or have no score."""
    left, right = ({case.id: case for case in observed[side]} for side in _SIDES)
    if left.keys() != right.keys():
        only = sorted(left.keys() ^ right.keys())[:3]
        raise VerificationFailed(f"scores: {len(left)} and {len(right)} cases, unpaired {only}; expected the same")
    pairs: dict[str, tuple[float, float]] = {}
    for name in sorted(left):
        one, other = left[name], right[name]
        if one.score is None or other.score is None:
            raise VerificationFailed(f"scores: the case {name} has no score on one side; run the evaluator again")
        if one.asked_sha256 != other.asked_sha256:
            raise VerificationFailed(f"scores: the case {name} was asked differently of the two models; use the same data")
        pairs[name] = one.score, other.score
    count = len(pairs)
    baseline, candidate = (math.fsum(side) / count for side in zip(*pairs.values(), strict=True))
    moved = {name: (1.0, right - left) for name, (left, right) in pairs.items()}
    return Figures(
        cases=count,
        baseline_mean=baseline,
        candidate_mean=candidate,
        delta=math.fsum(right for _, right in moved.values()) / count,
        interval=newcombe(pairs) if matches else recompute.interval(moved),
    )


def newcombe(pairs: Mapping[str, tuple[float, float]]) -> recompute.Interval:
    """Return the interval of candidate - baseline, of pairs of scores that are 1 or 0."""
    count = len(pairs)
    both = sum(left == right == 1 for left, right in pairs.values())
    gained, fallen = (sum(pair == which for pair in pairs.values()) for which in ((0, 1), (1, 0)))
    neither = count - both - gained - fallen
    candidate, baseline = both + gained, both + fallen
    products = both * neither - gained * fallen
    scale = math.sqrt(candidate * (count - candidate) * baseline * (count - baseline))
    related = (max(products - count / 2, 0.0) if products > 0 else products) / scale if scale else 0.0
    (low, high), (floor, top) = _wilson(candidate, count), _wilson(baseline, count)
    one, other = candidate / count, baseline / count
    down, up = _joined(one - low, top - other, related), _joined(high - one, other - floor, related)
    seed = digest.of_json([[name, *scores] for name, scores in pairs.items()])
    return recompute.Interval(lower=one - other - down, upper=one - other + up, method=_NEWCOMBE, seed=seed, replicates=0)


def _wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion."""
    share, weight = hits / count, _Z * _Z / count
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    middle = (share + weight / 2) / (1 + weight)
    return middle - half, middle + half


def _joined(one: float, other: float, related: float) -> float:
    return math.sqrt(max(one * one - 2 * related * one * other + other * other, 0.0))


def lost(metric: Metric) -> float | None:
    """Return the most that the candidate may have lost: the end of the interval on the bad side, positive when it lost."""
    if metric.lower is None or metric.upper is None:
        return None
    return -metric.lower if metric.direction == "higher" else metric.upper


def within(metric: Metric, profile: Profile) -> Iterator[Rung]:
    """Yield the checks of what InvarLock found against the limits, whatever it decided."""
    yield same(f"decision on {metric.name}", metric.decision, "pass")
    if metric.kind != "exact_match":  # whose interval is closed
        yield at_least(f"replicates of the interval of {metric.name}", metric.replicates, profile.min_replicates)
    yield at_most(f"width of the interval of {metric.name}", metric.width, profile.max_score_interval_width)
    yield at_most(f"what the interval of {metric.name} lets be lost", lost(metric), profile.max_score_drop)


def agree(ours: Figures, theirs: Metric, profile: Profile) -> Iterator[Rung]:
    """Yield the checks of InvarLock's figures against ours."""
    for name, got, wanted in (
        ("baseline mean", theirs.baseline_mean, ours.baseline_mean),
        ("candidate mean", theirs.subject_mean, ours.candidate_mean),
        ("difference", theirs.delta, ours.delta),
        ("cases", theirs.count, ours.cases),
    ):
        yield near(f"{name} of {theirs.name}", got, wanted, profile.recompute_tolerance)
    closed = ours.interval.method == _NEWCOMBE
    # an end of a resampled one is a multiple of one case's weight, so that two may differ by a step
    resampled = max(profile.interval_tolerance * ours.interval.width, 1.5 / ours.cases)
    allowed = profile.recompute_tolerance if closed else resampled
    yield near(f"lower end of the interval of {theirs.name}", theirs.lower, ours.interval.lower, allowed)
    yield near(f"upper end of the interval of {theirs.name}", theirs.upper, ours.interval.upper, allowed)
