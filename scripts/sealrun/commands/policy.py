"""`policy.*`: what a release must satisfy, and what it pins."""

import argparse
import sys
from pathlib import Path

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


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", type=Path, metavar="DIR", help="the repository (default: our own checkout)")


def _fetch(options: argparse.Namespace) -> int:
    from sealrun import advisories

    tree = (options.tree or options.root).resolve()
    fetched = advisories.fetch_policy(tree)
    print(f"fetched: {fetched}" if fetched else "policy/repository.toml names nothing to fetch", file=sys.stderr)
    return 0


COMMANDS = (
    Command(
        name="policy.fetch",
        summary="Fetch the policy that policy/repository.toml names of the organisation's; opens the network",
        arguments=_fetch_arguments,
        run=_fetch,
    ),
    Command(
        name="policy.pin",
        summary="Show how the pins of release.toml differ from the files, and write them",
        arguments=_pin_arguments,
        run=_pin,
    ),
)
