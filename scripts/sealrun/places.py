"""Where kept evidence lies: a folder of this machine, or whatever fsspec reaches by a URL.

Rules: names are ours (hex digits and fixed folders), never a bundle's; in a folder a file appears whole or not at all, and one
program writes at a time; what another place promises is its own affair, which `store.check` looks at byte by byte; a place
across the network is opened with INVARLOCK_ALLOW_NETWORK=1 alone.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sealrun import files, network
from sealrun.errors import InputMissing, ToolFailed, UsageError

_LOCK = ".lock"
_HERE = {"file", "local", "memory"}  # fsspec's protocols that need no network
_LIMIT = 16 * 1024**2  # bytes of a record


class Place(Protocol):
    """Files by name. Reading and writing raise OSError, or InputMissing for a file that is not there."""

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def put(self, name: str, source: Path) -> None: ...
    def get(self, name: str, target: Path) -> None: ...
    def size(self, name: str) -> int | None: ...
    def remove(self, name: str) -> None: ...
    def names(self, folder: str) -> list[str]: ...
    def writing(self) -> Any: ...


def at(text: str, anchor: Path) -> Place:
    """Return the place *text*: a URL, or a folder, which is meant from *anchor*. Raises UsageError."""
    if "://" in text:
        return Remote(text)
    folder = files.output_folder(anchor / text, "--store")
    folder.mkdir(exist_ok=True)
    return Folder(folder)


class Folder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        return files.read_bytes(self._root / name, "store", limit=_LIMIT)

    def write(self, name: str, data: bytes) -> None:
        files.write_bytes(self._made(name), data)

    def put(self, name: str, source: Path) -> None:
        target = self._made(name)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as copy:
            made = Path(copy.name)
        try:
            shutil.copyfile(source, made)
            made.chmod(0o644)
            files.sync_file(made)
            made.replace(target)
        finally:
            made.unlink(missing_ok=True)
        files.sync_folder(target.parent)

    def get(self, name: str, target: Path) -> None:
        if not (self._root / name).is_file():
            raise InputMissing(f"store: {self._root / name} is gone; restore it from a copy of the store")
        target.symlink_to(self._root / name)

    def size(self, name: str) -> int | None:
        path = self._root / name
        return path.stat().st_size if path.is_file() else None

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Return the names below *folder*, sorted; what a killed writer left begins with a dot and is none."""
        below = self._root / folder
        return [f"{folder}/{name}" for name in files.walk_files(below) if not name.rpartition("/")[2].startswith(".")]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store against other writers, and remove what a killed one left."""
        with files.exclusive(self._root / _LOCK):
            for name in files.walk_files(self._root):
                if name != _LOCK and name.rpartition("/")[2].startswith("."):
                    (self._root / name).unlink()
            yield

    def _made(self, name: str) -> Path:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Remote:
    """A place that fsspec reaches. One program at a time may write to it; nobody sees to that."""

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0]
        if protocol not in _HERE and not network.may_open(f"a store by {protocol}"):
            raise UsageError(f"store: {protocol} is across the network; run the command again with INVARLOCK_ALLOW_NETWORK=1")
        try:
            from fsspec.core import url_to_fs

            self._system, self._root = url_to_fs(url)
        except (ImportError, ValueError) as problem:
            raise UsageError(f"store: {problem}; `pip install 'sealrun[store]'` and the package for {protocol}") from problem

    def read(self, name: str) -> bytes:
        try:
            data: bytes = self._system.cat_file(f"{self._root}/{name}")
        except FileNotFoundError as problem:
            raise InputMissing(f"store: there is no {name}; restore it from a copy of the store") from problem
        return data

    def write(self, name: str, data: bytes) -> None:
        self._system.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(f"{self._root}/{name}", data)

    def put(self, name: str, source: Path) -> None:
        self._system.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._system.put_file(str(source), f"{self._root}/{name}")
        if self.size(name) != source.stat().st_size:
            raise ToolFailed(f"store: {name} did not arrive whole; run the command again")

    def get(self, name: str, target: Path) -> None:
        try:
            self._system.get_file(f"{self._root}/{name}", str(target))
        except FileNotFoundError as problem:
            raise InputMissing(f"store: there is no {name}; restore it from a copy of the store") from problem

    def size(self, name: str) -> int | None:
        self._system.invalidate_cache()
        path = f"{self._root}/{name}"
        return int(self._system.size(path)) if self._system.isfile(path) else None

    def remove(self, name: str) -> None:
        if self.size(name) is not None:
            self._system.rm_file(f"{self._root}/{name}")

    def names(self, folder: str) -> list[str]:
        self._system.invalidate_cache()
        start = len(self._system._strip_protocol(f"{self._root}/"))
        found = self._system.find(f"{self._root}/{folder}") if self._system.isdir(f"{self._root}/{folder}") else []
        return sorted(str(path)[start:].lstrip("/") for path in found)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield
