"""`locks`: compile the locks, to write them or to name what drifted; needs the network."""

import argparse
import sys

from sealrun.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="environments (default: all)")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="compile again and name what would change")
    mode.add_argument("--write", action="store_true", help="compile and replace what changed")
    mode.add_argument("--upgrade", action="store_true", help="like --write, with the newest versions past the cooldown")
    parser.add_argument("--cooldown", type=int, default=7, metavar="DAYS", help="age a release must have (default: 7)")


def _run(options: argparse.Namespace) -> int:
    from sealrun import locks, result

    root = options.root.resolve()
    if options.check:
        drifted = locks.drift(root, options.names)
        for difference in drifted.values():
            print(difference, file=sys.stderr)
        print(f"drifted: {', '.join(drifted) or 'none'}", file=sys.stderr)
        return result.EXIT_FAILED if drifted else result.EXIT_PASSED
    changed = locks.write(root, options.names, upgrade=options.upgrade, cooldown_days=options.cooldown)
    print(f"written: {', '.join(changed) or 'none, all are current'}", file=sys.stderr)
    return 0


COMMANDS = (Command(name="locks", summary="Compile the locks (needs the network)", arguments=_arguments, run=_run),)
