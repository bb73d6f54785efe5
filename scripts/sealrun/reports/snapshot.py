"""The advisory snapshot of a policy: facts for the packages that the locks name, and where they come from.

Rules: `facts.json` holds what `snapshot.json` says, by digest; a package whose records were left out is unknown, not clean;
a record that was rejected stays named, with the packages it was about as far as they could be made out.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from sealrun import digest, files
from sealrun.errors import UsageError
from sealrun.reports.osv import Advisory

FOLDER = Path("policy", "advisories")
FACTS, SNAPSHOT = "facts.json", "snapshot.json"


class Rejected(Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """A record that cannot be evaluated: its name in the source, why, and the packages it names (none when unreadable)."""

    name: str
    reason: str
    packages: tuple[str, ...] = ()


class Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`facts.json`: advisories by id."""

    format: Literal["sealrun/advisory-facts-v1"] = "sealrun/advisory-facts-v1"
    advisories: tuple[Advisory, ...]


class Snapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`snapshot.json`. `as_of` is the day of the newest change, `sha256` that of the source; `left_out` names
    the packages (canonical) that the source has records about which are not among the facts."""

    format: Literal["sealrun/advisory-snapshot-v1"] = "sealrun/advisory-snapshot-v1"
    origin: str
    licence: str
    as_of: date
    sha256: digest.Sha256
    records: Annotated[int, Meta(ge=1)]
    left_out: tuple[str, ...]
    rejected: tuple[Rejected, ...] = ()
    facts: Annotated[int, Meta(ge=0)]
    facts_sha256: digest.Sha256


def load(folder: Path) -> tuple[Snapshot, Facts]:
    """Return the snapshot in *folder*. Raises InputMissing, or UsageError when facts and snapshot do not belong together."""
    snapshot = read(folder / SNAPSHOT)
    data = files.read_bytes(folder / FACTS, "advisories")
    if digest.of_bytes(data) != snapshot.facts_sha256:
        raise UsageError(
            f"{folder / FACTS}: got sha256 {digest.of_bytes(data)}, expected {snapshot.facts_sha256} of {SNAPSHOT}; "
            "import the snapshot again with `nox -s advisories -- --embed --from FILE`"
        )
    return snapshot, files.decode(data, Facts, str(folder / FACTS))


def read(path: Path) -> Snapshot:
    """Return the `snapshot.json` at *path*. Raises InputMissing or UsageError."""
    return files.decode(files.read_bytes(path, "advisories"), Snapshot, str(path))


def of_facts(snapshot: Snapshot, facts: Facts) -> Snapshot:
    """Return *snapshot* as the one that *facts* belong to."""
    return structs.replace(snapshot, facts=len(facts.advisories), facts_sha256=digest.of_bytes(files.readable_json(facts)))


def write(folder: Path, snapshot: Snapshot, facts: Facts) -> None:
    """Write both files; `folder` must exist."""
    files.write_json(folder / FACTS, facts)
    files.write_json(folder / SNAPSHOT, snapshot)


def rejected_about(snapshot: Snapshot, packages: Sequence[str]) -> tuple[Rejected, ...]:
    """Return the rejected records that may be about one of *packages*; an unreadable one may be about any."""
    wanted = set(packages)
    return tuple(record for record in snapshot.rejected if not record.packages or wanted & set(record.packages))
