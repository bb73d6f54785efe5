"""`explain`: why the gate said what it said, on one page; or where the time went."""

import argparse
from pathlib import Path

from sealrun.command import Command, config_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    parser.add_argument("--out", type=Path, help="output folder of the release (default: build in the checkout)")
    parser.add_argument("--time", action="store_true", help="say where the time of the last run went instead")
    parser.add_argument("--cases", type=int, default=10, help="how many cases to show")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="where to write (default: NAME-VERSION.explain.html beside it)"
    )


def _run(options: argparse.Namespace) -> int:
    import sys

    from sealrun import console, explanation, files
    from sealrun.errors import UsageError
    from sealrun.reports import explain, timing
    from sealrun.stage import context_of

    if options.cases < 1:
        raise UsageError(f"--cases: got {options.cases}, expected a number from 1")
    context = context_of(options.root, options.config, options.out)
    if options.time:
        console.timed(timing.load(context.out / "run.json"))
        return 0
    found = explanation.of(context, options.cases)
    page = options.page or context.out.with_name(f"{context.out.name}.explain.html")
    files.write_bytes(page, explain.render(found))
    console.explained(found)
    print(f"written: {page}", file=sys.stderr)
    return 0


COMMANDS = (Command(name="explain", summary="Say why the gate said what it said", arguments=_arguments, run=_run),)
