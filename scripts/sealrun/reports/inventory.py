"""What stands in a folder of models or data: every name, hidden ones included, and the digest of every file.

Rules: folders are entered, links are not; an empty folder is named, since a pin cannot name it; names that some file system
would take for one are twins, and both are refused; files are hashed side by side, and one that did not change since it was
hashed by this process is not hashed again (its inode, size and both times say so).
"""

import sys
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from sealrun import clock, digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.policy.model import ModelRef, Plan
from sealrun.reports import hub
from sealrun.reports.formats import Listing

_DOCUMENTATION = ("README.md", "LICENSE")
_REPORTED_FROM = 1024**3
_EVERY_SECONDS = 2.0
_KNOWN: dict[tuple[Path, tuple[int, ...]], digest.Sha256] = {}


class Place(Struct, frozen=True, kw_only=True):
    """Where a role's files are. `root` is what no link may lead out of; `names`, where set, are all that is looked at: a
    snapshot in the hub's cache may hold more than a release uses."""

    folder: Path
    root: Path
    names: tuple[str, ...] | None = None

    def file(self, name: str) -> Path:
        """Return where the file *name* of this place lies."""
        return self.folder / name


def places(plan: Plan, targets: Sequence[Path]) -> dict[str, Place]:
    """Return what is looked at: the folder of each role and the data file, or the targets named. Raises InputMissing."""
    found = _targets(targets) if targets else _released(plan)
    for role, place in found.items():
        what = place.file(place.names[0]) if role == "data" and place.names else place.folder
        if not what.exists():
            raise InputMissing(f"model: {role}: there is no {what}; correct its path in release.toml or run `invoke fetch`")
    return found


def _targets(targets: Sequence[Path]) -> dict[str, Place]:
    found = {}
    for target in targets:
        path = target.resolve()
        one = path.parent if path.is_file() else path
        found[target.name or path.name] = Place(folder=one, root=one, names=(path.name,) if path.is_file() else None)
    if len(found) != len(targets):
        raise UsageError("model: two targets have the same name; judge them one after the other")
    return found


def _released(plan: Plan) -> dict[str, Place]:
    found = {}
    for role, ref in models(plan).items():
        folder = plan.base / files.relative_name(ref.path, f"{role}.path")
        cache = hub.cache_of(folder)
        found[role] = Place(folder=folder, root=cache or folder, names=tuple(ref.files) if cache else None)
    data = plan.base / files.relative_name(plan.release.data.path, "data.path")
    found["data"] = Place(folder=data.parent, root=hub.cache_of(data.parent) or data.parent, names=(data.name,))
    return found


def models(plan: Plan) -> dict[str, ModelRef]:
    """Return the models of a release by role."""
    return {"baseline": plan.release.baseline, "candidate": plan.release.candidate}


def pins(plan: Plan) -> dict[str, digest.Sha256]:
    """Return every file the release pins, `ROLE/PATH` to sha256."""
    data = plan.release.data
    pinned = {f"{role}/{name}": sha for role, ref in models(plan).items() for name, sha in ref.files.items()}
    return pinned | {f"data/{Path(data.path).name}": data.sha256}


def look(plan: Plan, targets: Sequence[Path]) -> Listing:
    """Return what stands in the folders, every regular file with its digest; nothing is followed out of them."""
    wanted = {} if targets else pins(plan)
    readable: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for role, place in places(plan, targets).items():
        for name in place.names or walk(place.folder):
            shown = f"{role}/{name}".encode("utf-8", "backslashreplace").decode()
            try:
                inner = (place.folder.relative_to(place.root) / name.rstrip("/")).as_posix()
                readable[shown] = files.regular_file(place.root, inner, role)
                if shown != f"{role}/{name}":
                    refused[shown] = "its name is not UTF-8"
            except UsageError:
                odd = "no regular file inside its folder, or an odd name"
                refused[shown] = "an empty folder" if name.endswith("/") else odd
            except InputMissing:
                refused[shown] = "cannot be read"
    refused |= twins(readable)
    found = describe({name: path for name, path in readable.items() if name not in refused}, refused)
    names = readable.keys() | refused.keys()
    missing = {name for name in wanted if name not in names}
    return Listing(
        files=tuple(sorted(found)), unlisted=tuple(sorted(names - wanted.keys())) if wanted else (),
        missing=tuple(sorted(missing)), refused=dict(sorted(refused.items())),
    )  # fmt: skip


def is_documentation(name: str) -> bool:
    """Return whether `ROLE/PATH` is a file that needs no pin: what people read beside a model."""
    return name.partition("/")[2] in _DOCUMENTATION


def walk(folder: Path) -> Iterator[str]:
    """Yield the POSIX names of everything below *folder*, sorted; only empty folders are yielded, with a `/` behind."""
    found = []
    for place, folders, names in folder.walk(follow_symlinks=False):
        links = [name for name in folders if (place / name).is_symlink()]
        found += [(place / name).relative_to(folder).as_posix() for name in (*names, *links)]
        if not names and not folders and place != folder:
            found.append(f"{place.relative_to(folder).as_posix()}/")
    yield from sorted(set(found))


def twins(names: Mapping[str, object]) -> dict[str, str]:
    """Return the names that differ from another one in case or in the spelling of a letter alone, and what is wrong."""
    alike = defaultdict(list)
    for name in names:
        alike[unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())].append(name)
    return {
        name: f"some file systems take it for {next(other for other in group if other != name)}"
        for group in alike.values()
        if len(group) > 1
        for name in group
    }


def describe(paths: Mapping[str, Path], refused: dict[str, str]) -> list[digest.FileDigest]:
    """Return the digest of each file; one that cannot be read is noted in *refused* instead."""
    keys = {name: (path, _identity(path)) for name, path in paths.items()}
    new = [name for name, key in keys.items() if key not in _KNOWN]
    total = sum(keys[name][1][2] for name in new)
    for name, sha256 in zip(new, digest.of_large_files([paths[name] for name in new], _Progress(total).noted), strict=True):
        if sha256 is not None and _identity(paths[name]) == keys[name][1]:
            _KNOWN[keys[name]] = sha256
        else:
            refused[name] = "cannot be read, or changed while it was"
    return [
        digest.FileDigest(path=name, sha256=_KNOWN[key], size=key[1][2]) for name, key in keys.items() if name not in refused
    ]


def _identity(path: Path) -> tuple[int, ...]:
    info = path.stat()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


class _Progress:
    """Says on standard error how far the hashing of much data is."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.said, self.lock = total, 0, clock.seconds(), threading.Lock()

    def noted(self, count: int) -> None:
        with self.lock:
            self.done += count
            if self.total >= _REPORTED_FROM and clock.seconds() - self.said >= _EVERY_SECONDS:
                self.said = clock.seconds()
                print(f"model: hashed {self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB", file=sys.stderr, flush=True)
