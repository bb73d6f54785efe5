"""Bytes to text: every encoding, every archive, to a depth and a size.

Rules: nothing is read whole that may be large; an archive is opened in memory or on a spooled file, never unpacked to a path;
what is not opened is said with the reason; of binary data the printable strings are the text, and of a store of keys a line
that says so: it begins with a NUL, which no other line can.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import itertools
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

PIECE = 4 * 1024 * 1024  # bytes read at once
AROUND = 64 * 1024  # characters before and after a piece that its lines are judged with
DEEPEST, MEMBERS, UNPACKED = 3, 20_000, 1024**3  # levels, members and bytes of one archive
SPOOLED = 32 * 1024 * 1024  # bytes of an inner archive that are kept in memory
OVERLAP = 4 * 1024  # characters that the parts of a line too long share
OPEN_RUN = re.compile(rb"[\t\x20-\x7e\x00]+\Z")
STRINGS = re.compile(rb"[\t\x20-\x7e]{6,}|(?:[\t\x20-\x7e]\x00){6,}")
STORES = (  # what each begins with, and for some what else must be in it
    ("keepass", rb"\x03\xd9\xa2\x9a[\x65-\x67]\xfb\x4b\xb5", b""),
    ("java", rb"(?:\xfe\xed\xfe\xed|\xce\xce\xce\xce)\0{3}[\x01\x02].{4}\0{3}[\x01\x03]", b""),  # the first entry: a key
    ("nss", rb"SQLite format 3\0(?=.*nssPrivate)", b"password"),
    ("nss", rb"\0\x06\x15\x61(?=.*global-salt)", b"password-check"),
    ("pkcs12", rb"\x30[\x80-\x84].{0,4}\x02\x01\x03\x30", b"*\x86H\x86\xf7\r\x01\x0c\n\x01\x02"),  # a shrouded key
    ("pkcs12", rb"\x30[\x80-\x84].{0,4}\x02\x01\x03\x30", b"*\x86H\x86\xf7\r\x01\x0c\n\x01\x01"),  # a key
    ("der", rb"\x30\x82..\x02\x01\0(?:\x02\x82|\x30.\x06.(?:\*\x86H\x86\xf7\r\x01\x01|\*\x86H\xce=\x02\x01))", b""),
    ("der", rb"\x30\x2e\x02\x01\0\x30\x05\x06\x03\x2b\x65[\x6e-\x71]\x04", b""),  # of Ed25519 and its kin
    ("der", rb"\x30[\x80-\x84].{0,3}?\x30.{1,2}?\x06\x09\*\x86H\x86\xf7\r\x01\x05", b""),  # under a passphrase
    ("der", rb"\x30[\x20-\x7f\x81].{0,2}?\x02\x01\x01\x04[\x20\x30\x42]", b"\x06"),  # of an elliptic curve
    ("kerberos", rb"\x05\x02\0\0[\0-\x03].\0[\x01-\x05]\0[\x02-\x60][A-Z0-9.-]{2}", b""),
    ("tor", rb"== ed25519v1-secret: type0 ==\0{3}", b""),
)
STORE_STARTS = frozenset((b"\x03", b"\xfe", b"\xce", b"S", b"\0", b"\x30", b"\x05", b"="))
BREAKS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # what str.splitlines breaks at besides the newline
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


ASCII_BREAKS = BREAKS[:6]


class Part(NamedTuple):
    """A piece of text: the member it is of, how it was read, its lines, the number of the first (None: binary), and how many
    of its first and last lines only stand around it: they are judged in another piece."""

    member: str
    read_as: str
    text: str
    first: int | None
    before: int = 0
    after: int = 0


class Skipped(NamedTuple):
    """A member that was not read, and why."""

    member: str
    reason: str


class Budget:
    """What may still be unpacked of one file."""

    def __init__(self) -> None:
        self.members, self.bytes = MEMBERS, UNPACKED

    def spend(self, size: int) -> None:
        """Take *size* bytes. Raises OverflowError when nothing is left."""
        self.bytes -= size
        if self.bytes < 0:
            raise OverflowError("more unpacked bytes than the limit")


def parts(stream: IO[bytes], member: str = "", depth: int = 0, budget: Budget | None = None) -> Iterator[Part | Skipped]:
    """Yield the text of *stream*, that of an archive's members under their names."""
    head = stream.read(512)
    stream.seek(0)
    kind = archive_kind(head)
    if not kind:
        yield from texts(stream, member)
        return
    if depth == DEEPEST:
        yield Skipped(member, f"an archive {DEEPEST} levels down, not opened")
        return
    opened = False
    try:
        for part in unpacked(kind, stream, member, depth, budget or Budget()):
            opened = True
            yield part
    except OverflowError as error:
        yield Skipped(member, f"an archive with {error}")
    except BROKEN:
        stream.seek(0)
        if opened:
            yield Skipped(member, "an archive that is damaged or encrypted")
        else:
            yield from texts(stream, member)  # it only began like one


