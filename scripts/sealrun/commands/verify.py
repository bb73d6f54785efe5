"""`verify BUNDLE`: check an evidence bundle for somebody who did not make it."""

import argparse
from pathlib import Path

from sealrun.command import Command, json_option, trust_of, trust_options


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    trust_options(parser)
    parser.add_argument("--files", type=Path, metavar="DIR", help="the delivered candidate, to be bound byte for byte")
    json_option(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, result
    from sealrun.evidence import verify
    from sealrun.outcome import Verdict

    found = verify.verify(
        options.bundle, trust=trust_of(options), fingerprint=options.fingerprint, delivery=options.files,
        revoked=options.revoked,
    )  # fmt: skip
    console.verified(found)
    console.not_proved(verify.NOT_PROVED)
    code = result.EXIT_PASSED if found.verdict is Verdict.PASSED else result.EXIT_FAILED
    result.emit(
        result.Result(
            command="verify", verdict=found.verdict, exit_code=code, controls=found.controls, findings=found.findings,
            bundle=options.bundle.name, digest=f"sha256:{found.sha256}", withheld=tuple(sorted(found.withheld)),
            undone=found.undone, signers=found.signers, tier=found.tier, shown=found.steps, not_proved=verify.NOT_PROVED,
        ),
        options.json,
    )  # fmt: skip
    return code


COMMANDS = (
    Command(
        name="verify",
        summary="Check an evidence bundle: signature, every byte, every verdict",
        arguments=_arguments,
        run=_run,
    ),
)
