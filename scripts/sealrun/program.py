"""`invoke` with Sealrun's exit codes: wrong use ends with 2. Run as `python -m sealrun.program TASK OPTION...`."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

from invoke import Program
from invoke.exceptions import ParseError

ROOT = Path(__file__).resolve().parents[2]
_WRONG_USE = 2


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


def main() -> None:
    """Run the tasks of the checkout's tasks.py."""
    gc.disable()  # a fifth of the second that an unchanged release takes; long work enables it again
    arguments = sys.argv[1:] or ["--list"]
    rooted = any(argument.split("=")[0] in ("--search-root", "-r") for argument in arguments)
    here = [] if rooted else ["--search-root", str(ROOT)]
    _Program(name="invoke", binary="invoke").run(["invoke", *here, *arguments])


if __name__ == "__main__":
    main()
