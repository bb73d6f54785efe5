"""Gather what `invoke explain` shows, from the evidence of a release that was certified.

Rules: the statements decide what is evidence, on whatever day they were made; a file that is not what they say stops here;
figures that cannot be reached are no reason to say nothing, since the outcomes still say why.
"""

from dataclasses import replace
from datetime import date

import msgspec

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.reports import explain
from sealrun.reports.records import Case, Records, parse_cases, parse_records
from sealrun.stage import Context

_ROLES = ("baseline", "candidate")


def of(context: Context, count: int) -> explain.Explanation:
    """Return the explanation with the *count* cases that moved most. Raises InputMissing or VerificationFailed."""
    context = _on_its_day(context)
    outcomes = list(context.upstream("certify").predicate.outcomes)
    if context.statement_path("verify").is_file():
        outcomes += context.upstream("verify").predicate.outcomes
    try:
        return explain.explain(context.plan, outcomes, _scored(context), _cases(context), count)
    except (InputMissing, VerificationFailed) as problem:
        return explain.without_figures(context.plan, outcomes, str(problem))


def _on_its_day(context: Context) -> Context:
    """Return *context* as of the day that certify was judged for."""
    path = context.statement_path("certify")
    if not path.is_file():
        raise InputMissing(f"explain: no statement at {path}; run `invoke release` or `nox -s certify` first")
    judged_at = date.fromisoformat(statements.load(path).predicate.judged_at)
    return replace(context, plan=msgspec.structs.replace(context.plan, judged_at=judged_at))


def _scored(context: Context) -> dict[str, Records]:
    folder = context.evidence("certify") / "records"
    return {
        role: parse_records(files.read_bytes(folder / f"{role}.jsonl", "records"), f"{role}.jsonl", VerificationFailed)
        for role in _ROLES
    }


def _cases(context: Context) -> tuple[Case, ...]:
    """Return the texts when the data is at hand and the one that was pinned, else none."""
    data = context.plan.release.data
    try:
        path = context.data()
        if digest.of_file(path) != data.sha256:
            return ()
        return parse_cases(path.read_bytes(), data.text_field, data.path)
    except SealrunError:
        return ()
