"""`doctor`: what this machine offers, and what production would miss."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command, json_option


def _run(options: argparse.Namespace) -> int:
    from sealrun import doctor, files, result

    found = doctor.doctor(options.root.resolve())
    for check in found.checks:
        mark = "ok     " if check.good else "MISSING" if check.needed else "no     "
        print(
            f"{mark} {check.name}: {check.seen}" + (f"\n          do: {check.remedy}" if check.remedy else ""), file=sys.stderr
        )
    print(f"production: {'ready' if found.production else 'not ready'}", file=sys.stderr)
    if options.json == "-":
        sys.stdout.write(files.readable_json(found).decode())
    elif options.json:
        files.write_bytes(Path(options.json), files.readable_json(found))
    return result.EXIT_PASSED if found.production else result.EXIT_FAILED


COMMANDS = (
    Command(
        name="doctor",
        summary="Say what this machine offers, what production would miss, and what to do",
        arguments=json_option,
        run=_run,
    ),
)
