"""Gather what `invoke explain` shows, from the evidence of a release that was certified.

Rules: the statements decide what is evidence, on whatever day they were made; a file that is not what they say stops here;
figures that cannot be reached are no reason to say nothing, since the outcomes still say why; a text is shown only from the
data that was pinned.
"""

from dataclasses import replace
from datetime import date

import msgspec

from sealrun import digest, scoring
from sealrun.engines import engine_of
from sealrun.errors import InputMissing, SealrunError, VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.reports import explain
from sealrun.stage import Context


def of(context: Context, count: int) -> explain.Explanation:
    """Return the explanation with the *count* cases that moved most. Raises InputMissing or VerificationFailed."""
    context = _on_its_day(context)
    outcomes = list(context.upstream("certify").predicate.outcomes)
    if context.statement_path("verify").is_file():
        outcomes += context.upstream("verify").predicate.outcomes
    try:
        pairs = engine_of(context.plan).pairs(context)
        return explain.explain(context.plan, outcomes, pairs, _texts(context), count)
    except (InputMissing, VerificationFailed) as problem:
        return explain.without_figures(context.plan, outcomes, str(problem))


def _on_its_day(context: Context) -> Context:
    """Return *context* as of the day that certify was judged for."""
    path = context.statement_path("certify")
    if not path.is_file():
        raise InputMissing(f"explain: no statement at {path}; run `invoke release` or `nox -s certify` first")
    judged_at = date.fromisoformat(statements.load(path).predicate.judged_at)
    return replace(context, plan=msgspec.structs.replace(context.plan, judged_at=judged_at))


def _texts(context: Context) -> dict[str, str]:
    """Return the texts by case when the data is at hand and the one that was pinned, else none."""
    try:
        if digest.of_file(context.data()) != context.plan.release.data.sha256:
            return {}
        return {case.id: case.text for case in scoring.cases_of(context)}
    except SealrunError:
        return {}
