"""The commands, found by looking: `release` stands in `COMMANDS` of `commands/release.py`, `keys.revoke` in `commands/keys.py`.

Only the module of the command that is called is imported, so these keep their heavy imports inside the functions that run.
"""

import importlib
import pkgutil

from sealrun.command import Command


def find(name: str) -> Command | None:
    """Return the command *name*, or None."""
    module = name.partition(".")[0]
    return next((command for command in _of(module) if command.name == name), None) if module in _modules() else None


def names() -> tuple[str, ...]:
    """Return the names of all commands, sorted."""
    return tuple(sorted(command.name for module in _modules() for command in _of(module)))


def _modules() -> set[str]:
    return {info.name for info in pkgutil.iter_modules(__path__)}


def _of(module: str) -> tuple[Command, ...]:
    found: tuple[Command, ...] = importlib.import_module(f"{__name__}.{module}").COMMANDS
    return found
