"""The recomputation agrees with what InvarLock recorded, and refuses what cannot be compared."""

from pathlib import Path
from random import Random

import msgspec
import pytest

from sealrun.errors import VerificationFailed
from sealrun.reports import invarlock, recompute
from sealrun.reports.records import Record, parse_records

RECORDED = Path(__file__).parents[2] / "recorded" / "invarlock"


def records(recorded: str, role: str) -> tuple[Record, ...]:
    path = RECORDED / recorded / "certify" / "records" / f"{role}.jsonl"
    return parse_records(path.read_bytes(), path.name).cases


def record(identity: str, logprob_sum: float | None, size: int = 10) -> Record:
    error = None if logprob_sum is not None else "no number"
    return Record(
        id=identity,
        model_sha256="0" * 64,
        text_sha256="0" * 64,
        utf8_byte_count=size,
        token_count=3,
        logprob_sum=logprob_sum,
        error=error,
    )


@pytest.mark.parametrize("recorded", ["candidate", "damaged"])
def test_agrees_with_invarlock(recorded: str) -> None:
    """Means, ratio and difference equal the certificate's to 1e-9."""
    ours = recompute.compare(records(recorded, "baseline"), records(recorded, "candidate"))
    path = RECORDED / recorded / "certify" / "certificate" / "reports" / "evaluation.report.json"
    theirs = invarlock.load(path, invarlock.Comparison).metrics[0]
    assert (ours.baseline_mean, ours.candidate_mean, ours.ratio, ours.delta) == pytest.approx(
        (theirs.baseline_mean, theirs.subject_mean, theirs.ratio, theirs.delta), abs=1e-9
    )


def test_by_hand() -> None:
    """Per case nats over bytes, mean over cases, candidate over baseline."""
    said = recompute.compare([record("a", -10, 10), record("b", -6, 2)], [record("b", -8, 2), record("a", -20, 10)])
    assert (said.baseline_mean, said.candidate_mean, said.ratio, said.delta) == (2.0, 3.0, 1.5, 1.0)
    assert said.delta_standard_error == 0.0


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        ([], []),
        ([record("a", -1)], [record("b", -1)]),
        ([record("a", -1)], [record("a", -1), record("b", -1)]),
        ([record("a", -1)], [record("a", None)]),
        ([record("a", -1), record("a", -1)], [record("a", -1)]),
        ([record("a", 0.0)], [record("a", -1)]),
    ],
)
def test_what_cannot_be_paired_is_refused(baseline: list[Record], candidate: list[Record]) -> None:
    """No cases, other cases, a case without a number, a doubled case, a baseline without loss: never a smaller mean."""
    with pytest.raises(VerificationFailed):
        recompute.compare(baseline, candidate)


def test_order_does_not_matter() -> None:
    """The comparison is a function of the set of records."""
    one, two = records("candidate", "baseline"), records("candidate", "candidate")
    assert recompute.compare(one[::-1], two) == msgspec.structs.replace(recompute.compare(one, two))


@pytest.mark.parametrize("recorded", ["candidate", "damaged"])
def test_the_interval_agrees_within_the_error_of_resampling(recorded: str) -> None:
    """Two methods with seeds of their own: each end within a tenth of the width, the tolerance of policy."""
    ours = recompute.compare(records(recorded, "baseline"), records(recorded, "candidate")).interval
    path = RECORDED / recorded / "certify" / "certificate" / "reports" / "evaluation.report.json"
    theirs = invarlock.load(path, invarlock.Comparison).metrics[0].interval
    assert theirs is not None
    assert (ours.lower, ours.upper) == pytest.approx((theirs.lower, theirs.upper), abs=0.1 * ours.width)
    assert ours.method != theirs.method


def test_the_interval_covers_what_it_should() -> None:
    """Over many drawn data sets, 95 % intervals hold the true ratio about 95 times in 100."""
    draw, held = Random(5), 0
    for _ in range(300):
        losses = [draw.expovariate(1.0) + 0.5 for _ in range(60)]
        pairs = {str(number): (loss, 1.1 * loss + draw.gauss(0, 0.1)) for number, loss in enumerate(losses)}
        interval = recompute.interval(pairs, 200)
        held += interval.lower <= 1.1 <= interval.upper
    assert 265 <= held <= 299  # 285 expected, a deviation of 3.8


def test_the_interval_is_that_of_its_seed() -> None:
    """The same losses give the same interval; a changed loss draws anew; identical models have a ratio of one exactly."""
    pairs = {str(number): (1.0 + number, 2.0 + number) for number in range(20)}
    one = recompute.interval(pairs)
    assert one == recompute.interval(pairs)
    assert one.seed != recompute.interval({**pairs, "3": (4.0, 5.1)}).seed
    same = recompute.interval({case: (left, left) for case, (left, _) in pairs.items()})
    assert (same.lower, same.upper) == (1.0, 1.0)


def test_an_interval_known_already_counts_for_its_own_losses_alone() -> None:
    """One kept from earlier is the answer for the very losses that it was drawn from, and for no others."""
    pairs = {str(number): (1.0 + number, 2.0 + number) for number in range(20)}
    others = {**pairs, "3": (4.0, 5.1)}
    kept = msgspec.structs.replace(recompute.interval(pairs), upper=9.0)
    assert recompute.interval(pairs, known=kept) is kept
    assert recompute.interval(others, known=kept) == recompute.interval(others)
    assert recompute.interval(pairs, 100, known=kept) == recompute.interval(pairs, 100)
