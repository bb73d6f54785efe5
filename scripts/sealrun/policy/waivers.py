"""Waivers: one value and one loader for every kind of exception (advisories, secrets, model formats, audited code).

Rules: `waivers.toml` names each exception by hand, `baseline.toml` today's findings under one owner and one end; every field
that its kind needs must be there, and none that it does not know; nothing is a wildcard; an end is a date, at most
`waivers.max_days` after the grant; nothing is granted ahead of the day of judgement. Whatever breaks one of these is refused
(exit 2), since a policy that cannot be read as it is meant allows nothing. Lapsing is judged with the findings: `judge`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from sealrun import files
from sealrun.errors import UsageError
from sealrun.policy.model import Text, Waiver, WaiverGate, Waivers

FILE, BASELINE = "waivers.toml", "baseline.toml"
_WILD = re.compile(r"[*?\[\]]|^(any|all|none|latest)$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Kind(Struct, frozen=True, kw_only=True):
    """What an exception for one control names besides its rule. `narrow`: one version in one environment, with what VEX says
    of it and where that is discussed; `target` is the form of its target, None for any text."""

    narrow: bool = False
    target: re.Pattern[str] | None = None


KINDS = {
    "audit.clean": Kind(narrow=True),
    "secrets.clean": Kind(),
    "model.formats": Kind(target=_SHA256),
    "model.code": Kind(target=_SHA256),
}
_NARROW = ("version", "environment", "status", "link")


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One finding of a baseline, by what a waiver would name."""

    control: Text
    rule: Text
    target: Text
    version: str = ""
    environment: str = ""


class Baseline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/baseline.toml`: the findings that were there on the day it was granted."""

    format: Literal["sealrun/baseline-v1"]
    reason: Text
    owner: Text
    approver: Text
    granted: date
    expires: date
    link: Text
    finding: Annotated[tuple[Entry, ...], Meta(min_length=1)]

    def waivers(self) -> tuple[Waiver, ...]:
        """Return the waiver that each finding stands for."""
        head = {name: getattr(self, name) for name in ("reason", "owner", "approver", "granted", "expires")}
        return tuple(
            Waiver(
                **structs.asdict(entry), **head, link=self.link if narrow else "", status="affected" if narrow else "",
            )
            for entry in self.finding
            for narrow in [entry.control in KINDS and KINDS[entry.control].narrow]
        )  # fmt: skip


class State(StrEnum):
    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"


def load_waivers(policy: Path, gate: WaiverGate, today: date) -> Waivers:
    """Return the exceptions of the folder *policy*. Raises UsageError for one that is refused, InputMissing without a file."""
    granted = files.load_toml(policy / FILE, Waivers)
    if granted.baseline:
        raise UsageError(
            f"{policy / FILE}: got baseline, expected waivers alone; the baseline has a file of its own, {BASELINE}"
        )
    _refuse(granted.waiver, gate, today, f"policy/{FILE}")
    if not (policy / BASELINE).is_file():
        return granted
    recorded = files.load_toml(policy / BASELINE, Baseline).waivers()
    _refuse(recorded, gate, today, f"policy/{BASELINE}")
    return structs.replace(granted, baseline=recorded)


def check_baseline(text: bytes, gate: WaiverGate, today: date) -> None:
    """Raise UsageError unless *text* would be read as a `baseline.toml`."""
    _refuse(files.parse_toml(text, Baseline, f"policy/{BASELINE}").waivers(), gate, today, f"policy/{BASELINE}")


def state(waiver: Waiver, gate: WaiverGate, today: date) -> State:
    """Return whether *waiver* holds on *today*, and whether it lapses within `warn_days`."""
    left = (waiver.expires - today).days
    return State.EXPIRED if left < 0 else State.EXPIRING if left <= gate.warn_days else State.ACTIVE


def _refuse(waivers: Sequence[Waiver], gate: WaiverGate, today: date, where: str) -> None:
    for number, waiver in enumerate(waivers, 1):
        if flaw := next(_flaws(waiver, gate, today), ""):
            raise UsageError(f"{where}: exception {number}, {waiver.rule} on {waiver.target}: {flaw}")
    times = Counter((w.control, w.rule, w.target, w.version, w.environment) for w in waivers)
    for (_, rule, target, *_), count in times.items():
        if count > 1:
            raise UsageError(f"{where}: {rule} on {target} stands {count} times, expected once; remove the others")


def _flaws(waiver: Waiver, gate: WaiverGate, today: date) -> Iterator[str]:
    """Yield why *waiver* is refused."""
    kind = KINDS.get(waiver.control)
    if kind is None:
        yield f"control: got {waiver.control!r}, which no waiver can excuse; expected one of {', '.join(KINDS)}"
        return
    for name in ("rule", "target", "version", "environment"):
        if _WILD.search(getattr(waiver, name)):
            yield f"{name}: got {getattr(waiver, name)!r}, expected one exact value; a waiver has no wildcard"
    for name in _NARROW:
        if kind.narrow and not getattr(waiver, name):
            yield f"{name}: missing; {waiver.control} needs one version, one environment, a VEX status and a link"
        if not kind.narrow and name != "link" and getattr(waiver, name):
            yield f"{name}: got {getattr(waiver, name)!r}, which means nothing for {waiver.control}; remove it"
    if (waiver.status == "not_affected") != bool(waiver.justification):
        yield f"justification: got {waiver.justification!r} with status {waiver.status!r}, expected one with not_affected alone"
    if kind.target and not kind.target.fullmatch(waiver.target):
        yield f"target: got {waiver.target!r}, expected a sha256"
    if waiver.granted > today:
        yield f"granted: got {waiver.granted}, after the day of judgement {today}; expected a day that has come"
    if not waiver.granted <= waiver.expires:
        yield f"expires: got {waiver.expires}, before it was granted on {waiver.granted}"
    if (lasts := (waiver.expires - waiver.granted).days) > gate.max_days:
        yield f"expires: got {waiver.expires}, {lasts} days after it was granted; policy allows {gate.max_days}"