def archive_kind(head: bytes) -> str:
    """Return which kind of archive begins with *head*, "" for none."""
    for magic, kind in ((b"PK\x03\x04", "zip"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz")):
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else ""


def unpacked(kind: str, stream: IO[bytes], member: str, depth: int, budget: Budget) -> Iterator[Part | Skipped]:
    """Yield the parts of an archive's members."""
    if kind == "zip":
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    yield Skipped(f"{member}!{info.filename}", "encrypted")
                    continue
                with archive.open(info) as inner:
                    yield from inside(inner, f"{member}!{info.filename}", depth, budget)
    elif kind == "tar":
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for entry in tar:
                if entry.isfile() and (file := tar.extractfile(entry)):
                    yield from inside(file, f"{member}!{entry.name}", depth, budget)
    else:
        openers: dict[str, Callable[[Any], IO[bytes]]]
        openers = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}  # type: ignore[dict-item]
        with openers[kind](stream) as inner:
            yield from inside(inner, f"{member}!", depth, budget)


def inside(inner: IO[bytes], member: str, depth: int, budget: Budget) -> Iterator[Part | Skipped]:
    """Yield the parts of one member."""
    budget.members -= 1
    if budget.members < 0:
        raise OverflowError("more members than the limit")
    with tempfile.SpooledTemporaryFile(SPOOLED) as copy:
        while data := inner.read(PIECE):
            budget.spend(len(data))
            copy.write(data)
        copy.seek(0)
        yield from parts(copy, member, depth + 1, budget)


def texts(stream: IO[bytes], member: str) -> Iterator[Part]:
    """Yield the text of *stream* in pieces of whole lines, at least one."""
    data = stream.read(PIECE)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from numbered(member, "utf-16", decoded(data, stream, codecs.getincrementaldecoder("utf-16")("replace")))
    elif (said := store(data)) or b"\0" in data:
        pieces = strings(data, stream)
        if said:
            pieces = itertools.chain([said], pieces)
        yield from (part._replace(first=None) for part in numbered(member, "strings", pieces))
    else:
        read_as, encoding = ("text", "utf-8-sig") if is_utf8(data, len(data) < PIECE) else ("latin-1", "latin-1")
        yield from numbered(member, read_as, decoded(data, stream, codecs.getincrementaldecoder(encoding)("replace")))


def store(data: bytes) -> str:
    """Return the line that says which store of keys *data* begins, "" for none."""
    if data[:1] not in STORE_STARTS:
        return ""
    kinds = (kind for kind, head, besides in STORES if re.match(head, data, re.DOTALL) and besides in data)
    kind = next(kinds, "")
    return f"\0store {kind} {hashlib.sha256(data).hexdigest()}\n" if kind else ""


def is_utf8(data: bytes, whole: bool) -> bool:
    """Return whether *data* is UTF-8; where it is not the whole, a character cut at its end aside."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError:
        return False
    return True


def decoded(data: bytes, stream: IO[bytes], decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    """Yield the text of *data* and of the rest of *stream*."""
    while data:
        following = stream.read(PIECE)
        yield decoder.decode(data, not following)
        data = following


def strings(data: bytes, stream: IO[bytes]) -> Iterator[str]:
    """Yield the printable strings of *data* and of the rest of *stream*, a line each; none is cut where a piece ends."""
    rest = b""
    while data:
        data, following = rest + data, stream.read(PIECE)
        cut = len(data)
        if following and (open_run := OPEN_RUN.search(data[-AROUND:])):
            cut -= len(open_run[0])
        yield "".join(found.replace(b"\0", b"").decode("ascii") + "\n" for found in STRINGS.findall(data[:cut]))
        rest, data = data[cut:], following


def numbered(member: str, read_as: str, pieces: Iterator[str]) -> Iterator[Part]:
    """Yield *pieces* cut at line ends, each with the number of its first line and with the lines around it; a line too long is
    cut where it must be, into parts that overlap."""
    before, current, number = "", next(pieces, ""), 1
    for piece in pieces:
        cut = current.rfind("\n") + 1
        if not cut and len(current) > PIECE:
            yield Part(member, read_as, current, number)
            before, current = "", current[-OVERLAP:] + piece
            continue
        judged, current = current[:cut], current[cut:] + piece
        after = current[: current.rfind("\n", 0, AROUND) + 1]
        if judged:
            yield around(member, read_as, before, judged, after, number)
        number += judged.count("\n")
        before = (before + judged)[-AROUND:]
        before = before[before.find("\n") + 1 :] if len(before) == AROUND else before
    yield around(member, read_as, before, current, "", number)


def around(member: str, read_as: str, before: str, judged: str, after: str, number: int) -> Part:
    """Return the lines *judged*, the first of which has that number, with those around them."""
    sizes = before.count("\n"), after.count("\n") + bool(after)
    return Part(member, read_as, before + judged + after, number - sizes[0], *sizes)


def lines_of(text: str) -> tuple[str, list[int] | None]:
    """Return *text* with trufflehog3's line breaks as newlines, and the number (from 0) of each line where those differ."""
    if not any(mark in text for mark in BREAKS):
        return text, None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    numbers = [n for n, line in enumerate(text.split("\n")) for _ in range(1 + sum(map(line.count, BREAKS)))]
    return text.translate(dict.fromkeys(map(ord, BREAKS), "\n")), numbers


def plain(data: bytes) -> str | None:
    """Return the text of *data* where it is UTF-8, whole, with no line break but newlines, and nothing else: most of what there
    is. None says nothing: `parts` reads it."""
    if len(data) >= PIECE or b"\0" in data or data.startswith(b"\xef\xbb\xbf") or archive_kind(data[:512]) or store(data):
        return None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if any(mark in text for mark in (ASCII_BREAKS if text.isascii() else BREAKS)) else text


def stream_of(data: bytes) -> IO[bytes]:
    """Return *data* as a stream."""
    return io.BytesIO(data)
