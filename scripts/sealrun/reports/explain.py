"""Why the gate said what it said: the limit, the interval, and the cases that moved most, as one page.

Rules: pure; every number is recomputed from each case's two losses, none is taken from the certificate; what is not there is
said to be missing.
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from sealrun.outcome import Outcome
from sealrun.policy.model import Plan
from sealrun.reports import html, recompute

_WIDE = 1000  # units of a plot's width
_BINS = 40
_EXCERPT = 120  # characters of a text


type Pairs = Mapping[str, tuple[float, float]]
"""A case's losses by its id, baseline's and candidate's, in nats per UTF-8 byte."""


class Moved(Struct, frozen=True, kw_only=True):
    """One case: losses in nats per UTF-8 byte, what share of the whole change it makes up, and its text when it is known."""

    id: str
    baseline: float
    candidate: float
    share: float
    text: str = ""

    @property
    def change(self) -> float:
        """Candidate minus baseline."""
        return self.candidate - self.baseline


class Scale(Struct, frozen=True, kw_only=True):
    """Places numbers on a plot's width."""

    lowest: float
    highest: float

    def at(self, value: float) -> int:
        """Return where *value* lies, in units of the plot."""
        return round(_WIDE * (value - self.lowest) / (self.highest - self.lowest))


class Bin(Struct, frozen=True, kw_only=True):
    """One bar of the histogram: from where to where the change lies, how many cases, and the bar's place and height."""

    lower: float
    upper: float
    cases: int
    x: int
    width: int
    height: int


class Explanation(Struct, frozen=True, kw_only=True):
    """All that is on the page. *why* is one sentence for each limit, *moved* the cases that moved most, worst first."""

    title: str
    profile: str
    outcomes: tuple[Outcome, ...]
    why: tuple[str, ...] = ()
    found: recompute.Comparison | None = None
    limit: float
    moved: tuple[Moved, ...] = ()
    worse: int = 0
    better: int = 0
    bins: tuple[Bin, ...] = ()
    missing: str = ""

    @property
    def refused(self) -> bool:
        """Whether a gate said no."""
        return any(outcome.outcome.value == "failed" for outcome in self.outcomes)

    @property
    def scale(self) -> Scale:
        """The axis of the ratio: no change, the interval and the limit are on it."""
        assert self.found
        marks = (1.0, self.limit, self.found.interval.lower, self.found.interval.upper)
        room = 0.1 * (max(marks) - min(marks)) or 0.1
        return Scale(lowest=min(marks) - room, highest=max(marks) + room)


def explain(plan: Plan, outcomes: Sequence[Outcome], pairs: Pairs, texts: Mapping[str, str], count: int) -> Explanation:
    """Return the explanation of *outcomes* by the two losses of each case, with the *count* cases that moved most.

    Raises VerificationFailed when there is nothing to compare.
    """
    found = recompute.compare_pairs(pairs)
    whole = sum(right - left for left, right in pairs.values())
    ordered = sorted(pairs, key=lambda case: (-abs(pairs[case][1] - pairs[case][0]), case))[:count]
    moved = [
        Moved(
            id=case,
            baseline=pairs[case][0],
            candidate=pairs[case][1],
            share=(pairs[case][1] - pairs[case][0]) / whole if whole else 0.0,
            text=_excerpt(texts.get(case, "")),
        )
        for case in ordered
    ]
    changes = [right - left for left, right in pairs.values()]
    return Explanation(
        title=plan.title,
        profile=plan.release.certify.profile,
        outcomes=tuple(outcomes),
        why=tuple(_why(plan, found)),
        found=found,
        limit=plan.profile.max_ratio,
        moved=tuple(sorted(moved, key=lambda case: (-case.change, case.id))),
        worse=sum(change > 0 for change in changes),
        better=sum(change < 0 for change in changes),
        bins=_histogram(changes),
    )


def without_figures(plan: Plan, outcomes: Sequence[Outcome], missing: str) -> Explanation:
    """Return the explanation of *outcomes* where no figures can be reached, and why."""
    return Explanation(
        title=plan.title,
        profile=plan.release.certify.profile,
        outcomes=tuple(outcomes),
        limit=plan.profile.max_ratio,
        missing=missing,
    )


def render(explanation: Explanation) -> bytes:
    """Return the page."""
    return html.fill("explain.html", page=explanation)


def _why(plan: Plan, found: recompute.Comparison) -> Sequence[str]:
    profile, interval = plan.profile, found.interval
    return (
        _sentence("the upper end of the ratio's 95 % interval", interval.upper, profile.max_ratio),
        _sentence("the width of that interval", interval.width, profile.max_interval_width),
        _sentence("the mean difference in nats per byte", found.delta, profile.max_regression),
    )


def _sentence(what: str, got: float, most: float) -> str:
    if got <= most:
        return f"Within the limit: {what} is {got:.5f}, at most {most:g} is allowed."
    return f"Above the limit: {what} is {got:.5f}, {got - most:.5f} more than the {most:g} that are allowed."


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}..."


def _histogram(changes: Sequence[float]) -> tuple[Bin, ...]:
    """Return how the changes are spread, in bins of one width; zero is an edge."""
    reach = max(abs(change) for change in changes)
    if not reach:
        return ()
    step = 2 * reach / _BINS
    counts = [0] * _BINS
    for change in changes:
        counts[min(_BINS - 1, math.floor((change + reach) / step))] += 1
    highest, wide = max(counts), _WIDE // _BINS
    return tuple(
        Bin(
            lower=number * step - reach, upper=(number + 1) * step - reach, cases=cases, x=number * wide, width=wide - 2,
            height=round(100 * cases / highest),
        )
        for number, cases in enumerate(counts)
        if cases
    )  # fmt: skip
