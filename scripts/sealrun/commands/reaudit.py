"""`reaudit BUNDLE`: an old bundle against today's advisories."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command, json_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="the NAME.evidence.tar")
    parser.add_argument(
        "--advisories",
        type=Path,
        metavar="FILE",
        help="an OSV export or folder of records (default: this checkout's advisories)",
    )
    parser.add_argument("--trust", type=Path, help="public key file or folder of them; with it the bundle is verified first")
    parser.add_argument("--fingerprint", help="the release key's fingerprint, sha256:...; with it the bundle is verified first")
    json_option(parser)


def _run(options: argparse.Namespace) -> int:
    from sealrun import clock, console, reaudit, result
    from sealrun.evidence import verify
    from sealrun.outcome import Verdict

    if options.trust or options.fingerprint:
        verify.verify(options.bundle, trust=options.trust, fingerprint=options.fingerprint, delivery=None)
    else:
        print("reaudit: signatures not checked; name --trust or --fingerprint for that", file=sys.stderr)
    found = reaudit.reaudit(options.bundle, options.root.resolve(), options.advisories, clock.now().date())
    console.reaudited(found)
    code = result.EXIT_PASSED if found.verdict is Verdict.PASSED else result.EXIT_FAILED
    result.emit(
        result.Result(
            command="reaudit", verdict=found.verdict, exit_code=code, controls=found.outcomes, findings=found.findings,
            bundle=options.bundle.name, digest=f"sha256:{found.sha256}",
        ),
        options.json,
    )  # fmt: skip
    return code


COMMANDS = (
    Command(
        name="reaudit",
        summary="Audit an old bundle against today's advisories: what became known since",
        arguments=_arguments,
        run=_run,
    ),
)
