"""`disclose BUNDLE`: the customer edition, without what the bundle's own policy marks as confidential."""

import argparse
from pathlib import Path

from sealrun.command import Command, trust_of, trust_options


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the customer edition")
    trust_options(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, files, result
    from sealrun.evidence import disclosure, verify
    from sealrun.outcome import Verdict

    out = files.output_folder(options.out)
    trust = trust_of(options)
    verify.verify(options.bundle, trust=trust, fingerprint=options.fingerprint, delivery=None, revoked=options.revoked)
    out.mkdir(exist_ok=True)
    made, _ = disclosure.disclose(options.bundle, out)
    found = verify.verify(made, trust=trust, fingerprint=options.fingerprint, delivery=None)
    console.verified(found)
    console.said(f"written  {made}")
    return result.EXIT_PASSED if found.verdict is Verdict.PASSED else result.EXIT_FAILED


COMMANDS = (
    Command(
        name="disclose",
        summary="Write the customer edition of a bundle: what policy marks is withheld, the rest verifies",
        arguments=_arguments,
        run=_run,
    ),
)
