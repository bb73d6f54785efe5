"""Import advisories: OSV's own layout to the facts that the audit runs on.

Rules: every record is checked; what cannot be evaluated is counted and named as rejected; only packages that the locks name are
kept, and the snapshot names those it leaves out; the same source and locks give the same bytes; nothing local stands in them.
"""

import stat
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path, PurePosixPath

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.reports import osv, snapshot
from sealrun.reports.lockfiles import read_locks
from sealrun.reports.osv import Advisory
from sealrun.reports.snapshot import Facts, Rejected, Snapshot

_MAX_RECORD = 32 * 1024 * 1024  # bytes
_MAX_RECORDS = 1_000_000
_SUFFIX = ".json"


def run(
    root: Path, source: Path, *, origin: str | None = None, licence: str = "unknown", locks: Sequence[Path] = ()
) -> Snapshot:
    """Import *source* into the policy of *root*, for the packages of its locks and of *locks*.

    Raises UsageError or InputMissing; the earlier snapshot then stays.
    """
    found = (*read_locks(root), *(read_locks(root, locks) if locks else ()))
    names = frozenset(pin.name for lock in found for pin in lock.pins if not pin.flaw or pin.version)
    folder = root / snapshot.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return import_snapshot(source, folder, names, origin=origin or source.name, licence=licence)


def import_snapshot(source: Path, folder: Path, names: frozenset[str], *, origin: str, licence: str) -> Snapshot:
    """Write facts and snapshot of *source* (a zip or a folder of JSON records) for the packages *names* to *folder*."""
    kept: dict[str, Advisory] = {}
    rejected: list[Rejected] = []
    named: set[str] = set()
    newest, records = "", 0
    for name, data in _records(source):
        records += 1
        checked = _check(name, data)
        if isinstance(checked, Advisory) and checked.id in kept:
            checked = _rejected(name, f"{checked.id} stands twice", _packages(checked))
        if isinstance(checked, Rejected):
            rejected.append(checked)
            continue
        newest = max(newest, checked.modified)
        named |= _packages(checked)
        kept[checked.id] = osv.condense(checked, names)
    if not newest:
        raise UsageError(f"{source.name}: none of {records} records is a valid OSV record for PyPI; expected OSV's export")
    facts = Facts(advisories=tuple(kept[key] for key in sorted(kept) if kept[key].affected))
    made = Snapshot(
        origin=origin,
        licence=licence,
        as_of=date.fromisoformat(newest[:10]),
        sha256=_digest(source),
        records=records,
        left_out=tuple(sorted(named - names)),
        rejected=tuple(sorted(rejected)),
        facts=len(facts.advisories),
        facts_sha256=digest.of_bytes(files.readable_json(facts)),
    )
    snapshot.write(folder, made, facts)
    return made


def _check(name: str, data: bytes) -> Advisory | Rejected:
    """Return the facts of one record, or why there are none."""
    value: object = None
    try:
        value = files.parse_json(data, name)
        advisory = osv.understand(value, name)
    except UsageError as error:
        return _rejected(name, str(error), osv.packages_named(value))
    if PurePosixPath(name).name != advisory.id + _SUFFIX:
        return _rejected(name, f"holds {advisory.id}, expected the record of its own name", _packages(advisory))
    return advisory


def _rejected(name: str, reason: str, packages: frozenset[str]) -> Rejected:
    return Rejected(name=name, reason=reason.removeprefix(f"{name}: ")[:300], packages=tuple(sorted(packages)))


def _packages(advisory: Advisory) -> frozenset[str]:
    return frozenset(block.package for block in advisory.affected)


def _records(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each record of *source*. Raises InputMissing or UsageError."""
    if source.is_dir():
        for name in files.walk_files(source):
            if name.endswith(_SUFFIX):
                yield name, files.read_bytes(source / name, "advisories", limit=_MAX_RECORD)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.filename)
            if len(members) > _MAX_RECORDS:
                raise UsageError(f"{source.name}: holds {len(members)} members, expected at most {_MAX_RECORDS}")
            for member in members:
                if member.filename.endswith(_SUFFIX):
                    yield member.filename, _member(archive, member)
    except FileNotFoundError as error:
        raise InputMissing(f"advisories: no {source}; name an OSV export (a zip, or a folder of JSON records)") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"{source.name}: cannot be read as a zip ({error}); fetch the export again") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a record; an oversized or special member is no record."""
    files.relative_name(member.filename, "advisories")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or member.file_size > _MAX_RECORD:
        raise UsageError(
            f"advisories: {member.filename} is no regular file of at most {_MAX_RECORD} bytes; fetch the export again"
        )
    return archive.read(member)


def _digest(source: Path) -> digest.Sha256:
    if source.is_dir():
        return digest.of_manifest(digest.describe_files(source, files.walk_files(source)))
    return digest.of_file(source)
