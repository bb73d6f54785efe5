"""The last rung: Python's own audit hook, which holds an honest tool to its word. Refused in production.

Rules: it works in tools that are Python; a program that is not reports nothing, and is refused because of that.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from sealrun.sandbox.command import Command

_GUARD = Path(__file__).resolve().parents[1] / "inside" / "guard"


def argv(command: Command) -> tuple[str, ...]:
    """Return the command's argv with an isolated interpreter made to import the guard, and nothing else of PYTHONPATH's."""
    return tuple(word for each in command.argv for word in (("-P", "-s") if each == "-I" else (each,)))


def environment(command: Command, report: int) -> Mapping[str, str]:
    """Return the command's environment with the guard and what it is to allow."""
    plan = {"writable": [str(folder) for folder in command.writable], "loopback": command.loopback}
    guarded = {"PYTHONPATH": str(_GUARD), "SEALRUN_GUARD": json.dumps(plan), "SEALRUN_REPORT": str(report)}
    return {**command.environment, **guarded}
