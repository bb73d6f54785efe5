"""The object behind `--json`: one published, versioned shape for every command that ends in a verdict.

Rules: standard output carries this object and nothing else; the exit code in it is the one the process ends with.
"""

import sys
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sealrun import files
from sealrun.errors import SealrunError
from sealrun.outcome import Finding, Outcome, Verdict

EXIT_PASSED, EXIT_FAILED = 0, 1


class Result(Struct, frozen=True, kw_only=True):
    """What a command found out. `exit_code`: 0 passed, 1 a gate said no, 2 wrong use, 3 input missing, 4 tool failed, 5
    verification failed. `signers` and `tier` tell who signed a bundle and how much that stands for, `shown` what was checked,
    `not_proved` what that leaves open; `withheld` are members that a customer edition leaves out, `undone` the checks not
    made for that."""

    schema: Literal["urn:sealrun:result:v1"] = "urn:sealrun:result:v1"
    command: str
    verdict: Verdict
    exit_code: int
    enforced: bool = True
    controls: tuple[Outcome, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: str = ""
    bundle: str = ""
    digest: str = ""
    signers: tuple[str, ...] = ()
    tier: str = ""
    shown: tuple[str, ...] = ()
    not_proved: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


def failure(command: str, error: SealrunError) -> Result:
    """Return the result of a command that ended in *error*."""
    return Result(command=command, verdict=Verdict.ERROR, exit_code=error.exit_code, error=str(error))


def emit(result: Result, target: str | None) -> None:
    """Write *result* to the file *target*, to standard output for `-`, nowhere for None."""
    if target == "-":
        sys.stdout.buffer.write(files.readable_json(result))
        sys.stdout.flush()
    elif target:
        files.write_bytes(Path(target), files.readable_json(result))
