"""Recompute what a certificate claims, from the records alone.

Rules: shares no code with the capture and none with InvarLock; sums are exact (`math.fsum`); a case without a number on
either side is an error, never left out; the interval has a generator, a seed and an order of its own, so that it agrees with
InvarLock's within the error of resampling and not because both make the same mistake.

The metric is InvarLock's `normalized_nll_per_utf8_byte`: per case the negative natural log probability of the text
divided by its size in UTF-8 bytes; per model the mean over cases; the ratio is candidate mean over baseline mean.

The interval is the paired percentile bootstrap: cases are drawn with replacement, each with both its losses, the ratio of the
two means is taken, and the ends are the 2.5 % and 97.5 % quantiles of REPLICATES such ratios. Source: B. Efron and R.
Tibshirani, An Introduction to the Bootstrap (1993), section 13.3; quantiles by linear interpolation (R. Hyndman and Y. Fan,
Sample Quantiles in Statistical Packages, 1996, type 7). An end is known to about 1.5 % of the interval's width at 2048
replicates: the standard error of a normal sample's 2.5 % quantile, sqrt(p (1 - p) / B) / density.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random

from msgspec import Struct

from sealrun import digest
from sealrun.errors import VerificationFailed
from sealrun.reports.records import Record

REPLICATES = 2048
METHOD = "paired_percentile_bootstrap_mt19937"
_TAIL = 0.025
_DIGITS = 12  # of an end that is written: what differs beyond is the rounding of one Python from another's


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The 95 % interval of the ratio, and all that is needed to reach it again."""

    lower: float
    upper: float
    method: str
    seed: digest.Sha256
    replicates: int

    @property
    def width(self) -> float:
        """How far the ends lie apart."""
        return self.upper - self.lower


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Means in nats per UTF-8 byte, their ratio and its interval, the mean paired difference and its standard error."""

    cases: int
    baseline_mean: float
    candidate_mean: float
    ratio: float
    delta: float
    delta_standard_error: float | None
    interval: Interval


def compare(baseline: Sequence[Record], candidate: Sequence[Record], replicates: int = REPLICATES) -> Comparison:
    """Return the comparison of two models on the same cases, paired by id.

    Raises VerificationFailed when the cases differ, one has no number, or the baseline's mean is not positive.
    """
    return compare_pairs(paired(baseline, candidate), replicates)


def compare_pairs(
    pairs: Mapping[str, tuple[float, float]], replicates: int = REPLICATES, known: Interval | None = None
) -> Comparison:
    """Return the comparison of each case's two losses; *known* as for `interval`.

    Raises VerificationFailed when the baseline's mean is not positive.
    """
    count = len(pairs)
    baseline_mean, candidate_mean = (math.fsum(side) / count for side in zip(*pairs.values(), strict=True))
    if not baseline_mean > 0:
        raise VerificationFailed(f"records: the baseline's mean loss is {baseline_mean}; expected more than zero")
    differences = [right - left for left, right in pairs.values()]
    return Comparison(
        cases=count,
        baseline_mean=baseline_mean,
        candidate_mean=candidate_mean,
        ratio=candidate_mean / baseline_mean,
        delta=math.fsum(differences) / count,
        delta_standard_error=_standard_error(differences),
        interval=interval(pairs, replicates, known),
    )


def paired(baseline: Sequence[Record], candidate: Sequence[Record]) -> dict[str, tuple[float, float]]:
    """Return each case's two losses in nats per byte, by id in sorted order. Raises VerificationFailed."""
    left, right = _losses(baseline, "baseline"), _losses(candidate, "candidate")
    if left.keys() != right.keys() or not left:
        only = sorted(left.keys() ^ right.keys())[:3]
        raise VerificationFailed(f"records: {len(left)} and {len(right)} cases, unpaired {only}; expected the same")
    return {case: (left[case], right[case]) for case in sorted(left)}


def interval(pairs: Mapping[str, tuple[float, float]], replicates: int = REPLICATES, known: Interval | None = None) -> Interval:
    """Return the interval of the ratio; the seed is the digest of the losses themselves, so nobody can choose it.

    *known* is one computed earlier; it is the answer when it is of these very losses, drawn in the same way.
    """
    seed = digest.of_json([[case, *losses] for case, losses in pairs.items()])
    if known and (known.seed, known.method, known.replicates) == (seed, METHOD, replicates):
        return known
    draw, count = Random(int(seed, 16)).choices, len(pairs)  # noqa: S311 - resampling wants a seed, not a secret
    losses = [complex(*both) for both in pairs.values()]  # one sum for both sides
    ratios = []
    for _ in range(replicates):
        total = sum(draw(losses, k=count))
        ratios.append(total.imag / total.real if total.real > 0 else math.inf)
    ratios.sort()
    lower, upper = (round(_quantile(ratios, at), _DIGITS) for at in (_TAIL, 1 - _TAIL))
    return Interval(lower=lower, upper=upper, method=METHOD, seed=seed, replicates=replicates)


def _quantile(ordered: Sequence[float], at: float) -> float:
    place = at * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below]) if below < above else ordered[below]


def _losses(records: Sequence[Record], side: str) -> dict[str, float]:
    losses: dict[str, float] = {}
    for record in records:
        if record.logprob_sum is None or record.utf8_byte_count < 1 or record.id in losses:
            raise VerificationFailed(f"records of the {side}: case {record.id} cannot be counted ({record.error})")
        losses[record.id] = -record.logprob_sum / record.utf8_byte_count
    return losses


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
