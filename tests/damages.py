"""The damage catalogue: what may have been done to a candidate, and whether a release of it must be refused.

`.venv/bin/python docs/catalogues.py damages` writes what each gate says of each into the docs.
"""

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from sealrun import pipeline, venvs
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stage import Context
from tests.certification import CHECKOUT, EXAMPLE, PROFILE, pinned, real_release

STAGES = ("model", "certify", "verify")
_SCRIPT = CHECKOUT / "tests" / "damage_models.py"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One change of the example's baseline: *change* and *strength* as `damage_models.py` takes them.

    `baseline` is done to the baseline instead, so that the candidate is better. `swapped` puts the model there only after the
    untouched one was pinned. `refused_by` is the control that must say no, empty for what is harmless.
    """

    name: str
    change: str
    strength: str = "0"
    refused_by: str = ""
    baseline: bool = False
    swapped: bool = False


CATALOGUE = (
    Damage(name="untouched copy", change="copy"),
    Damage(name="fp16 cast", change="fp16"),
    Damage(name="bfloat16 cast", change="bf16"),
    Damage(name="int8 weights", change="int8"),
    Damage(name="int8 weights and activations", change="candidate"),
    Damage(name="int4 weights", change="int4"),
    Damage(name="better than the baseline", change="noise", strength="0.1", baseline=True),
    Damage(name="noise 0.01", change="noise", strength="0.01"),
    Damage(name="noise 0.03", change="noise", strength="0.03"),
    Damage(name="noise 0.1", change="noise", strength="0.1", refused_by="certify.regression"),
    Damage(name="noise 0.3", change="noise", strength="0.3", refused_by="certify.regression"),
    Damage(name="noise 1", change="noise", strength="1", refused_by="certify.regression"),
    Damage(name="zeroed layer", change="zeroed", refused_by="certify.regression"),
    Damage(name="shuffled heads", change="heads", refused_by="certify.regression"),
    Damage(name="one block of noise, in int8", change="damaged", refused_by="certify.regression"),
    Damage(name="one weight not a number", change="nan", refused_by="certify.coverage"),
    Damage(name="one weight infinite", change="inf", refused_by="certify.coverage"),
    Damage(name="truncated vocabulary", change="truncated", refused_by="certify.coverage"),
    Damage(name="wrong tokenizer", change="tokenizer", refused_by="certify.regression"),
    Damage(name="swapped after it was pinned", change="damaged", swapped=True, refused_by="model.digests"),
)


def released(damage: Damage, tmp: Path, shared: Path, *, cases: int, profile: str = PROFILE) -> Context:
    """Return the context of a release of it in the new folder *tmp*; records are kept below *shared*, for all alike."""
    context = real_release(tmp, "baseline", cases=cases, profile=profile)
    home = tmp / "release"
    changed = home / ("baseline" if damage.baseline else "candidate")
    made = changed if not damage.swapped else home / "swapped"
    if made.exists():
        shutil.rmtree(made)
    make(damage.change, damage.strength, made)
    context = pinned(tmp)
    if damage.swapped:
        shutil.rmtree(home / "candidate")
        made.rename(home / "candidate")
    shutil.rmtree(context.out)  # the model gate is asked for real
    return replace(context, out=shared / damage.name.replace(" ", "-"))


def make(change: str, strength: str, target: Path) -> None:
    """Write the changed model folder *target*, or copy one of the example's own."""
    if (EXAMPLE / change).is_dir():
        target.mkdir()
        for name in ("model.onnx", "tokenizer.json"):
            shutil.copy(EXAMPLE / change / name, target / name)
        return
    source = target.parent / f".{target.name}"
    source.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copy(EXAMPLE / "baseline" / name, source / name)
    python = venvs.existing(CHECKOUT, "model").python
    subprocess.run([python, "-I", "-B", _SCRIPT, source, target, change, strength], check=True, capture_output=True)
    shutil.rmtree(source)


def said(context: Context) -> dict[str, StagePredicate]:
    """Run the three stages and return what each stated."""
    return {name: pipeline.execute(pipeline.stage_named(name), context).predicate for name in STAGES}


def refusals(stated: dict[str, StagePredicate]) -> list[str]:
    """Return the controls that say no, and stages that ended in an error."""
    failed = [o.control for p in stated.values() for o in p.outcomes if o.outcome is OutcomeKind.FAILED]
    return [*failed, *(f"{name}: {p.error}" for name, p in stated.items() if p.verdict is Verdict.ERROR)]
