"""`promote BUNDLE --to STAGE`: verify, judge on the real day, and write one signed line into the ledger."""

import argparse
from pathlib import Path

from sealrun.command import Command, json_option, ledger_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    parser.add_argument("--to", dest="stage", required=True, metavar="STAGE", help="a stage of policy/promotion.toml")
    ledger_option(parser)
    parser.add_argument("--vsa", type=Path, metavar="FILE", help="also write the line, which is a signed VSA, to FILE")
    json_option(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import clock, console, files, promotion, result
    from sealrun.evidence import signers, verify
    from sealrun.outcome import Verdict

    root = options.root.resolve()
    promotion.load_policy(root, options.stage)
    trust, trusted = promotion.trusted_at(root, options.trust)
    path = promotion.ledger_at(root, options.ledger)
    found = verify.verify(options.bundle, trust=trust, fingerprint=None, delivery=None)
    made = promotion.promote(
        found, promotion.read_evidence(options.bundle, found), root=root, stage=options.stage, path=path,
        trusted=trusted, now=clock.now(), by=signers.release(),
    )  # fmt: skip
    console.failures(made.outcomes)
    if made.line is None:
        console.said(f"{found.title}: not promoted to {options.stage}")
    else:
        at = made.line.promotion
        console.said(
            f"{found.title}: {'promoted' if made.added else 'already promoted'} to {at.stage}\n"
            f"ledger   {path}, line {at.number}\nhead     sha256:{made.line.sha256}"
        )
        if options.vsa:
            files.write_bytes(options.vsa, made.line.data)
    code = result.EXIT_FAILED if made.line is None else result.EXIT_PASSED
    result.emit(
        result.Result(
            command="promote", verdict=Verdict.PASSED if made.line else Verdict.FAILED, exit_code=code, controls=made.outcomes,
            bundle=options.bundle.name, digest=f"sha256:{found.sha256}",
        ),
        options.json,
    )  # fmt: skip
    return code


COMMANDS = (
    Command(
        name="promote",
        summary="Promote a bundle to a stage: verified, judged on the day, one line in the ledger",
        arguments=_arguments,
        run=_run,
    ),
)
