"""Certify: is the candidate no worse than the baseline on the evaluation text?

Rules: the engine that the release names judges, and is named with what it did not run; nothing is run that the model gate did
not pass; a case that a model cannot score is counted as missing, never left out; the certificate, the baseline's report and the
records are left together, without a path or a time in them.
"""

from collections.abc import Mapping

from sealrun import digest
from sealrun.engines import engine_of
from sealrun.errors import UsageError, VerificationFailed
from sealrun.outcome import Judgement, Outcome, Verdict, check
from sealrun.reports import artifacts, inventory
from sealrun.stage import Context, Stage, Work

_CONTROLS = ("certify.completed", "certify.coverage", "certify.regression")


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    pinned = inventory.pins(context.plan)
    return {
        **{name: sha256 for name, sha256 in inventory.look(context.plan, ()).digests().items() if name in pinned},
        "data": digest.of_file(context.data()),
        **engine_of(context.plan).inputs(context),
    }


def _gather(context: Context, work: Work) -> None:
    if _refused_by_model_gate(context):
        return
    _require_untouched(context)
    engine_of(context.plan).certify(context, work)


def _split(context: Context, work: Work) -> None:
    engine = engine_of(context.plan)
    if engine.split is None:
        raise UsageError(f"certify: engine {engine.name} judges all cases at once; leave out --shard")
    if _refused_by_model_gate(context):
        return
    _require_untouched(context)
    engine.split(context, work)


def _require_untouched(context: Context) -> None:
    """Raise VerificationFailed when a pinned file is not what the gate judged: a runtime may open any of them."""
    found = artifacts.load(context.evidence("model"))
    seen = inventory.look(context.plan, ()).digests()
    for role in ("baseline", "candidate"):
        for entry in found.model(role):
            if seen.get(f"{role}/{entry.path}") != entry.sha256:
                name = f"{role}/{entry.path}"
                raise VerificationFailed(f"certify: {name} is no longer what the model gate judged; run `nox -s model` again")


def _judge(context: Context) -> Judgement:
    if refused := _refused_by_model_gate(context):
        return Judgement(outcomes=tuple(_not_run(control, refused) for control in _CONTROLS))
    return engine_of(context.plan).judge(context)


def _not_run(control: str, why: str) -> Outcome:
    return check(control, False, seen=f"not run: {why}", expected="model gate passed", remedy="Mend what `nox -s model` names.")


def _refused_by_model_gate(context: Context) -> str:
    """Return why nothing may be run, empty when the model gate passed."""
    gate = context.upstream("model").predicate
    failed = [outcome.control for outcome in gate.outcomes if outcome.outcome == "failed"]
    return "" if gate.verdict is Verdict.PASSED else f"the model gate said no ({', '.join(failed)})"


STAGE = Stage(
    name="certify",
    summary="Judge the candidate against the baseline with InvarLock",
    controls=_CONTROLS,
    requires=("model",),
    also=lambda plan: engine_of(plan).needs(plan),
    inputs=_inputs,
    gather=_gather,
    judge=_judge,
    split=_split,
)
