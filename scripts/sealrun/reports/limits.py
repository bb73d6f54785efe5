"""What a profile asks of an evaluation before its result counts: amounts, and guards that ran.

Rules: pure; every least amount holds for each model on its own; a text says how much is missing; a guard counts as evaluated
only when the engine shows what it measured, whatever flag a certificate holds.
"""

from collections.abc import Collection, Mapping, Sequence

from sealrun.policy.model import Profile
from sealrun.reports import invarlock, ladder
from sealrun.reports.records import Records


def amounts(profile: Profile, scored: Mapping[str, Records]) -> tuple[ladder.Rung, ...]:
    """Return the checks of least cases, windows and tokens, and that every case was scored."""
    return tuple(rung for role, records in sorted(scored.items()) for rung in _of(profile, role, records))


def regression(profile: Profile, metric: invarlock.Metric) -> tuple[ladder.Rung, ...]:
    """Return the checks of what the engine found against the limits, whatever it decided."""
    return (
        ladder.at_least("replicates of the interval", metric.replicates, profile.min_replicates),
        ladder.at_most("width of the interval", metric.width, profile.max_interval_width),
        ladder.at_most("upper end of the ratio's interval", metric.upper, profile.max_ratio),
        ladder.at_most("mean difference in nats per byte", metric.delta, profile.max_regression),
    )


def guards(profile: Profile, engine: str, evaluated: Collection[str]) -> tuple[ladder.Rung, ...]:
    """Return a check for each guard that the profile requires of *engine*."""
    wanted: Sequence[str] = profile.required_guards.get(engine, ())
    return tuple(
        ladder.same(f"guard {name} of {engine}", "evaluated" if name in evaluated else "not evaluated", "evaluated")
        for name in wanted
    )


def wanted(profile: Profile, engine: str) -> str:
    """Return what the profile asks of an evaluation, in words."""
    guards = ", ".join(profile.required_guards.get(engine, ()))
    least = f"at least {profile.min_cases} cases, {profile.min_windows} windows and {profile.min_tokens} tokens"
    return f"every case scored, {least}" + (f"; guards evaluated: {guards}" if guards else "")


def _of(profile: Profile, role: str, records: Records) -> tuple[ladder.Rung, ...]:
    errors = [record for record in records.cases if record.error]
    first = f"{len(errors)} without a number ({errors[0].id}: {errors[0].error})" if errors else "every case has a number"
    return (
        ladder.at_least(f"cases of the {role}", len(records.scored), profile.min_cases),
        ladder.at_least(f"windows of the {role}", records.windows, profile.min_windows),
        ladder.at_least(f"tokens of the {role}", records.tokens, profile.min_tokens),
        ladder.same(f"scores of the {role}", first, "every case has a number"),
    )
