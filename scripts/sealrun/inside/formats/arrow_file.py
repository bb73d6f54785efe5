"""Arrow: rows and columns of IPC files and streams, walked message by message.

Rules: every message and its body lie inside the file, one behind the other to its end; the batches that a file's footer names
are those that stand in it; a column of Python objects is refused; no value is read.

Source: Apache Arrow's Message.fbs, Schema.fbs and File.fbs (flatbuffers); the IPC streaming and file formats.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sealrun.inside.formats.parquet_file import MALFORMED, MAX_FOOTER, PYTHON_TYPES

CONTINUED = b"\xff\xff\xff\xff"
_MARK = b"ARROW1"
_MAX_MESSAGES = 1 << 18
_MAX_COLUMNS = 100_000
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3


def looks_so(head: bytes) -> bool:
    """Return whether a file that begins with *head* begins like an Arrow stream; files of Arrow have a mark."""
    return head[:4] == CONTINUED and 0 < int.from_bytes(head[4:8], "little") <= MAX_FOOTER


def read(file: Path, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an Arrow file or stream; fill *details*."""
    try:
        with file.open("rb") as stream:
            details |= read_stream(stream, file.stat().st_size)
    except MALFORMED as error:
        yield f"is malformed Arrow ({error})" if isinstance(error, ValueError) else "is malformed Arrow"


def read_stream(stream: IO[bytes], size: int) -> dict[str, Any]:
    """Return rows and columns of the file or stream of *size* bytes in *stream*. Raises one of MALFORMED."""
    framed = stream.read(8)[:6] == _MARK
    footer = _footer(stream, size) if framed else b""
    begin, end = (8, size - 10 - len(footer)) if framed else (0, size)
    columns, batches = _messages(stream, begin, end)
    if framed and _named_by_footer(footer) != (columns, sorted(batches)):
        raise ValueError("its footer names other columns or batches than stand in it")
    return {"rows": sum(batches.values()), "columns": sorted(columns)[:1000]}


def _footer(stream: IO[bytes], size: int) -> bytes:
    stream.seek(max(0, size - 10))
    tail = stream.read()
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MARK or not 0 < length <= min(MAX_FOOTER, size - 18):
        raise ValueError("its footer is not where an Arrow file has it")
    stream.seek(size - 10 - length)
    return stream.read(length)


def _named_by_footer(data: bytes) -> tuple[list[str], list[int]]:
    """Return the columns and the places of the batches that a footer names."""
    table = _Table(data, _number(data, 0))
    return _columns(table.table(1)), sorted(table.blocks(3))


def _messages(stream: IO[bytes], at: int, end: int) -> tuple[list[str], dict[int, int]]:
    """Return the columns, and the rows of each batch by its place, of the messages from *at* to *end*."""
    columns: list[str] | None = None
    batches: dict[int, int] = {}
    for _ in range(_MAX_MESSAGES):
        stream.seek(at)
        head = stream.read(8)
        length = int.from_bytes(head[4:], "little")
        if at == end or (head == CONTINUED + bytes(4) and at + 8 == end):
            break
        if head[:4] != CONTINUED or not 0 < length <= min(MAX_FOOTER, end - at - 8):
            raise ValueError(f"no message stands at byte {at}")
        data = stream.read(length)
        message = _Table(data, _number(data, 0))
        kind, body = message.small(1), message.long(3)
        if (kind == _SCHEMA) != (columns is None) or kind not in (_SCHEMA, _DICTIONARY, _BATCH):
            raise ValueError(f"the message at byte {at} is out of place")
        if not 0 <= body <= end - at - 8 - length:
            raise ValueError(f"the body of the message at byte {at} leaves the file")
        if kind == _SCHEMA:
            columns = _columns(message.table(2))
        elif kind == _BATCH:
            batches[at] = message.table(2).long(0)
        at += 8 + length + body
    else:
        raise ValueError("it has too many messages")
    if columns is None or any(rows < 0 for rows in batches.values()):
        raise ValueError("it has no schema, or a batch of less than no rows")
    return columns, batches


def _columns(schema: "_Table") -> list[str]:
    if any(name in schema.data for name in PYTHON_TYPES):
        raise ValueError("a column holds Python objects")
    return [field.text(0) for field in schema.tables(1)]


class _Table:
    """A table of a flatbuffer: where its fields stand. Every read is held against the buffer by `struct`."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.fields = at - int(struct.unpack_from("<i", data, at)[0])
        if not 0 <= self.fields <= len(data) - 4:
            raise ValueError("a table has no description")
        self.end = int(struct.unpack_from("<H", data, self.fields)[0])

    def place(self, index: int) -> int:
        """Return where field *index* stands, 0 when it has its default."""
        where = 4 + 2 * index
        found = int(struct.unpack_from("<H", self.data, self.fields + where)[0]) if where < self.end else 0
        return self.at + found if found else 0

    def small(self, index: int) -> int:
        """Return the byte in field *index*."""
        place = self.place(index)
        return self.data[place] if place else 0

    def long(self, index: int) -> int:
        """Return the 64-bit number in field *index*."""
        place = self.place(index)
        return int(struct.unpack_from("<q", self.data, place)[0]) if place else 0

    def table(self, index: int) -> "_Table":
        """Return the table that field *index* points to."""
        return _Table(self.data, self.target(index))

    def target(self, index: int) -> int:
        """Return what field *index* points to."""
        place = self.place(index)
        if not place:
            raise ValueError("a field is missing")
        return place + _number(self.data, place)

    def tables(self, index: int) -> list["_Table"]:
        """Return the tables of the list in field *index*."""
        start = self.target(index)
        count = _number(self.data, start)
        if count > _MAX_COLUMNS:
            raise ValueError("too many columns")
        places = [start + 4 + 4 * number for number in range(count)]
        return [_Table(self.data, place + _number(self.data, place)) for place in places]

    def blocks(self, index: int) -> list[int]:
        """Return the places in the list of blocks (24 bytes each) in field *index*."""
        if not self.place(index):
            return []
        start = self.target(index)
        count = _number(self.data, start)
        if count * 24 > len(self.data) - start - 4:
            raise ValueError("a list leaves the footer")
        return [int(struct.unpack_from("<q", self.data, start + 4 + 24 * number)[0]) for number in range(count)]

    def text(self, index: int) -> str:
        """Return the text in field *index*."""
        start = self.target(index)
        length = _number(self.data, start)
        if length > len(self.data) - start - 4:
            raise ValueError("a text leaves the buffer")
        return self.data[start + 4 : start + 4 + length].decode()


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
