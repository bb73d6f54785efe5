"""Import what other secret scanners were told to ignore, once: a gitleaks ignore file or a detect-secrets baseline.

Rules: those files name places (path, line), ours names secrets; so an entry becomes a waiver only where our own scan found a
secret at that very place, and a place where it found nothing is said. No waiver is without reason, owner, approver and end.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from msgspec import Struct

from sealrun import files
from sealrun.errors import InputMissing, UsageError
from sealrun.policy.model import Waiver
from sealrun.reports.trufflehog3 import SecretFinding

_FORMATS = "a .gitleaksignore (COMMIT:FILE:RULE:LINE or FILE:RULE:LINE a line) or a detect-secrets baseline (JSON with results)"


class Known(Struct, frozen=True, kw_only=True, order=True):
    """A place that another scanner was told to ignore; `commit` where it names one."""

    path: str
    line: int
    commit: str = ""


def read(where: Path) -> tuple[Known, ...]:
    """Return the places of *where*. Raises InputMissing, or UsageError for another format."""
    data = files.read_bytes(where, "ignore file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: got bytes that are not UTF-8, expected {_FORMATS}") from error
    found = tuple(sorted(set(_baseline(text, where) if text.lstrip().startswith("{") else _gitleaks(text, where))))
    if not found:
        raise InputMissing(f"{where}: names nothing, expected {_FORMATS}")
    return found


def _gitleaks(text: str, where: Path) -> Iterator[Known]:
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        head, _, last = entry.rpartition(":")
        place, _, rule = head.rpartition(":")
        commit, _, path = place.rpartition(":")
        if not last.isdigit() or not rule or not path:
            raise UsageError(f"{where}:{number}: got {entry[:100]!r}, expected {_FORMATS}")
        yield Known(path=path, line=int(last), commit=commit)


def _baseline(text: str, where: Path) -> Iterator[Known]:
    try:
        results: Any = json.loads(text)["results"]
        for path, entries in results.items():
            for entry in entries:
                yield Known(path=str(path).replace("\\", "/"), line=int(entry["line_number"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: got JSON without results by file, expected {_FORMATS}") from error


def match(
    known: Sequence[Known], found: Sequence[SecretFinding], *,
    reason: str, owner: str, approver: str, granted: date, expires: date,
) -> tuple[tuple[Waiver, ...], tuple[Known, ...]]:  # fmt: skip
    """Return the waivers for what was *found* at a *known* place, and the places where nothing was."""
    at: dict[tuple[str, int | None], list[SecretFinding]] = {}
    for entry in found:
        at.setdefault((entry.path, entry.line), []).append(entry)
    secrets = {
        (entry.rule, entry.fingerprint)
        for place in known
        for entry in at.get((place.path, place.line), ())
        if not place.commit or entry.where == "tree" or entry.commit == place.commit
    }
    waivers = tuple(
        Waiver(
            control="secrets.clean", rule=rule, target=fingerprint, reason=reason, owner=owner, approver=approver,
            granted=granted, expires=expires, status="",
        )
        for rule, fingerprint in sorted(secrets)
    )  # fmt: skip
    return waivers, tuple(place for place in known if (place.path, place.line) not in at)


def written(waivers: Sequence[Waiver]) -> str:
    """Return *waivers* as they stand in policy/waivers.toml."""
    names = ("control", "rule", "target", "reason", "owner", "approver")
    return "\n".join(
        "[[waiver]]\n"
        + "".join(f"{name} = {json.dumps(getattr(waiver, name))}\n" for name in names)
        + f"granted = {waiver.granted.isoformat()}\nexpires = {waiver.expires.isoformat()}\n"
        for waiver in waivers
    )
