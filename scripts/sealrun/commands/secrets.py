"""`secrets.*`: what the secret scan does besides its stage."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command, config_option, json_option


def _tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", type=Path, metavar="DIR", help="the repository (default: our own checkout)")
    config_option(parser)


def _staged_arguments(parser: argparse.ArgumentParser) -> None:
    _tree(parser)
    json_option(parser)


def _staged(options: argparse.Namespace) -> int:
    from sealrun import result, staged
    from sealrun.outcome import OutcomeKind, Verdict
    from sealrun.stage import context_of

    context = context_of(options.root, options.config, tree=options.tree)
    found, skipped = staged.look(context.root)
    for name, why in skipped.items():
        print(f"{name}: {why}", file=sys.stderr)
    if not found:
        print("nothing is staged", file=sys.stderr)
        result.emit(result.Result(command="secrets.staged", verdict=Verdict.PASSED, exit_code=0), options.json)
        return result.EXIT_PASSED
    outcome, judged = staged.scan(context, found)
    for finding in judged.failed:
        print(f"{finding.rule}: {finding.message}", file=sys.stderr)
    bad = outcome.outcome is OutcomeKind.FAILED
    print(f"secrets.staged: {outcome.seen}\n  do: {outcome.remedy}" if bad else f"{outcome.seen}", file=sys.stderr)
    code = result.EXIT_FAILED if bad else result.EXIT_PASSED
    result.emit(
        result.Result(
            command="secrets.staged", verdict=Verdict.FAILED if bad else Verdict.PASSED, exit_code=code, controls=(outcome,),
            findings=judged.findings,
        ),
        options.json,
    )  # fmt: skip
    return code


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a .gitleaksignore or a detect-secrets baseline")
    for name, what in (("owner", "who answers for them"), ("approver", "who agreed"), ("reason", "why they are no danger")):
        parser.add_argument(f"--{name}", required=True, help=what)
    parser.add_argument("--days", type=int, default=30, help="how long the waivers hold (default: 30)")
    parser.add_argument("--out", type=Path, help="output folder of the scan (default: build in the repository)")
    _tree(parser)


def _import(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from sealrun import known_secrets
    from sealrun.errors import InputMissing
    from sealrun.reports.trufflehog3 import SCAN, SecretScan
    from sealrun.stage import context_of, read_report

    context = context_of(options.root, options.config, options.out, tree=options.tree)
    report = context.evidence("secrets") / SCAN
    if not report.is_file():
        raise InputMissing(f"secrets.import: no scan at {report}; run `nox -s secrets` first, then import once")
    known = known_secrets.read(options.file)
    granted = context.plan.judged_at
    waivers, unmatched = known_secrets.match(
        known, read_report(report, SecretScan).findings, reason=options.reason, owner=options.owner, approver=options.approver,
        granted=granted, expires=granted + timedelta(days=options.days),
    )  # fmt: skip
    for place in unmatched:
        print(f"{place.path}:{place.line}: nothing was found there, so nothing is excused", file=sys.stderr)
    print(f"{len(known)} places, {len(waivers)} waivers; append them to policy/waivers.toml", file=sys.stderr)
    sys.stdout.write(known_secrets.written(waivers))
    return 0


COMMANDS = (
    Command(
        name="secrets.import",
        summary="Turn a gitleaks ignore file or a detect-secrets baseline into waivers, once",
        arguments=_import_arguments,
        run=_import,
    ),
    Command(
        name="secrets.staged",
        summary="Scan what is staged for secrets, as a hook does before each commit",
        arguments=_staged_arguments,
        run=_staged,
    ),
)
