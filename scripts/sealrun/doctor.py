"""`invoke doctor`: what this machine offers, what is missing for production, and what to do about each.

Rules: everything is found out by trying or reading now; nothing is changed; a remedy stands with each lack. It ends with 1 when
production would be refused, else with 0.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from msgspec import Struct

from sealrun import clock, settings
from sealrun.errors import SealrunError, ToolFailed
from sealrun.reports import index
from sealrun.sandbox import barriers, program

_LEAST_PYTHON, _LEAST_GIB = (3, 12), 4


class Check(Struct, frozen=True, kw_only=True):
    """One thing looked at. `needed` says that production is refused without it; `remedy` is empty where all is well."""

    name: str
    good: bool
    seen: str
    needed: bool = False
    remedy: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """All that was looked at, and whether production would start here."""

    schema: str = "urn:sealrun:doctor:v1"
    production: bool
    checks: tuple[Check, ...]


def doctor(root: Path, *, today: date | None = None, oldest_days: int = 7) -> Diagnosis:
    """Return what this machine offers for releases of the checkout *root*; never raises for what it looks at."""
    checks = (
        *_barriers(), _python(), _git(), _disk(root), _keys(), _advisories(root, today or clock.now().date(), oldest_days),
        _network(), _wheelhouse(), _surroundings(), _accelerator(),
    )  # fmt: skip
    return Diagnosis(production=all(check.good or not check.needed for check in checks), checks=checks)


def _barriers() -> Iterator[Check]:
    refused = {rung.name: barriers.offered(rung.name) for rung in barriers.LADDER if rung.kernel}
    strongest = next((name for name, reason in refused.items() if not reason), None)
    yield Check(
        name="barrier", good=strongest is not None, seen=strongest or "advisory alone", needed=True,
        remedy="" if strongest else barriers.setting(),
    )  # fmt: skip
    for name, reason in refused.items():
        yield Check(name=f"barrier {name}", good=not reason, seen=reason or "works")


def _python() -> Check:
    good = sys.version_info[:2] >= _LEAST_PYTHON
    remedy = "" if good else "Install Python 3.12 or newer, then run `python3 scripts/bootstrap.py doctor`."
    return Check(name="python", good=good, seen=platform.python_version(), needed=True, remedy=remedy)


def _git() -> Check:
    try:
        return Check(name="git", good=True, seen=program("git"), needed=True)
    except ToolFailed as error:
        return Check(name="git", good=False, seen="not found", needed=True, remedy=str(error))


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free / 1024**3
    good = free >= _LEAST_GIB
    remedy = "" if good else f"Make room: environments and evidence take up to {_LEAST_GIB} GiB."
    return Check(name="disk", good=good, seen=f"{free:.1f} GiB free", needed=True, remedy=remedy)


def _keys() -> Check:
    folder = settings.keys_folder()
    if not folder.is_dir():
        return Check(name="keys", good=True, seen="none yet; a research release makes its own on first use")
    private = folder.stat().st_mode & 0o077 == 0
    remedy = "" if private else f"Run `chmod 700 {folder}`: others can read the release key."
    return Check(name="keys", good=private, seen=f"{folder}, {'private' if private else 'open to others'}", needed=True,
                 remedy=remedy)  # fmt: skip


def _advisories(root: Path, today: date, oldest_days: int) -> Check:
    remedy = "Run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`."
    try:
        as_of = index.latest(root).as_of
    except SealrunError as error:
        return Check(name="advisories", good=False, seen=str(error), needed=True, remedy=remedy)
    age = (today - as_of).days
    good = age <= oldest_days
    return Check(
        name="advisories", good=good, seen=f"as of {as_of}, {age} days old", needed=True, remedy="" if good else remedy
    )


def _network() -> Check:
    try:
        opened = settings.network_allowed()
    except SealrunError as error:
        return Check(name="network", good=False, seen="unknown value", needed=True, remedy=str(error))
    seen = "may be opened for installations" if opened else "off"
    return Check(name="network", good=True, seen=seen)


def _wheelhouse() -> Check:
    chosen = settings.variable("SEALRUN_WHEELHOUSE")
    if not chosen:
        return Check(name="wheelhouse", good=True, seen="none; installations use the cache, or the network when opened")
    good = Path(chosen).is_dir()
    return Check(name="wheelhouse", good=good, seen=chosen, remedy="" if good else "Correct or unset SEALRUN_WHEELHOUSE.")


def _surroundings() -> Check:
    facts = settings.host_facts()
    return Check(name="surroundings", good=True, seen=", ".join(f"{name}: {value}" for name, value in facts.items()))


def _accelerator() -> Check:
    found = [name for name in ("nvidia0", "kfd", "accel") if os.access(Path("/dev") / name, os.F_OK)]
    return Check(name="accelerator", good=True, seen=", ".join(found) or "none")
