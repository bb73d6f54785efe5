"""The ladder of checks behind a control: each rung names one thing, what it was found to be and what it had to be.

Rules: a rung holds only when both sides are there and agree; what is missing or cannot be read is a rung that does not hold; a
control without a rung has failed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from sealrun.errors import InputMissing, VerificationFailed

_SHOWN = 100  # characters of a value in a message


class Rung(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One check: its name, both sides as text, and whether it holds."""

    name: str
    got: str
    expected: str
    holds: bool


def same(name: str, got: object, expected: object) -> Rung:
    """Return the check that two values are equal; None is missing, never equal."""
    return Rung(name=name, got=_text(got), expected=_text(expected), holds=got is not None and got == expected)


def near(name: str, got: float | None, expected: float, tolerance: float) -> Rung:
    """Return the check that a number is within *tolerance* of what it should be."""
    holds = got is not None and math.isfinite(got) and abs(got - expected) <= tolerance
    return Rung(name=name, got=_text(got), expected=f"{expected!r} within {tolerance:.3g}", holds=holds)


def at_least(name: str, got: float | None, least: float) -> Rung:
    """Return the check that a number is not below *least*; the text says how much is missing."""
    holds = got is not None and got >= least
    missing = "" if holds or got is None else f", {least - got:g} missing"
    return Rung(name=name, got=_text(got) + missing, expected=f"at least {least:g}", holds=holds)


def at_most(name: str, got: float | None, most: float) -> Rung:
    """Return the check that a number is not above *most*; the text says by how much it is."""
    holds = got is not None and math.isfinite(got) and got <= most
    over = "" if holds or got is None else f", {got - most:.3g} too much"
    return Rung(name=name, got=_text(got) + over, expected=f"at most {most:g}", holds=holds)


def different(name: str, got: object, other: object) -> Rung:
    """Return the check that two values, both there, are not the same."""
    holds = None not in (got, other) and got != other
    return Rung(name=name, got=_text(got), expected=f"anything but {_text(other)}", holds=holds)


def climb(look: Callable[[], Iterable[Rung]]) -> tuple[Rung, ...]:
    """Return the rungs of *look*; evidence that it cannot read is a rung that does not hold."""
    found: list[Rung] = []
    try:
        found.extend(look())
    except (VerificationFailed, InputMissing) as error:
        found.append(Rung(name="readable evidence", got=str(error), expected="complete and strict", holds=False))
    return tuple(found)


def holds(rungs: Sequence[Rung]) -> bool:
    """Return whether there are rungs and all hold."""
    return bool(rungs) and all(rung.holds for rung in rungs)


def seen(rungs: Sequence[Rung], summary: str) -> str:
    """Return *summary* with the number of checks, or the first rung that does not hold and the names of the others."""
    broken = [rung for rung in rungs if not rung.holds]
    if not broken:
        return f"{summary}; {len(rungs)} checks" if rungs else "nothing was checked"
    first, names = broken[0], ", ".join(rung.name for rung in broken[1:6])
    others = f"; also {names}{' and more' if len(broken) > 6 else ''}" if names else ""
    return f"{first.name}: got {first.got}, expected {first.expected}{others}"


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
