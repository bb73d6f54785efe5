"""How long a bundle is to be kept, worked out again from its policy and its day of judgement.

Rules: `policy/retention.toml` is written in the plain form of `plain`, save that a table is `[retention.NAME]` and `days` a
whole number; the class that a plan names is the policy's, and its last day is so many days after the day of judgement.

Source: docs/bundle-format.md.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta

from msgspec import Struct

from sealrun.errors import SealrunError, VerificationFailed
from sealrun.evidence.manifest import PlanDocument

POLICY = "policy/retention.toml"
CONTROL = "evidence.retained"

_FORMAT = 'format = "sealrun/retention-v1"'
_HEADING = re.compile(r"\[retention\.([A-Za-z0-9_-]+)\]")
_ASSIGNMENT = re.compile(r'(days) = ([1-9][0-9]{0,5})|(reason) = "([^"\\\x00-\x1f\x7f]*)"|(production) = (true|false)')


class Class(Struct, frozen=True, kw_only=True):
    """A class of `policy/retention.toml`."""

    days: int
    reason: str
    production: bool


def parse(data: bytes, error: type[SealrunError]) -> Mapping[str, Class]:
    """Return the classes of `policy/retention.toml`. Raises *error* naming the line that is not in the plain form."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{POLICY}: not UTF-8 ({problem.reason})") from problem
    tables: dict[str, dict[str, str]] = {}
    known: dict[str, str] | None = None
    formats = 0
    for number, line in enumerate(text.split("\n"), 1):
        heading, found = _HEADING.fullmatch(line), _ASSIGNMENT.fullmatch(line)
        if not line or line.startswith("#"):
            continue
        if heading and formats and heading[1] not in tables:
            known = tables[heading[1]] = {}
        elif line == _FORMAT and known is None and not formats:
            formats += 1
        elif found and known is not None and (named := [part for part in found.groups() if part is not None])[0] not in known:
            known[named[0]] = named[1]
        else:
            raise error(
                f"{POLICY}, line {number}: got {line!r}, expected [retention.NAME] and below it days = NUMBER, "
                'reason = "plain text" and production = true or false, each once'
            )
    for name, table in tables.items():
        if table.keys() != {"days", "reason", "production"}:
            raise error(f"{POLICY}: retention.{name}: got {sorted(table)}, expected days, production and reason")
    return {
        name: Class(days=int(table["days"]), reason=table["reason"], production=table["production"] == "true")
        for name, table in tables.items()
    }


def last_day(judged_at: str, days: int) -> str:
    """Return the day so many *days* after *judged_at*, empty where the calendar has none."""
    try:
        return (date.fromisoformat(judged_at) + timedelta(days=days)).isoformat()
    except (OverflowError, ValueError):
        return ""


def check(plan: PlanDocument, policy: bytes | None) -> bool:
    """Check what *plan* says of its retention; return whether its class is meant for production, as far as *policy* shows.

    *policy* is the member `policy/retention.toml`, None where there is none to look at. Raises VerificationFailed.
    """
    said = plan.retention
    expected = last_day(plan.judged_at, said.days)
    if said.days < 1 or said.until != expected:
        raise VerificationFailed(
            f"plan.json: retention: got {said.until}, expected {expected or 'a day'}, {said.days} days after {plan.judged_at}"
        )
    if policy is None:
        return True
    kept = parse(policy, VerificationFailed).get(said.name)
    if kept is None or (kept.days, kept.reason) != (said.days, said.reason):
        raise VerificationFailed(f"plan.json: retention: {said.name}, {said.days} days, is not a class of {POLICY}")
    return kept.production
