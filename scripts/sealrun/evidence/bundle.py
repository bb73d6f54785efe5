"""The bundle as an archive: an uncompressed tar in which every byte is determined by the members' names and contents.

Rules: plain ustar files and nothing else; the manifest first, then the others in byte order of their names; every header field
but name, size and checksum is constant; the end is two zero blocks, filled up with zeros to whole records. The reader rebuilds
each header and compares it with the one found, so a byte that the writer would not have written is refused wherever it is. It
holds one member at a time, extracts nothing, and knows its limits before it reads.

Source: docs/bundle-format.md; POSIX.1-2017, pax, "ustar Interchange Format".
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sealrun import digest
from sealrun.errors import InputMissing, ToolFailed, VerificationFailed

MANIFEST = "manifest.json"
SUFFIX = ".evidence.tar"

MAX_BUNDLE = 2 * 1024**3  # bytes of the whole archive
MAX_MEMBERS = 10_000
MAX_JSON = 16 * 1024**2  # bytes of a member that is decoded

_BLOCK, _RECORD, _PIECE = 512, 10_240, 1024**2
_MTIME = 315_532_800  # 1980-01-01T00:00:00Z, the earliest time that every archive format can say
_NAME = re.compile(r"[A-Za-z0-9._+=@,-]+(/[A-Za-z0-9._+=@,-]+)*")
_SIZE_FIELD = slice(124, 135)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member: where its bytes begin in the archive, how many they are, and their sha256."""

    offset: int
    size: int
    sha256: digest.Sha256


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An open archive whose every byte was accounted for; `sha256` is that of the whole file.

    Members that are `withheld` are known by name, size and digest, and have no bytes here.
    """

    stream: BinaryIO
    sha256: digest.Sha256
    members: Mapping[str, Entry]
    withheld: frozenset[str] = frozenset()

    def withholding(self, absent: digest.Manifest) -> "Archive":
        """Return the archive with the members *absent* as withheld ones, in their places by name."""
        known = {entry.path: Entry(offset=0, size=entry.size, sha256=entry.sha256) for entry in absent}
        everything = {**self.members, **known}
        return replace(self, members={name: everything[name] for name in _ordered(list(everything))}, withheld=frozenset(known))

    def read(self, name: str, *, limit: int = MAX_JSON) -> bytes:
        """Return the bytes of member *name*. Raises VerificationFailed: no such member, too large, or changed meanwhile."""
        entry = self.members.get(name)
        if entry is None:
            raise VerificationFailed(f"{name}: not in the bundle, expected that member; get the bundle again")
        if name in self.withheld:
            raise VerificationFailed(f"{name}: withheld, but nothing can be verified without it; ask for it")
        if entry.size > limit:
            raise VerificationFailed(f"{name}: got {entry.size} bytes, expected at most {limit}")
        self.stream.seek(entry.offset)
        data = self.stream.read(entry.size)
        if digest.of_bytes(data) != entry.sha256:
            raise VerificationFailed(f"{name}: changed while it was read; copy the bundle to a place of your own")
        return data


def build(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of *members*, which include the manifest. Raises ToolFailed for a name that it cannot hold."""
    names = _ordered(members)
    if problem := names_problem(names):
        raise ToolFailed(f"bundle: {problem}; rename the evidence file")
    parts = []
    for name in names:
        data = members[name]
        parts += [_header(name, len(data)), data, bytes(-len(data) % _BLOCK)]
    content = b"".join(parts) + bytes(2 * _BLOCK)
    if len(content) > MAX_BUNDLE:
        raise ToolFailed(f"bundle: got {len(content)} bytes, expected at most {MAX_BUNDLE}; evaluate on less text")
    return content + bytes(-len(content) % _RECORD)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Yield the archive at *path*. Raises InputMissing, or VerificationFailed for any byte that does not belong."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputMissing(f"{path}: cannot be read ({error.strerror}); run `invoke release` or correct the path") from error
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_BUNDLE:
        os.close(handle)
        raise VerificationFailed(f"{path.name}: expected a regular file of at most {MAX_BUNDLE} bytes")
    with os.fdopen(handle, "rb") as stream:
        yield _scan(stream, info.st_size)


