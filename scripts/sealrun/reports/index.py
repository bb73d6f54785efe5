"""The local advisory index: every fact of a snapshot, by package, in one SQLite file that no commit holds.

Rules: the file is named by what `index.json` says of it and checked by its digest before each use, so a torn or edited one is
never asked; `index.json` is replaced last, so there is the earlier index or the new one; where there is none, or the
policy has had newer facts since it was made, those embedded there are used.

Leaves below `.nox/advisories`: `index.json`, `facts-DIGEST.sqlite`.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, structs

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.reports import osv, snapshot
from sealrun.reports.osv import Advisory
from sealrun.reports.snapshot import Facts, Snapshot

FOLDER = Path(".nox", "advisories")
FILE = "index.json"
_AGAIN = "import the snapshot again with `nox -s advisories`"
_TABLE = (
    "CREATE TABLE fact (package TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (package, id)) WITHOUT ROWID"
)


class Index(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`index.json`: the snapshot, the file that holds its facts by its name, size and digest, and the digest of the policy's
    own `snapshot.json` when it was imported ("" for none)."""

    format: Literal["sealrun/advisory-index-v1"] = "sealrun/advisory-index-v1"
    snapshot: Snapshot
    file: digest.FileDigest
    beside: str = ""


def known(root: Path, packages: Collection[str]) -> tuple[Snapshot, Facts]:
    """Return what is known of *packages* (canonical names): from the local index, or from the policy's facts if newer.

    Raises InputMissing when there is neither, UsageError when one is not what it says.
    """
    index = _chosen(root)
    if index is None:
        return snapshot.load(root / snapshot.FOLDER)
    _check(root / FOLDER, index)
    return about(root / FOLDER, index, packages)


def has_any(root: Path) -> bool:
    """Whether *root* has advisories of its own: an index, or those committed with its policy."""
    return (root / FOLDER / FILE).is_file() or (root / snapshot.FOLDER / snapshot.SNAPSHOT).is_file()


def latest(root: Path) -> Snapshot:
    """Return the snapshot that an audit of *root* would use. Raises InputMissing or UsageError."""
    index = _chosen(root)
    return index.snapshot if index else snapshot.read(root / snapshot.FOLDER / snapshot.SNAPSHOT)


def _chosen(root: Path) -> Index | None:
    """Return the local index, None when there is none, or when the policy has had a newer snapshot since."""
    try:
        index = files.decode(files.read_bytes(root / FOLDER / FILE, "advisories"), Index, str(root / FOLDER / FILE))
    except InputMissing:
        return None
    if _embedded(root) in ("", index.beside):
        return index
    return None if snapshot.read(root / snapshot.FOLDER / snapshot.SNAPSHOT).as_of > index.snapshot.as_of else index


def _embedded(root: Path) -> str:
    path = root / snapshot.FOLDER / snapshot.SNAPSHOT
    return digest.of_file(path) if path.is_file() else ""


def _check(folder: Path, index: Index) -> None:
    """Raise UsageError unless the facts of *index* are those that were built."""
    path = folder / index.file.path
    if not path.is_file() or path.stat().st_size != index.file.size or digest.of_file(path) != index.file.sha256:
        raise UsageError(f"{path}: missing, torn or changed, expected sha256 {index.file.sha256}; {_AGAIN}")


def about(folder: Path, index: Index, packages: Collection[str]) -> tuple[Snapshot, Facts]:
    """Return the facts about *packages*, and the snapshot as that of these facts. Raises UsageError."""
    found: dict[str, Advisory] = {}
    try:
        with closing(sqlite3.connect(f"file:{folder / index.file.path}?mode=ro&immutable=1", uri=True)) as database:
            for package in sorted(packages):
                for (data,) in database.execute("SELECT data FROM fact WHERE package = ?", (package,)):
                    advisory = msgspec.json.decode(data, type=Advisory)
                    found[advisory.id] = advisory
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise UsageError(f"{folder / index.file.path}: cannot be asked ({error}); {_AGAIN}") from error
    wanted = frozenset(packages)
    facts = Facts(advisories=tuple(osv.condense(found[key], wanted) for key in sorted(found)))
    return snapshot.of_facts(index.snapshot, facts), facts


@contextmanager
def building(folder: Path) -> Iterator[Callable[[Advisory], None]]:
    """Yield what takes each fact of a new index in *folder*, which must exist; `conclude` then makes it the index."""
    path = folder / "facts.new"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")  # the file is thrown away unless it is finished
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_TABLE)
        database.execute("BEGIN")

        def take(advisory: Advisory) -> None:
            data = msgspec.json.encode(advisory)
            rows = [(block.package, advisory.id, data) for block in advisory.affected]
            database.executemany("INSERT OR IGNORE INTO fact VALUES (?, ?, ?)", rows)

        yield take
        database.execute("COMMIT")


def conclude(root: Path, taken: Snapshot) -> Index:
    """Make what was built the index of *root*, of the snapshot *taken*, and remove older ones."""
    folder = root / FOLDER
    new = folder / "facts.new"
    described = digest.describe_file(new, "facts.new")
    name = f"facts-{described.sha256[:16]}.sqlite"
    files.move(new, folder / name)
    index = Index(snapshot=taken, file=structs.replace(described, path=name), beside=_embedded(root))
    files.write_json(folder / FILE, index)
    for old in folder.glob("facts-*.sqlite"):
        if old.name != name:
            old.unlink()
    return index
