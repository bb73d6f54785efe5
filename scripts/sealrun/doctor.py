"""`invoke doctor`: what this machine offers, what is missing for production, and what to do about each.

Rules: everything is found out by trying or reading now; nothing is changed; a remedy stands with each lack. It ends with 1 when
production would be refused, else with 0.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from msgspec import Struct

from sealrun import clock, files, settings
from sealrun.errors import SealrunError
from sealrun.evidence import keys, source, trust
from sealrun.policy.model import Gates
from sealrun.reports import index
from sealrun.sandbox import Command, barriers, program, run

_LEAST_PYTHON, _LEAST_GIT, _LEAST_GIB = (3, 12), (2, 30), 4


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


def doctor(root: Path, *, today: date | None = None) -> Diagnosis:
    """Return what this machine offers for releases of the checkout *root*; never raises for what it looks at."""
    checks = (
        *_barriers(), _python(), _git(), _source(root), _disk(root), _keys(), _trust(root),
        _advisories(root, today or clock.now().date()), _network(), _wheelhouse(), _surroundings(), _accelerator(),
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
    remedy = f"Install git {'.'.join(map(str, _LEAST_GIT))} or newer."
    try:
        with files.private_folder() as home:
            asked = Command(
                name="git",
                argv=(program("git"), "--version"),
                cwd=home,
                logs=home,
                environment=settings.judged_environment(home),
            )
            said = run(asked).stdout.read_text("utf-8", "replace").strip()
    except SealrunError as error:
        return Check(name="git", good=False, seen=str(error), needed=True, remedy=remedy)
    found = re.search(r"(\d+)\.(\d+)", said)
    good = found is not None and (int(found[1]), int(found[2])) >= _LEAST_GIT
    return Check(name="git", good=good, seen=said, needed=True, remedy="" if good else remedy)


def _source(root: Path) -> Check:
    try:
        found, changed = source.look(root, root / "build")
    except SealrunError as error:
        return Check(name="source", good=False, seen=str(error), needed=True, remedy="Mend the repository, or clone it again.")
    seen = f"commit {found.commit}, {len(changed)} paths changed" if found.commit else "no commit"
    remedy = "" if found.clean else "Commit what changed: a production release is made from a clean commit."
    return Check(name="source", good=found.clean, seen=seen, needed=True, remedy=remedy)


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free / 1024**3
    good = free >= _LEAST_GIB
    remedy = "" if good else f"Make room: environments and evidence take up to {_LEAST_GIB} GiB."
    return Check(name="disk", good=good, seen=f"{free:.1f} GiB free", needed=True, remedy=remedy)


def _keys() -> Check:
    try:
        folder = settings.keys_folder()
    except SealrunError as error:
        return Check(name="keys", good=False, seen="no folder for them", needed=True, remedy=str(error))
    if not folder.is_dir():
        return Check(name="keys", good=True, seen="none yet; a research release makes its own on first use")
    private = folder.stat().st_mode & 0o077 == 0
    remedy = "" if private else f"Run `chmod 700 {folder}`: others can read the release key."
    return Check(name="keys", good=private, seen=f"{folder}, {'private' if private else 'open to others'}", needed=True,
                 remedy=remedy)  # fmt: skip


def _trust(root: Path) -> Check:
    place = root / "policy" / "trust"
    try:
        public = settings.keys_folder() / "release.pub"
        key = keys.parse_public(files.read_bytes(public, "release key"), str(public))
        day = clock.now().date().isoformat()
        good = key in [
            known.key for known in trust.load(place, None, None).keys if known.roles & trust.SIGNING and known.held(day)
        ]
    except SealrunError as error:
        remedy = f"Make a release key, and put its public half into {place}."
        return Check(name="trusted key", good=False, seen=str(error), needed=True, remedy=remedy)
    seen = f"{key.fingerprint}, {'listed' if good else 'not listed'} in policy/trust"
    remedy = "" if good else f"Copy {public} into {place} and commit it, once somebody answers for the key."
    return Check(name="trusted key", good=good, seen=seen, needed=True, remedy=remedy)


def _advisories(root: Path, today: date) -> Check:
    remedy = "Run `INVARLOCK_ALLOW_NETWORK=1 nox -s advisories`."
    try:
        oldest_days = files.load_toml(root / "policy" / "gates.toml", Gates).audit.max_snapshot_age_days
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
