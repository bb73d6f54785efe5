"""Engines: what can judge a change, behind the stages certify and verify. One module each, chosen by `[certify] engine`.

Rules: an engine answers every control of both stages, and says by what name and version it did and what it did not run; what it
runs is declared for a plan, so that nothing is installed which a release does not use; to gather is to run tools behind the
sandbox, to judge and to look is pure.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sealrun import digest, scoring, venvs
from sealrun.errors import VerificationFailed
from sealrun.outcome import Judgement
from sealrun.policy.model import Plan
from sealrun.reports.ladder import Rung
from sealrun.stage import Context, Needs, Work

_MODULES = {"invarlock-0.17": "invarlock17", "invarlock-0.3": "invarlock03", "imported": "imported"}


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What a control of verify rests on: *look* makes the checks, *summary* says what they show when all of them hold.

    Without a *look* there is nothing of the kind to check, and *summary* says why. A *look* that raises VerificationFailed or
    InputMissing is a check that failed.
    """

    summary: str
    look: Callable[[], Iterable[Rung]] | None


def _no_pairs(_: Context) -> Mapping[str, tuple[float, float]]:
    raise VerificationFailed("this engine leaves no loss of each case")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`certify` leaves records or windows, `certificate/` and the baseline's report; `judge` answers certify's controls.

    `environments` are the engine's own, whatever the plan; runtimes come on top of them.
    `verify` lets the engine's own verifier look, `checks` are the checks behind verify's controls, `reports` what judging
    derives, `pairs` each case's two losses, where the engine has such; `inputs` and `verify_inputs` are what each reads
    beyond the release's own files, name to sha256; `decision` is the file of certify's evidence that says what was found;
    `split` gathers one shard of the cases, where they are scored one by one.
    """

    name: str
    decision: str
    environments: tuple[venvs.Environment, ...]
    needs: Callable[[Plan], Needs]
    verify_needs: Callable[[Plan], Needs]
    inputs: Callable[[Context], Mapping[str, digest.Sha256]]
    verify_inputs: Callable[[Context], Mapping[str, digest.Sha256]]
    certify: Callable[[Context, Work], None]
    judge: Callable[[Context], Judgement]
    verify: Callable[[Context, Work], None]
    checks: Callable[[Context], Mapping[str, Checks]]
    reports: Callable[[Context], dict[str, bytes]] = lambda _: {}
    pairs: Callable[[Context], Mapping[str, tuple[float, float]]] = _no_pairs
    split: Callable[[Context, Work], None] | None = None


def engine_of(plan: Plan) -> Engine:
    """Return the engine that the release of *plan* asks for."""
    return _engine(plan.release.certify.engine)


def unused(plan: Plan) -> frozenset[str]:
    """Return the environments of engines and runtimes of which the release of *plan* installs nothing and runs nothing."""
    engine = engine_of(plan)
    used = (*engine.needs(plan).environments, *engine.verify_needs(plan).environments)
    every = (*scoring.environments(), *(environment for name in _MODULES for environment in _engine(name).environments))
    return frozenset(environment.name for environment in every if environment not in used)


def _engine(name: str) -> Engine:
    engine: Engine = importlib.import_module(f"{__name__}.{_MODULES[name]}").ENGINE
    return engine
