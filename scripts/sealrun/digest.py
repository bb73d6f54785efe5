"""Digests: the only place that hashes.

Rules: sha256 everywhere, written as 64 lower-case hex digits; JSON is hashed in one canonical form; a folder is described
by the sorted list of its files, and that list has a digest of its own that `sha256sum` can reproduce.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

type Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]

_PIECE = 1024 * 1024
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class FileDigest(Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """One file: POSIX path relative to the folder described, sha256 of its bytes, size in bytes."""

    path: str
    sha256: Sha256
    size: Annotated[int, Meta(ge=0)]


type Manifest = tuple[FileDigest, ...]


def of_bytes(data: bytes) -> Sha256:
    """Return the sha256 of *data*."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> Sha256:
    """Return the sha256 of the file at *path*, read in pieces. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_large_files(paths: Sequence[Path], noted: Callable[[int], object]) -> list[Sha256 | None]:
    """Return the sha256 of each of *paths*, None for one that cannot be read; as many side by side as there are cores.

    *noted* is told how many bytes were read, as they are. No thread is left when this returns.
    """

    def one(path: Path) -> Sha256 | None:
        state, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
        try:
            with path.open("rb", buffering=0) as stream:
                while count := stream.readinto(buffer):
                    state.update(buffer[:count])
                    noted(count)
        except OSError:
            return None
        return state.hexdigest()

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(one, paths))


def of_json(value: Any) -> Sha256:
    """Return the sha256 of *value* in canonical JSON."""
    return of_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """Return *value* as sorted, compact UTF-8 JSON with a final newline; NaN is refused with ValueError."""
    return _CANONICAL(value).encode() + b"\n"


def describe_file(path: Path, name: str) -> FileDigest:
    """Return the digest of *path* under the name *name*."""
    return FileDigest(path=name, sha256=of_file(path), size=path.stat().st_size)


def describe_files(root: Path, names: Iterable[str]) -> Manifest:
    """Return the manifest of the files *names* (POSIX, relative) below *root*, sorted by path."""
    return tuple(sorted(describe_file(root / name, name) for name in names))


def of_manifest(manifest: Manifest) -> Sha256:
    """Return the digest of a folder: the sha256 of `sha256sum`'s own lines, sorted by path.

    The same number comes from `find . -type f | sort | xargs sha256sum | sha256sum` in the C locale (without the `./`).
    """
    return of_bytes("".join(f"{entry.sha256}  {entry.path}\n" for entry in sorted(manifest)).encode())
