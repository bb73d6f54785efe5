"""`ledger.verify`: check a ledger of promotions, every line and the chain, and say what stands where."""

import argparse

from sealrun.command import Command, ledger_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    ledger_option(parser)
    parser.add_argument("--head", metavar="sha256:HEX", help="the digest of a line noted earlier, which must still be there")


def _verify(options: argparse.Namespace) -> int:
    from sealrun import console, promotion
    from sealrun.errors import InputMissing, VerificationFailed
    from sealrun.evidence import ledger

    _, trusted = promotion.trusted_at(options.root, options.trust)
    path = promotion.ledger_at(options.root, options.ledger)
    if not path.is_file():
        raise InputMissing(f"ledger: {path} does not exist; `invoke promote` makes it, or name another with --ledger")
    lines = ledger.read(path, trusted)
    heads = {f"sha256:{digest}" for digest in (ledger.START, *(line.sha256 for line in lines))}
    if options.head and options.head not in heads:
        raise VerificationFailed(f"{path.name}: no line is {options.head}; lines were dropped, or it is another ledger")
    for (stage, _), line in sorted(ledger.current(lines).items()):
        at = line.promotion
        console.said(f"  {stage}: {at.title}, sha256:{at.bundle}, line {at.number}")
    console.said(f"{path}: {len(lines)} promotions, each signed and in its place\nhead     sha256:{ledger.head(lines)}")
    return 0


COMMANDS = (
    Command(
        name="ledger.verify",
        summary="Check a ledger of promotions: every signature, and the chain",
        arguments=_arguments,
        run=_verify,
    ),
)