def names_problem(names: list[str]) -> str:
    """Return what is wrong with the member names *names* in their order; empty when nothing is."""
    folded: set[str] = set()
    for name in names:
        if len(name) > 255 or not _NAME.fullmatch(name) or any(part.strip(".") == "" for part in name.split("/")):
            return f"the name {name!r} is not allowed"
        if _split(name) is None:
            return f"the name {name!r} is too long"
        if name.lower() in folded:
            return f"the name {name!r} stands twice, or differs from another in case alone"
        folded.add(name.lower())
    for name in folded:
        if any(parent in folded for parent in _parents(name)):
            return f"the name {name!r} lies below another member"
    if names[:1] != [MANIFEST]:
        return f"the first member is {names[0] if names else 'missing'}, expected {MANIFEST}"
    return "" if names == _ordered(names) else "the members are not in order"


def _ordered(names: Mapping[str, bytes] | list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != MANIFEST, name))


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _split(name: str) -> tuple[str, str] | None:
    """Return ustar's prefix and name: no prefix up to 100 bytes, else cut at the first slash that leaves at most 100."""
    if len(name) <= 100:
        return "", name
    cut = name.find("/", len(name) - 101)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= 155 else None


def _header(name: str, size: int) -> bytes:
    """Return the header block of a member; *name* must be one that `_split` can hold."""
    prefix, rest = _split(name) or ("", name)
    fields = (
        rest.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
        b"%011o\0" % _MTIME, b" " * 8, b"0", bytes(100), b"ustar\x0000", bytes(64), b"0000000\0", b"0000000\0",
        prefix.encode("ascii").ljust(167, b"\0"),
    )  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _scan(stream: BinaryIO, length: int) -> Archive:
    """Read the archive once, from its first byte to its last."""
    whole = hashlib.sha256()
    members: dict[str, Entry] = {}
    position = 0
    while (block := _take(stream, _BLOCK, whole, "a header")) != bytes(_BLOCK):
        name, size = _parse_header(block)
        position += _BLOCK
        if size > length - position:
            raise VerificationFailed(f"{name}: says {size} bytes, the bundle ends before; it was cut short")
        if name in members or len(members) >= MAX_MEMBERS:
            raise VerificationFailed(f"{name}: a member twice, or more than {MAX_MEMBERS} members")
        members[name] = Entry(offset=position, size=size, sha256=_take_member(stream, size, whole, name))
        position += size + -size % _BLOCK
    if problem := names_problem(list(members)):
        raise VerificationFailed(f"bundle: {problem}; get the bundle again")
    end = position + 2 * _BLOCK
    rest = _take(stream, length - position - _BLOCK, whole, "the end") if length <= end + _RECORD else b"?"
    if length != end + -end % _RECORD or rest.strip(b"\0"):
        raise VerificationFailed("bundle: the end is not zeros up to a whole record; bytes were added, changed or cut off")
    return Archive(stream=stream, sha256=whole.hexdigest(), members=members)


def _parse_header(block: bytes) -> tuple[str, int]:
    """Return name and size in the header *block*, which must be what the writer writes for them."""
    try:
        prefix, rest = (block[at].rstrip(b"\0").decode("ascii") for at in (slice(345, 512), slice(0, 100)))
        name = f"{prefix}/{rest}" if prefix else rest
        size = int(block[_SIZE_FIELD], 8)
        if size >= 0 and _split(name) is not None and block == _header(name, size):
            return name, size
    except ValueError:
        pass
    shown = block[:100].split(b"\0")[0].decode("ascii", "replace")
    raise VerificationFailed(f"{shown!r}: the header is not one that a bundle holds; a byte in it was changed")


def _take_member(stream: BinaryIO, size: int, whole: "hashlib._Hash", name: str) -> digest.Sha256:
    """Read one member and the zeros behind it. Returns its sha256."""
    own = hashlib.sha256()
    left = size
    while left:
        piece = _take(stream, min(left, _PIECE), whole, name)
        own.update(piece)
        left -= len(piece)
    if _take(stream, -size % _BLOCK, whole, name).strip(b"\0"):
        raise VerificationFailed(f"{name}: bytes behind its end are not zero; the bundle was changed")
    return own.hexdigest()


def _take(stream: BinaryIO, count: int, whole: "hashlib._Hash", where: str) -> bytes:
    data = stream.read(max(count, 0))
    if len(data) != count:
        raise VerificationFailed(f"bundle: ends within {where}; it was cut short")
    whole.update(data)
    return data
