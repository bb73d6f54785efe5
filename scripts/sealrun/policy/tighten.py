"""Say where one set of gates is looser than another.

Rules: every field has a direction; a field that has none here may not change at all, so a new one is strict until somebody
says which way is tighter; an entry that only one side has counts.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from sealrun import files
from sealrun.outcome import Severity
from sealrun.policy.model import Gates

type _Holds = Callable[[Any, Any], bool]
_LEVELS = [level.value for level in Severity]  # the gravest first


def _at_least(central: Any, local: Any) -> bool:
    return bool(local >= central)


def _at_most(central: Any, local: Any) -> bool:
    return bool(local <= central)


def _no_more(central: Any, local: Any) -> bool:
    return set(local) <= set(central)


def _no_less(central: Any, local: Any) -> bool:
    return set(local) >= set(central)


def _milder(central: Any, local: Any) -> bool:
    return _LEVELS.index(local) >= _LEVELS.index(central)


def _graver(central: Any, local: Any) -> bool:
    return _LEVELS.index(local) <= _LEVELS.index(central)


# Which change of a gate is a tightening, by the name of the gate.
_TIGHTER: Mapping[str, _Holds] = {
    "audit.fail_on": _milder,
    "audit.fail_on.*": _milder,
    "audit.environment.*": _milder,
    "audit.unknown_is": _graver,
    "audit.max_snapshot_age_days": _at_most,
    "vex.trusted": _no_more,
    "waivers.max_days": _at_most,
    "waivers.warn_days": _at_least,
    "profile.*.min_*": _at_least,
    "profile.*.max_*": _at_most,
    "profile.*.required_guards.*": _no_less,
    "profile.*.witness_cases": _at_least,
    "profile.*.*_tolerance": _at_most,
    "model.formats": _no_more,
    "model.onnx_domains": _no_more,
    "model.trusted_repositories": _no_more,
    "secrets.pragmas": _at_most,
    "limits.*": _at_most,
}


def loosenings(central: Gates, local: Gates) -> tuple[str, ...]:
    """Return each gate of *local* that is looser than that of *central*: its name, what is set and what is allowed."""
    ours, theirs = _flat(central), _flat(local)
    return tuple(
        f"{name}: got {_said(theirs, name)}, expected no looser than {_said(ours, name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if not _is_tight(name, ours, theirs)
    )


def _is_tight(name: str, central: Mapping[str, Any], local: Mapping[str, Any]) -> bool:
    if name.startswith("audit.environment.") and name not in central:
        return _milder(central["audit.fail_on"], local[name])  # what held for this environment until it got its own
    if name.startswith("limits.stage.") and name not in central:
        return _at_most(central["limits.default"], local[name])
    if name not in central or name not in local:
        return name in local and (".required_guards." in name or not name.startswith(("secrets.excluded", "profile.")))
    if central[name] == local[name]:
        return True
    holds = next((holds for pattern, holds in _TIGHTER.items() if fnmatchcase(name, pattern)), None)
    return holds is not None and holds(central[name], local[name])


def _said(gates: Mapping[str, Any], name: str) -> str:
    return repr(gates[name]) if name in gates else "nothing"


def _flat(gates: Gates) -> dict[str, Any]:
    """Return the gates by dotted name."""
    return dict(_leaves("", files.parse_json(files.readable_json(gates), "gates")))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{name}.{key}" if name else key, inner)
