"""A small release in a git repository, with the example's real files, for the tests of the secrets and model stages."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from sealrun import pipeline, venvs
from sealrun.errors import InputMissing
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import Outcome
from sealrun.policy.load import load_plan
from sealrun.stage import Context, Stage
from tests.conftest import ROOT, git

EXAMPLE = ROOT / "examples" / "tiny-lm"


def repository(tmp: Path) -> Path:
    """Make a repository at *tmp* with policy, locks and the example's release; tracked is the release file alone."""
    tmp.mkdir(parents=True, exist_ok=True)
    for folder in ("policy", "requirements"):
        shutil.copytree(ROOT / folder, tmp / folder, ignore=shutil.ignore_patterns("advisories"))
    for folder in ("baseline", "candidate", "data"):
        shutil.copytree(EXAMPLE / folder, tmp / folder)
    shutil.copy(EXAMPLE / "release.toml", tmp)
    git(tmp, "init", "--quiet")
    git(tmp, "add", "release.toml")
    return tmp


def scanning(tmp: Path) -> Path:
    """Make a repository as above that has the environment of the secret scan; skip the test when it is not installed."""
    root = repository(tmp)
    use_environments(root, "secrets")
    return root


def use_environments(root: Path, name: str) -> None:
    """Let *root* use the environment *name* as it is installed for this checkout; skip the test when it is not."""
    try:
        installed = venvs.existing(ROOT, name).path
    except InputMissing as error:
        pytest.skip(str(error))
    (root / ".nox" / "venvs").mkdir(parents=True, exist_ok=True)
    (root / ".nox" / "venvs" / installed.name).symlink_to(installed)


def context_of(root: Path, *targets: Path, day: date = date(2026, 1, 1)) -> Context:
    """Return the context of the release in *root* as it stands now."""
    plan = load_plan(root, None, day)
    return Context(plan=plan, root=root, out=root / "build" / plan.title, targets=targets)


def execute(stage: Stage, context: Context) -> StagePredicate:
    """Run *stage* and return what it stated."""
    return pipeline.execute(stage, context).predicate


def outcome(predicate: StagePredicate, control: str) -> Outcome:
    """Return the outcome of *control*."""
    return next(outcome for outcome in predicate.outcomes if outcome.control == control)


def failed(predicate: StagePredicate) -> set[str]:
    """Return the controls that failed."""
    assert not predicate.error
    return {outcome.control for outcome in predicate.outcomes if outcome.outcome.value == "failed"}
