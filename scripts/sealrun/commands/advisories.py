"""`advisories`: import an advisory snapshot."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("locks", nargs="*", type=Path, help="keep advisories for the packages of these locks too")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="OSV's zip for PyPI, or a folder of records")
    parser.add_argument("--origin", help="where the snapshot comes from (default: its file name)")
    parser.add_argument("--licence", default="unknown", help="the licence of the records")


def _run(options: argparse.Namespace) -> int:
    from sealrun import advisories

    made = advisories.run(
        options.root.resolve(), options.source, origin=options.origin, licence=options.licence, locks=options.locks
    )
    print(f"advisories as of {made.as_of}: {made.records} records, {len(made.rejected)} rejected", file=sys.stderr)
    return 0


COMMANDS = (
    Command(
        name="advisories",
        summary="Import an advisory snapshot into policy/advisories",
        arguments=_arguments,
        run=_run,
    ),
)
