"""`policy.*`: what a release must satisfy, and what it pins."""

import argparse
import sys

from sealrun.command import Command, config_option


def _pin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="show only; end with 1 when a pin differs")
    config_option(parser)


def _pin(options: argparse.Namespace) -> int:
    from sealrun import pin, result
    from sealrun.stage import plan_of

    plan = plan_of(options.root.resolve(), options.config)
    changed = pin.changes(plan) if options.check else pin.repin(plan)
    print("\n".join(map(str, changed)) or "every pin is what lies there", file=sys.stderr)
    return result.EXIT_FAILED if options.check and changed else result.EXIT_PASSED


COMMANDS = (
    Command(
        name="policy.pin",
        summary="Show how the pins of release.toml differ from the files, and write them",
        arguments=_pin_arguments,
        run=_pin,
    ),
)
