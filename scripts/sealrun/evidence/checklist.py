"""The checklist as it was answered: every control of the policy with the outcome that a stage stated for it.

Rules: `policy/checklist.toml` is written in a plain form that any verifier can read without a TOML library (comments on lines
of their own, `[[control]]`, `key = "text"` without escapes, `key = true`); every control is answered by its own stage exactly
once, and nothing else is answered.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sealrun.errors import SealrunError, UsageError
from sealrun.outcome import Outcome, OutcomeKind

FILE = "checklist.json"

_FORMAT = "sealrun/checklist-v1"
_TEXTS, _KEYS = ("id", "part", "stage", "title", "solution"), ("id", "part", "stage", "title", "solution", "deployment")
_ASSIGNMENT = re.compile(r'([a-z]+) = (?:"([^"\\\x00-\x1f\x7f]*)"|(true|false))')


class Control(Struct, frozen=True, kw_only=True):
    """One line of the policy's checklist."""

    id: str
    part: str
    stage: str
    title: str
    deployment: bool


class Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A control and its outcome."""

    id: str
    part: str
    stage: str
    title: str
    deployment: bool
    outcome: OutcomeKind
    seen: str
    expected: str
    remedy: str
    evidence: str
    warning: str


class Checked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`evidence/bundle/checklist.json`."""

    format: Literal["sealrun/checked-v1"] = "sealrun/checked-v1"
    lines: tuple[Line, ...]


def parse(data: bytes, error: type[SealrunError] = UsageError) -> tuple[Control, ...]:
    """Return the controls of `policy/checklist.toml`. Raises *error* naming the line that is not in the plain form."""
    found: list[dict[str, str | bool]] = [{}]
    for number, line in enumerate(_text(data, error).split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if line == "[[control]]":
            found.append({})
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment is None or assignment[1] in found[-1]:
            raise error(f'policy/checklist.toml, line {number}: got {line!r}, expected key = "plain text", once per control')
        found[-1][assignment[1]] = assignment[2] if assignment[3] is None else assignment[3] == "true"
    if found[0] != {"format": _FORMAT}:
        raise error(f'policy/checklist.toml: got {found[0]} before the first control, expected format = "{_FORMAT}"')
    return tuple(_control(fields, error) for fields in found[1:])


def answer(controls: Iterable[Control], outcomes: Mapping[str, Sequence[Outcome]], error: type[SealrunError]) -> Checked:
    """Return the checklist answered by the *outcomes* of each stage.

    Raises *error* when a control is not answered exactly once by its stage, or when nobody asked for an outcome.
    """
    said = {(stage, outcome.control): outcome for stage, stated in outcomes.items() for outcome in stated}
    if len(said) != sum(len(stated) for stated in outcomes.values()):
        raise error("checklist: a stage states two outcomes for one control; run it again")
    lines = []
    for control in controls:
        outcome = said.pop((control.stage, control.id), None)
        if outcome is None:
            raise error(f"{control.id}: the stage {control.stage} states no outcome; run `nox -s {control.stage}` again")
        lines.append(
            Line(
                id=control.id, part=control.part, stage=control.stage, title=control.title, deployment=control.deployment,
                outcome=outcome.outcome, seen=outcome.seen, expected=outcome.expected, remedy=outcome.remedy,
                evidence=outcome.evidence, warning=outcome.warning,
            )
        )  # fmt: skip
    for stage, control_id in said:
        raise error(f"{control_id}: stated by the stage {stage}, but no line of policy/checklist.toml asks for it")
    return Checked(lines=tuple(lines))


def _text(data: bytes, error: type[SealrunError]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"policy/checklist.toml: not UTF-8 ({problem.reason})") from problem


def _control(fields: dict[str, str | bool], error: type[SealrunError]) -> Control:
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    deployment = fields.get("deployment", False)
    if set(texts) != set(_TEXTS) or not set(fields) <= set(_KEYS) or not isinstance(deployment, bool):
        raise error(f"policy/checklist.toml: got a control with {sorted(fields)}, expected {', '.join(_TEXTS)}")
    del texts["solution"]
    return Control(**texts, deployment=deployment)
