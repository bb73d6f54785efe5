"""Files: the only place that reads untrusted names and writes results.

Rules: names are POSIX, relative, in Unicode's composed form, without `..`, backslash, drive, control, formatting or lone
surrogate character, or empty part, and no two of one folder differ by case alone; nothing is followed out of its folder
through a symbolic or hard link; only regular files are read; no parent is created that was not named; files appear whole or
not at all (write, fsync, rename); JSON is strict (UTF-8, no duplicate key, no NaN or infinity, bounded depth and size) and is
decoded into a type or refused.
"""

import datetime
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import msgspec

from sealrun.errors import InputMissing, SealrunError, UsageError

MAX_JSON = 256 * 1024 * 1024  # bytes; the largest report a tool may hand over
_MAX_DEPTH = 64
_MAX_DIGITS = 100  # characters of a number
_ODD = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode: control, formatting (such as right-to-left marks), surrogates, line ends


def relative_name(name: str, where: str) -> PurePosixPath:
    """Return *name* as a safe relative POSIX path. Raises UsageError naming *where* it stood."""
    parts = name.split("/")
    if (
        not name
        or any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or (len(name) > 1 and name[1] == ":")
        or any(unicodedata.category(char) in _ODD for char in name)
        or not unicodedata.is_normalized("NFC", name)
    ):
        raise UsageError(f"{where}: got the path {name!r}, expected a relative POSIX path inside the folder, without ..")
    return PurePosixPath(name)


def refuse_twins(names: Iterable[str], where: str) -> None:
    """Raise UsageError when two of *names* would be one file where case or Unicode form does not count."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(unicodedata.normalize("NFC", name.casefold()), name)
        if first != name:
            raise UsageError(f"{where}: got the twins {first!r} and {name!r}, expected names that differ by more than case")


def output_folder(path: Path, where: str = "--out") -> Path:
    """Return *path* resolved, once and for all, as a folder to write below; it is made later, its parent is not.

    Raises UsageError naming *where* it stood, when its parent does not exist, it is no folder, or one that holds everything.
    """
    try:
        resolved = path.resolve()
        has_parent, is_other = resolved.parent.is_dir(), resolved.exists() and not resolved.is_dir()
    except (OSError, RuntimeError) as error:  # Python 3.12's word for a loop of links is the second
        raise UsageError(f"{where}: got {path}, which cannot be followed ({error}); choose another") from error
    if not has_parent:
        raise UsageError(f"{where}: got {path}, whose parent does not exist; make {resolved.parent} first, or choose another")
    if is_other:
        raise UsageError(f"{where}: got {path}, expected a folder; choose another name")
    if str(resolved) in (resolved.anchor, os.path.expanduser("~")):  # noqa: PTH111 - the other raises without a home
        raise UsageError(f"{where}: got {path}, expected a folder of its own, such as {resolved / 'build'}")
    return resolved


def regular_file(root: Path, name: str, where: str) -> Path:
    """Return the regular file *name* below *root*. Raises UsageError for a link out, device or odd name,
    InputMissing when there is no such file."""
    path = root / relative_name(name, where)
    try:
        resolved = path.resolve(strict=True)
    except OSError as error:
        raise InputMissing(f"{where}: {path} cannot be read ({error.strerror}); restore it or correct the path") from error
    except RuntimeError as error:  # Python 3.12's word for it
        raise UsageError(f"{where}: {path} is a loop of links; remove it") from error
    if not resolved.is_relative_to(root.resolve()):
        raise UsageError(f"{where}: {path} leads out of {root} through a link; copy the file into the folder")
    info = resolved.stat()
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{where}: {path} is no regular file; expected a file")
    if info.st_nlink > 1:
        raise UsageError(f"{where}: {path} has {info.st_nlink} names (hard links), expected one; put a copy in its place")
    return path


def walk_files(root: Path) -> Iterator[str]:
    """Yield the POSIX names of everything below *root* that is no folder, sorted, links not followed."""
    root = root.absolute()
    start = len(f"{root}/")
    yield from sorted(f"{folder}/{name}"[start:] for folder, _, names in root.walk(follow_symlinks=False) for name in names)


def remove_odd(folder: Path, *, links_inside: bool = False) -> list[str]:
    """Remove whatever a program left below *folder* that is no folder and no plain file; return what each was.

    A plain file is regular, has one name, and that name is a safe one which no other differs from by case alone. With
    `links_inside`, symbolic links that stay in the folder may remain.
    """
    odd: list[str] = []
    root, names = folder.resolve(), list(walk_files(folder))
    for name in names:
        path = folder / name
        if what := _oddity(path, name, root if links_inside else None):
            path.unlink()
            odd.append(f"{name.encode('utf-8', 'replace').decode()} ({what})")
    try:
        refuse_twins(names, folder.name)
    except UsageError as error:
        odd.append(str(error))
    return odd


def _oddity(path: Path, name: str, root: Path | None) -> str:
    """Return what is odd about what lies at *path*, "" for a plain file; links that stay in *root* are none."""
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "" if root and Path(os.path.realpath(path)).is_relative_to(root) else "a link"
    if not stat.S_ISREG(info.st_mode):
        return "a device, pipe or socket"
    if info.st_nlink > 1:
        return f"{info.st_nlink} names, hard links"
    try:
        relative_name(name, path.name)
    except UsageError:
        return "an unsafe name"
    return ""


def read_bytes(path: Path, where: str, *, limit: int = MAX_JSON) -> bytes:
    """Return the bytes of the regular file *path*. Raises InputMissing or UsageError (too large, not regular)."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:  # noqa: PTH123
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise UsageError(f"{where}: {path} is no regular file; expected a file")
            if info.st_size > limit:
                raise UsageError(f"{where}: {path} has {info.st_size} bytes, expected at most {limit}")
            return stream.read()
    except OSError as error:
        raise InputMissing(f"{where}: {path} cannot be read ({error.strerror}); make it first or correct the path") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant[:40]} is not JSON")


