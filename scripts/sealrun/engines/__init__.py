"""Engines: what can judge a change, behind the stages certify and verify. One module each, chosen by `[certify] engine`.

Rules: an engine answers every control of both stages, and says by what name and version it did and what it did not run; what it
runs is declared for a plan, so that nothing is installed which a release does not use; to gather is to run tools behind the
sandbox, to judge and to look is pure.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sealrun import digest
from sealrun.outcome import Judgement
from sealrun.policy.model import Plan
from sealrun.stage import Context, Needs, Work

_MODULES = {"invarlock-0.17": "invarlock17"}

type Look = Callable[[], tuple[bool | None, str]]
"""Makes one check. Returns whether it holds (None: there is nothing of the kind to check) and what was seen; raises
VerificationFailed when it cannot be made, which is a check that failed."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`certify` leaves records or windows, `certificate/` and the baseline's report; `judge` answers certify's controls.

    `verify` lets the engine's own verifier look, `looks` are the checks behind verify's controls, `reports` our own figures;
    `inputs` and `verify_inputs` are what each reads beyond the release's own files, name to sha256.
    """

    name: str
    needs: Callable[[Plan], Needs]
    verify_needs: Callable[[Plan], Needs]
    inputs: Callable[[Context], Mapping[str, digest.Sha256]]
    verify_inputs: Callable[[Context], Mapping[str, digest.Sha256]]
    certify: Callable[[Context, Work], None]
    judge: Callable[[Context], Judgement]
    verify: Callable[[Context, Work], None]
    looks: Callable[[Context], Mapping[str, Look]]
    reports: Callable[[Context], dict[str, bytes]]


def engine_of(plan: Plan) -> Engine:
    """Return the engine that the release of *plan* asks for."""
    module = importlib.import_module(f"{__name__}.{_MODULES[plan.release.certify.engine]}")
    engine: Engine = module.ENGINE
    return engine
