"""`invoke` with Sealrun's exit codes. Run as `python -m sealrun.program TASK OPTION...`.

Rules: a task's options are those of its command, declared once in `commands/`; one of our commands is parsed by its own parser,
which takes several positional arguments and saves the start of invoke, a fifth of the second that an unchanged release takes;
everything else (`--list`, `--help TASK`, tasks that are no command, several tasks at once) is invoke's; wrong use ends with 2.
"""

import argparse
import gc
import inspect
import keyword
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sealrun import commands
from sealrun.__main__ import main as run_command

ROOT = Path(__file__).resolve().parents[2]
_WRONG_USE = 2


def task_of(name: str) -> Callable[..., None]:
    """Return the invoke task of the command *name*, with the options that the command declares. Raises LookupError."""
    from invoke import task

    command = commands.find(name)
    if command is None:
        raise LookupError(f"{name}: no such command in {commands.__path__}")
    options = [action for action in command.parser()._actions if action.help != argparse.SUPPRESS and action.dest != "help"]

    def body(_context: object, **given: object) -> None:
        argv = [word for action in options for word in _words(action, given[_parameter(action)])]
        sys.exit(run_command([name, *argv, f"--root={ROOT}"]))

    body.__name__, body.__doc__ = name.rpartition(".")[2], command.summary + "."
    body.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD), *map(_signature, options)
    ])  # fmt: skip
    made: Callable[..., None] = task(
        body,
        positional=[_parameter(action) for action in options if not action.option_strings and not _many(action)],
        optional=[_parameter(action) for action in options if action.option_strings and action.nargs == "?"],
        iterable=[_parameter(action) for action in options if _many(action)],
        help={_parameter(action): action.help for action in options if action.help},
    )
    return made


def _signature(action: argparse.Action) -> inspect.Parameter:
    required = not action.option_strings and action.nargs is None
    default = inspect.Parameter.empty if required else False if action.nargs == 0 else None
    return inspect.Parameter(_parameter(action), inspect.Parameter.KEYWORD_ONLY, default=default)


def _parameter(action: argparse.Action) -> str:
    """Return the name that an option has as a parameter: its long name, as Python allows it."""
    name = (action.option_strings[-1].lstrip("-") if action.option_strings else action.dest).replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _many(action: argparse.Action) -> bool:
    return action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)


def _words(action: argparse.Action, value: object) -> Sequence[str]:
    """Return the words of a command line that give *action* this *value*."""
    if value in (None, False, []):
        return ()
    if not action.option_strings:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    option = action.option_strings[-1]
    if value is True:
        return [option]
    return [f"{option}={item}" for item in (value if isinstance(value, list) else [value])]


def main() -> None:
    """Run one of our commands, or else the tasks of the checkout's tasks.py."""
    gc.disable()  # another tenth of a second; long work enables it again
    arguments = sys.argv[1:] or ["--list"]
    if commands.find(arguments[0]):
        sys.exit(run_command([*arguments, f"--root={ROOT}"]))
    rooted = any(argument.split("=")[0] in ("--search-root", "-r") for argument in arguments)
    here = [] if rooted else ["--search-root", str(ROOT)]
    _invoke(["invoke", *here, *arguments])


def _invoke(argv: list[str]) -> None:
    from invoke import Program
    from invoke.exceptions import ParseError

    class _Program(Program):
        def parse_core(self, argv: list[str] | None) -> None:
            self._or_wrong_use(lambda: super(_Program, self).parse_core(argv))

        def parse_tasks(self) -> None:
            self._or_wrong_use(super().parse_tasks)

        def _or_wrong_use(self, parse: Callable[[], None]) -> None:
            try:
                parse()
            except ParseError as error:
                print(f"sealrun: {error}; see `invoke --list` and `invoke TASK --help`", file=sys.stderr)
                sys.exit(_WRONG_USE)

    _Program(name="invoke", binary="invoke").run(argv)


if __name__ == "__main__":
    main()
