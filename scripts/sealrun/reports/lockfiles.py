"""The locks of a repository: where they lie, and what they pin.

Rules: a lock that lies where its tool writes it, in the repository's folder or in `requirements/`, is read; one that lies
elsewhere is named, so that nobody believes it was; a file that cannot be read as a lock is an error, never an empty one.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.reports import lock_formats, requirements
from sealrun.reports.pins import Pin

_FOLDER = "requirements"
_KNOWN = ("requirements.txt", "pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
_REQUIREMENTS = re.compile(r"requirements([-_.][\w.-]*)?\.txt")


class Lock(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lock: the environment it is for, its name to show, the sha256 of its bytes, and its pins."""

    environment: str
    path: str
    sha256: digest.Sha256
    pins: tuple[Pin, ...]


def lock_files(root: Path, targets: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the locks *targets*, else those of the repository *root*, by environment, sorted.

    A lock's environment is its name: the stem of `requirements/NAME.txt`, the file name in *root* itself, a target's path below
    the folder that all targets share. Raises InputMissing when there is none.
    """
    if targets:
        paths = sorted({target.resolve() for target in targets})
        shared = Path(os.path.commonpath([path.parent for path in paths]))
        return {path.relative_to(shared).as_posix(): path for path in paths}
    here = {path.name: path for path in root.iterdir() if path.is_file() and is_lock(path)}
    found = here | {path.stem: path for path in (root / _FOLDER).glob("*.txt")}
    if not found:
        raise InputMissing(
            f"{root}: holds no lock, expected {', '.join(_KNOWN)} or {_FOLDER}/*.txt; write one with your tool "
            "or `nox -s lock -- --write`, or name it: `nox -s audit -- PATH`"
        )
    return dict(sorted(found.items()))


def elsewhere(root: Path) -> tuple[str, ...]:
    """Return the locks in the folders of *root*, which are not read unless they are named, sorted."""
    folders = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")]
    found = [path for folder in folders for path in folder.iterdir() if path.is_file() and is_lock(path)]
    return tuple(sorted(path.relative_to(root).as_posix() for path in found if path.parent != root / _FOLDER))


def is_lock(path: Path) -> bool:
    """Whether *path* is called like a lock."""
    return lock_formats.is_lock(path.name) or bool(_REQUIREMENTS.fullmatch(path.name))


def read_locks(root: Path, targets: Sequence[Path] = ()) -> tuple[Lock, ...]:
    """Return the locks of `lock_files`. Raises UsageError or InputMissing."""
    named = lock_files(root, targets).items()
    return tuple(read_lock(path, name, name if targets else path.relative_to(root).as_posix()) for name, path in named)


def read_lock(path: Path, environment: str, shown: str) -> Lock:
    """Return the lock *path*, which messages call *shown*. Raises UsageError or InputMissing."""
    data = files.read_bytes(path, "lock")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown}: not UTF-8 ({error.reason}); write it as UTF-8") from error
    return Lock(environment=environment, path=shown, sha256=digest.of_bytes(data), pins=_parse(text, shown))


@lru_cache(maxsize=64)  # pure; several stages read the same locks
def _parse(text: str, shown: str) -> tuple[Pin, ...]:
    name = PurePosixPath(shown).name
    return lock_formats.parse(text, shown) if lock_formats.is_lock(name) else requirements.parse_lock(text, shown)
