"""Cases that are scored a second time, from the named bytes, in another process: were the records made by running the models?

Rules: pure; which cases these are follows from the records themselves, so that any edit of a record draws other cases; half of
them are those that speak most for the candidate, since there forging pays most, the rest are drawn by digest; a case counts as
witnessed only when the second look saw the same model, tokenizer, window and text.

A share *f* of forged cases that does not lie among the first half escapes *d* drawn cases with probability (1 - f)^d.
"""

from collections.abc import Iterator, Mapping, Sequence

from sealrun import digest
from sealrun.policy.model import DataRef, Profile
from sealrun.reports import ladder
from sealrun.reports.records import Case, Record, Records

SIDES = ("baseline", "candidate")


def sample(scored: Mapping[str, Records], count: int) -> tuple[str, ...]:
    """Return the ids of *count* cases (all, when there are fewer), in the order of the records."""
    baseline, candidate = (scored[side].cases for side in SIDES)
    gains = {left.id: _gain(left, right) for left, right in zip(baseline, candidate, strict=False)}
    seed = digest.of_json([[[case.id, case.logprob_sum] for case in side] for side in (baseline, candidate)])
    telling = sorted(gains, key=lambda case: (-gains[case], case))[: count // 2]
    drawn = sorted(gains.keys() - set(telling), key=lambda case: digest.of_bytes(f"{seed} {case}".encode()))
    chosen = {*telling, *drawn[: count - len(telling)]}
    return tuple(case for case in gains if case in chosen)


def data(cases: Sequence[Case], chosen: Sequence[str], ref: DataRef) -> bytes:
    """Return the data file that holds only the *chosen* cases, under the ids they have, in the fields that *ref* names."""
    wanted = set(chosen)
    return b"".join(digest.canonical_json(_line(case, ref)) for case in cases if case.id in wanted)


def _line(case: Case, ref: DataRef) -> dict[str, str]:
    if not ref.reference_field:
        return {"id": case.id, ref.text_field: case.text}
    return {"id": case.id, ref.text_field: case.prompt.removesuffix(ref.joiner), ref.reference_field: case.text}


def compared(profile: Profile, scored: Mapping[str, Records], again: Mapping[str, Records]) -> Iterator[ladder.Rung]:
    """Yield the checks of the second look *again* against the first."""
    chosen = sample(scored, profile.witness_cases)
    for side in SIDES:
        first, second = scored[side], again[side]
        yield ladder.same(f"cases of the {side} scored again", tuple(record.id for record in second.cases), chosen)
        for field in ("runtime", "runtime_version", "window", "model_sha256", "tokenizer_sha256"):
            name = f"{field.replace('_', ' ')} of the {side}, scored again"
            yield ladder.same(name, getattr(second.header, field), getattr(first.header, field))
        stated = {record.id: record for record in first.cases}
        pairs = [(stated[record.id], record) for record in second.cases if record.id in stated]
        yield from (rung for one, other in pairs for rung in _same_text(side, one, other) if not rung.holds)
        deviation, case = max(((_deviation(one, other), one.id) for one, other in pairs), default=(float("inf"), "no case"))
        yield ladder.at_most(f"score of the {side}, most of all of {case}", deviation, profile.witness_tolerance)


def _gain(left: Record, right: Record) -> float:
    """Return how much a case speaks for the candidate; one without a number comes first."""
    if left.logprob_sum is None or right.logprob_sum is None:
        return float("inf")
    return right.logprob_sum / right.utf8_byte_count - left.logprob_sum / left.utf8_byte_count


def _same_text(side: str, one: Record, other: Record) -> Iterator[ladder.Rung]:
    for field in ("text_sha256", "utf8_byte_count", "token_count", "model_sha256"):
        yield ladder.same(f"{field.replace('_', ' ')} of {one.id}, {side}", getattr(other, field), getattr(one, field))
    if (one.output, other.output) != (None, None):
        yield ladder.same(f"output of {one.id}, {side}", other.output, one.output)


def _deviation(one: Record, other: Record) -> float:
    """Return how far two scores lie apart, as a share of the first where that is above one nat."""
    if one.logprob_sum is None or other.logprob_sum is None:
        return 0.0 if one.error == other.error else float("inf")
    return abs(one.logprob_sum - other.logprob_sum) / max(1.0, abs(one.logprob_sum))
