"""`fetch`: models and data from a hub into the cache beside release.toml, pinned; opens the network."""

import argparse
import sys

from sealrun.command import Command, config_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", help="baseline, candidate or data (default: all that release.toml gives a repository)")
    parser.add_argument("--repository", help="OWNER/NAME, one that policy trusts")
    parser.add_argument("--revision", help="the full 40-hex revision")
    parser.add_argument("--files", help="the files to fetch, separated by commas")
    config_option(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import fetch
    from sealrun.stage import plan_of

    plan = plan_of(options.root.resolve(), options.config)
    if options.role or options.repository or options.revision or options.files:
        named = [name.strip() for name in (options.files or "").split(",") if name.strip()]
        orders = [fetch.order(options.role or "", options.repository or "", options.revision or "", named)]
    else:
        orders = fetch.orders_of(plan)
    changed = fetch.fetch(options.root.resolve(), plan, orders)
    print("\n".join([*map(str, changed), f"fetched and pinned in {plan.file}"]), file=sys.stderr)
    return 0


COMMANDS = (
    Command(
        name="fetch",
        summary="Fetch models and data from a hub into the cache beside release.toml, and pin them; opens the network",
        arguments=_arguments,
        run=_run,
    ),
)