def _short[N](kind: Callable[[str], N]) -> Callable[[str], N]:
    return lambda text: kind(text) if len(text) <= _MAX_DIGITS else _refuse(f"a number of {len(text)} characters")


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _refuse(text)


_STRICT = json.JSONDecoder(  # one for all: to make one takes longer than to read a line
    object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_short(int), parse_float=_short(_finite)
)


def parse_json(data: bytes, where: str, error: type[SealrunError] = UsageError) -> Any:
    """Return the value of strict JSON. Raises *error* naming *where* for anything else."""
    try:
        text = data.decode("utf-8")
        value = _STRICT.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates cannot be written again
        if text.count("{") + text.count("[") > _MAX_DEPTH and _depth(value) > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH}")  # noqa: TRY301
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not acceptable JSON ({problem}); expected strict UTF-8 JSON") from problem
    return value


def decode[T](data: bytes, kind: type[T], where: str, error: type[SealrunError] = UsageError) -> T:
    """Return strict JSON *data* as a *kind*. Raises *error* naming *where* and the field."""
    return convert(parse_json(data, where, error), kind, where, error)


def convert[T](value: Any, kind: type[T], where: str, error: type[SealrunError] = UsageError) -> T:
    """Return *value* (of JSON or TOML) as a *kind*. Raises *error* naming *where* and the field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {problem}") from problem


def load_toml[T](path: Path, kind: type[T]) -> T:
    """Return the TOML file *path* as a *kind*. Raises UsageError or InputMissing naming the file and field."""
    return parse_toml(read_bytes(path, "configuration", limit=4 * 1024 * 1024), kind, str(path))


def parse_toml[T](data: bytes, kind: type[T], path: str) -> T:
    """Return TOML *data* as a *kind*. Raises UsageError naming *path* and the field."""
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{path}: not acceptable TOML ({problem}); mend the line named") from problem
    try:
        return msgspec.convert(value, kind, builtin_types=(datetime.date,))  # a text that looks like a date is none
    except msgspec.ValidationError as problem:
        raise UsageError(f"{path}: {problem}") from problem


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write *path* whole or not at all; its folder must exist. A file that holds these bytes is left alone.

    `durable` waits until it is on the disk. Raises OSError.
    """
    if _holds(path, data):
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if durable:
                os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add *line* to the file *path* in one step, so that others may add theirs; it may be new, and no link. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        data = f"{line}\n".encode()
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder *path* are on the disk: a rename is not, when the file is. Raises OSError."""
    _sync(path, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Wait until the bytes of *path* are on the disk. Raises OSError."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, os.O_RDONLY | flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _holds(path: Path, data: bytes) -> bool:
    try:
        info = path.lstat()
        return stat.S_ISREG(info.st_mode) and info.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def move(source: Path, target: Path) -> None:
    """Put the finished file *source* in the place of *target*, in the same folder, once it is on the disk. Raises OSError."""
    with source.open("rb") as stream:
        os.fsync(stream.fileno())
    source.replace(target)


def write_json(path: Path, value: Any) -> None:
    """Write *value* (msgspec values or plain JSON) as readable JSON with sorted keys and a final newline."""
    write_bytes(path, readable_json(value))


def readable_json(value: Any) -> bytes:
    """Return *value* as indented, sorted UTF-8 JSON with a final newline."""
    plain = msgspec.to_builtins(value)
    compact = json.dumps(plain, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    return msgspec.json.format(compact, indent=2) + b"\n"


def empty_folder(path: Path) -> Path:
    """Make *path* an existing, empty folder, and return it. Its parent must exist or be ours to make."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file *path*; waits for another process that holds it."""
    with path.open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new 0700 folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="sealrun-")).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(child, dict | list)
        ]
    return deepest
