"""`reproduce BUNDLE`: make it again from its own sources, and name what differs and which input caused it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sealrun.command import Command, config_option, json_option, trust_of, trust_options

if TYPE_CHECKING:
    from sealrun.reproduce import Reproduced


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    parser.add_argument(
        "--tree", type=Path, metavar="DIR", help="sources to make it from, as they lie there (default: its commit)"
    )
    config_option(parser)
    trust_options(parser)
    json_option(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import reproduce, result
    from sealrun.errors import UsageError
    from sealrun.evidence import verify
    from sealrun.outcome import Finding, OutcomeKind, Verdict, check

    found = verify.verify(
        options.bundle, trust=trust_of(options), fingerprint=options.fingerprint, delivery=None, revoked=options.revoked
    )
    if found.withheld:
        raise UsageError(
            f"{options.bundle.name}: a customer edition, which lacks what would be compared; take the whole bundle"
        )
    made = reproduce.reproduce(
        options.bundle, found, root=options.root.resolve(), tree=options.tree, config=options.config
    )  # fmt: skip
    explained = made.explained
    _say(found.title, made)
    outcome = check(
        "reproduce.identical", made.same,
        seen="; ".join(filter(None, (f"{len(explained.differences)} differences", *explained.causes, made.stopped))),
        expected="every member, the report and every signed payload identical",
        remedy="Read the causes; reproduce from the sources, locks and Python that the bundle names.",
    )  # fmt: skip
    findings = tuple(
        Finding(
            control="reproduce.identical", rule=", ".join(difference.causes) or "none", outcome=OutcomeKind.FAILED,
            message=difference.how, path=difference.member,
        )
        for difference in explained.differences
    )  # fmt: skip
    code = result.EXIT_PASSED if made.same else result.EXIT_FAILED
    result.emit(
        result.Result(
            command="reproduce", verdict=Verdict.PASSED if made.same else Verdict.FAILED, exit_code=code, controls=(outcome,),
            findings=findings, bundle=options.bundle.name, digest=f"sha256:{found.sha256}",
        ),
        options.json,
    )  # fmt: skip
    return code


def _say(title: str, made: "Reproduced") -> None:
    """Say what differs and why, or that nothing does."""
    from sealrun import console

    explained = made.explained
    for cause, change in explained.causes.items():
        console.said(f"cause    {cause}: {change}")
    for difference in explained.differences:
        console.said(f"differs  {difference.member}: {difference.how}")
        console.said(f"         caused by {', '.join(difference.causes) or 'no input that differs: NOT REPRODUCIBLE'}")
    if made.stopped:
        console.said(f"stopped  {made.stopped}")
    if made.same:
        console.said(
            f"{title}: reproduced; {made.members} members and the report are identical, and the bundle's signatures "
            f"hold over the {made.payloads} payloads made again"
        )


COMMANDS = (
    Command(
        name="reproduce",
        summary="Make a bundle again from its commit, and name what differs and why",
        arguments=_arguments,
        run=_run,
    ),
)
