"""Import advisories: OSV records to the facts that the audit runs on.

Rules: every record is checked; what cannot be evaluated is counted and named as rejected; a source without one good record
leaves what was there. `refresh` makes the local index, which holds every package and needs no commit; `embed` writes the
default that is committed with a policy: the packages that its locks name, and the names of those it leaves out. The same
records give the same facts.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from sealrun import digest, files
from sealrun.advisories import download, sources
from sealrun.errors import UsageError
from sealrun.policy.repository import load_repository
from sealrun.reports import index, osv, snapshot
from sealrun.reports.lockfiles import read_locks
from sealrun.reports.osv import Advisory
from sealrun.reports.snapshot import Facts, Rejected, Snapshot

_DOWNLOADED = "all.zip"
_MAX_POLICY = 1024 * 1024


def refresh(
    root: Path, source: str = download.ORIGIN, *, sha256: str = "", origin: str = "", licence: str = "unknown"
) -> Snapshot:
    """Make the local index of *root* from *source*, a file, folder or https address; *sha256* must be its digest, if given.

    Raises UsageError, InputMissing or ToolFailed; the earlier index then stays.
    """
    folder = root / index.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with files.exclusive(folder / ".lock"):
        path = Path(source)
        if download.is_url(source):
            path = folder / _DOWNLOADED
            download.download(source, path)
        return _index(path, root, sha256=sha256, origin=origin or (source if download.is_url(source) else path.name),
                      licence=licence)  # fmt: skip


def fetch_policy(root: Path) -> Path | None:
    """Fetch the gates that `policy/repository.toml` of *root* names by address; return where they lie, None when it names none.

    Raises UsageError (another digest), InputMissing (the network is not opted in) or ToolFailed.
    """
    named = load_repository(root).gates
    if named is None or not download.is_url(named.source):
        return None
    target = named.at(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving = target.with_name(f"{target.name}.arriving")
    download.download(named.source, arriving, limit=_MAX_POLICY)
    found = digest.of_file(arriving)
    if found != named.sha256:
        arriving.unlink()
        raise UsageError(f"policy/repository.toml: {named.source}: got sha256 {found}, expected {named.sha256}; correct either")
    arriving.replace(target)
    return target


def _index(source: Path, root: Path, *, sha256: str, origin: str, licence: str) -> Snapshot:
    found = _digest(source, sha256)
    checked = _Checked(source)
    with index.building(root / index.FOLDER) as take:
        for advisory in checked:
            take(advisory)
    made = checked.snapshot(origin=origin, licence=licence, sha256=found, left_out=frozenset(), facts=len(checked.ids))
    return index.conclude(root, made).snapshot


def embed(root: Path, source: Path, *, origin: str = "", licence: str = "unknown") -> Snapshot:
    """Write the facts of *source* about the packages that the locks of *root* name into its policy.

    Where the facts there came from the same bytes, their origin and licence stay. Raises UsageError or InputMissing; the
    earlier facts then stay.
    """
    names = frozenset(pin.name for lock in read_locks(root) for pin in lock.pins if not pin.flaw or pin.version)
    folder = root / snapshot.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / snapshot.SNAPSHOT).is_file() and not origin:
        earlier = snapshot.read(folder / snapshot.SNAPSHOT)
        if earlier.sha256 == sources.digest_of(source):
            origin, licence = earlier.origin, earlier.licence
    return import_snapshot(source, folder, names, origin=origin or source.name, licence=licence)


def import_snapshot(source: Path, folder: Path, names: frozenset[str], *, origin: str, licence: str) -> Snapshot:
    """Write facts and snapshot of *source* for the packages *names* to *folder*."""
    found = _digest(source, "")
    checked = _Checked(source)
    condensed = {advisory.id: osv.condense(advisory, names) for advisory in checked}
    facts = Facts(advisories=tuple(condensed[key] for key in sorted(condensed) if condensed[key].affected))
    left_out = frozenset(checked.packages) - names
    taken = checked.snapshot(
        origin=origin, licence=licence, sha256=found, left_out=left_out, facts=len(facts.advisories)
    )  # fmt: skip
    made = snapshot.of_facts(taken, facts)
    snapshot.write(folder, made, facts)
    return made


def _digest(source: Path, wanted: str) -> digest.Sha256:
    found = sources.digest_of(source)
    if wanted.removeprefix("sha256:") not in ("", found):
        raise UsageError(f"{source.name}: got sha256 {found}, expected {wanted}; fetch it again, or correct --sha256")
    return found


class _Checked:
    """The good records of a source, one after another; what is known of the source once they are through."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.ids: set[str] = set()
        self.packages: set[str] = set()
        self.rejected: list[Rejected] = []
        self.records, self.newest = 0, ""

    def __iter__(self) -> Iterator[Advisory]:
        for name, data in sources.records(self.source):
            self.records += 1
            checked = _check(name, data)
            if isinstance(checked, Advisory) and checked.id in self.ids:
                checked = _rejected(name, f"{checked.id} stands twice", _packages(checked))
            if isinstance(checked, Rejected):
                self.rejected.append(checked)
                continue
            self.ids.add(checked.id)
            self.packages |= _packages(checked)
            self.newest = max(self.newest, checked.modified)
            yield checked

    def snapshot(self, *, origin: str, licence: str, sha256: digest.Sha256, left_out: frozenset[str], facts: int) -> Snapshot:
        """Return what is to be said of the source. Raises UsageError when not one record was good."""
        if not self.ids:
            raise UsageError(
                f"{self.source.name}: none of {self.records} records is a valid OSV record for PyPI; expected OSV's export"
            )
        return Snapshot(
            origin=origin, licence=licence, as_of=date.fromisoformat(self.newest[:10]), sha256=sha256, records=self.records,
            left_out=tuple(sorted(left_out)), rejected=tuple(sorted(self.rejected)), facts=facts, facts_sha256=sha256,
        )  # fmt: skip


def _check(name: str, data: bytes | str) -> Advisory | Rejected:
    """Return the facts of one record, or why there are none."""
    if isinstance(data, str):
        return _rejected(name, data, frozenset())
    value: object = None
    try:
        value = sources.parse(name, data)
        return osv.understand(value, name)
    except UsageError as error:
        return _rejected(name, str(error), osv.packages_named(value))


def _rejected(name: str, reason: str, packages: frozenset[str]) -> Rejected:
    return Rejected(name=name, reason=reason.removeprefix(f"{name}: ")[:300], packages=tuple(sorted(packages)))


def _packages(advisory: Advisory) -> frozenset[str]:
    return frozenset(block.package for block in advisory.affected)
