"""Recompute what a certificate claims, from the records alone.

Rules: shares no code with the capture and none with InvarLock; sums are exact (`math.fsum`); a case without a number on
either side is an error, never left out.

The metric is InvarLock's `normalized_nll_per_utf8_byte`: per case the negative natural log probability of the text
divided by its size in UTF-8 bytes; per model the mean over cases; the ratio is candidate mean over baseline mean.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from sealrun.errors import VerificationFailed
from sealrun.reports.records import Record


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Means in nats per UTF-8 byte, their ratio, the mean paired difference and its standard error."""

    cases: int
    baseline_mean: float
    candidate_mean: float
    ratio: float
    delta: float
    delta_standard_error: float | None


def compare(baseline: Sequence[Record], candidate: Sequence[Record]) -> Comparison:
    """Return the comparison of two models on the same cases, paired by id.

    Raises VerificationFailed when the cases differ, one has no number, or the baseline's mean is not positive.
    """
    left, right = _losses(baseline, "baseline"), _losses(candidate, "candidate")
    if left.keys() != right.keys() or not left:
        only = sorted(left.keys() ^ right.keys())[:3]
        raise VerificationFailed(f"records: {len(left)} and {len(right)} cases, unpaired {only}; expected the same")
    count = len(left)
    baseline_mean, candidate_mean = (math.fsum(losses.values()) / count for losses in (left, right))
    if not baseline_mean > 0:
        raise VerificationFailed(f"records: the baseline's mean loss is {baseline_mean}; expected more than zero")
    differences = [right[case] - left[case] for case in left]
    return Comparison(
        cases=count,
        baseline_mean=baseline_mean,
        candidate_mean=candidate_mean,
        ratio=candidate_mean / baseline_mean,
        delta=math.fsum(differences) / count,
        delta_standard_error=_standard_error(differences),
    )


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
