"""The checklist as it was answered: every control of the policy with the outcome that a stage stated for it.

Rules: `policy/checklist.toml` is written in the plain form of `plain`; every control is answered by its own stage exactly once,
and nothing else is answered.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sealrun.errors import SealrunError, UsageError
from sealrun.evidence import plain
from sealrun.outcome import Outcome, OutcomeKind

FILE = "checklist.json"

_FORMAT = "sealrun/checklist-v1"
_TEXTS, _KEYS = ("id", "part", "stage", "title", "solution"), ("id", "part", "stage", "title", "solution", "deployment")
_WHERE = "policy/checklist.toml"


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
    return tuple(_control(fields, error) for fields in plain.tables(data, _WHERE, _FORMAT, "control", error))


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


def _control(fields: plain.Table, error: type[SealrunError]) -> Control:
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    deployment = fields.get("deployment", False)
    if set(texts) != set(_TEXTS) or not set(fields) <= set(_KEYS) or not isinstance(deployment, bool):
        raise error(f"policy/checklist.toml: got a control with {sorted(fields)}, expected {', '.join(_TEXTS)}")
    del texts["solution"]
    return Control(**texts, deployment=deployment)
