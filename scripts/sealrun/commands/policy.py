"""`policy.*`: what a release must satisfy, and what it pins."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sealrun.command import Command, config_option

if TYPE_CHECKING:
    from sealrun import exceptions


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


def _words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="why it is accepted")
    parser.add_argument("--owner", default="", help="who mends it")
    parser.add_argument("--approver", default="", help="who accepts it")
    parser.add_argument("--link", default="", help="where it is discussed")
    parser.add_argument("--out", type=Path, help="where the stages left their statements (default: build)")
    config_option(parser)


def _said(options: argparse.Namespace) -> "exceptions.Words":
    from sealrun import exceptions

    return exceptions.Words(reason=options.reason, owner=options.owner, approver=options.approver, link=options.link)


def _waive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", help="the advisory, detector or format of the finding (default: every open one)")
    parser.add_argument("--days", type=int, help="how long it shall last (default: as long as policy allows)")
    _words(parser)


def _waive(options: argparse.Namespace) -> int:
    from sealrun import exceptions
    from sealrun.errors import UsageError
    from sealrun.stage import plan_of

    root = options.root.resolve()
    plan, found = plan_of(root, options.config), exceptions.open_findings(options.out or root / "build")
    chosen = [finding for finding in exceptions.worst_first(found) if options.rule in (None, finding.rule)]
    if not chosen:
        named = ", ".join(sorted({finding.rule for finding in found})) or "none"
        raise UsageError(f"policy.waive: nothing open by that rule; open are: {named}")
    print(exceptions.propose(chosen, plan, _said(options), days=options.days))
    print("fill what is empty, append it to policy/waivers.toml, and run the stage again", file=sys.stderr)
    return 0


def _baseline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--until", required=True, metavar="YYYY-MM-DD", help="the day on which it ends")
    _words(parser)


def _baseline(options: argparse.Namespace) -> int:
    from datetime import date

    from sealrun import exceptions
    from sealrun.errors import UsageError
    from sealrun.stage import plan_of

    try:
        until = date.fromisoformat(options.until)
    except ValueError as error:
        raise UsageError(f"--until: got {options.until!r}, expected a date, YYYY-MM-DD") from error
    root = options.root.resolve()
    found = exceptions.open_findings(options.out or root / "build")
    written = exceptions.record(root, found, plan_of(root, options.config), _said(options), until)
    print(f"written: {written}, {len(found)} findings until {until}; a new one fails", file=sys.stderr)
    return 0


def _lapsing(options: argparse.Namespace) -> int:
    from sealrun import exceptions, result
    from sealrun.policy.waivers import State
    from sealrun.stage import plan_of

    rows = list(exceptions.lapsing(plan_of(options.root.resolve(), options.config)))
    for waiver, state, days in rows:
        place = " ".join(filter(None, (waiver.target, waiver.version, waiver.environment)))
        print(f"{waiver.expires}  {state:<8}  {days:>4} days  {waiver.control}  {waiver.rule} on {place}  {waiver.owner}")
    print(f"{len(rows)} exceptions", file=sys.stderr)
    return result.EXIT_FAILED if any(state is State.EXPIRED for _, state, _ in rows) else result.EXIT_PASSED


def _allowlist_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when the page is another")
    config_option(parser)


def _allowlist(options: argparse.Namespace) -> int:
    from sealrun import exceptions, files, result
    from sealrun.stage import plan_of

    root = options.root.resolve()
    text, path = exceptions.allowlist(plan_of(root, options.config)).encode(), root / exceptions.ALLOWLIST
    if options.check:
        current = path.is_file() and files.read_bytes(path, "allowlist") == text
        print(f"{path}: {'current' if current else 'not what the waivers say; run `invoke policy.allowlist`'}", file=sys.stderr)
        return result.EXIT_PASSED if current else result.EXIT_FAILED
    files.write_bytes(path, text)
    print(f"written: {path}", file=sys.stderr)
    return 0


COMMANDS = (
    Command(
        name="policy.allowlist",
        summary="Write docs/pip-audit-allowlist.md from the waivers",
        arguments=_allowlist_arguments,
        run=_allowlist,
    ),
    Command(
        name="policy.baseline",
        summary="Record the findings that are open now under one owner and one end; new ones fail",
        arguments=_baseline_arguments,
        run=_baseline,
    ),
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
    Command(
        name="policy.lapsing",
        summary="List every exception and when it lapses; ends with 1 when one has",
        arguments=config_option,
        run=_lapsing,
    ),
    Command(
        name="policy.waive",
        summary="Propose a waiver for each open finding, on standard output",
        arguments=_waive_arguments,
        run=_waive,
    ),
)
