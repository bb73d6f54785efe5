"""Parquet and Arrow files: rows and columns by their footers, read without a library that could run what they hold.

Rules: a footer lies inside the file and is walked with bounds; an extension type that names Python objects is refused; a file
begins and ends with its mark.

Source: Apache Parquet's format.thrift (compact protocol); Apache Arrow's File.fbs, Schema.fbs (flatbuffers).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_FOOTER = 64 * 1024 * 1024
_MAX_ITEMS = 1_000_000
_PYTHON_TYPES = (b"arrow.py_extension_type", b"PyExtensionType")

type _Value = int | bytes | list[Any] | dict[int, Any]


def read(file: Path, found: str, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Parquet or Arrow file; fill *details*."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head, mark = stream.read(8), b"PAR1" if found == "parquet" else b"ARROW1"
        stream.seek(max(0, size - 4 - len(mark)))
        tail = stream.read()
        length = int.from_bytes(tail[:4], "little")
        if not head.startswith(mark) or tail[4:] != mark or not 0 < length <= min(MAX_FOOTER, size - 2 * len(mark) - 4):
            yield f"its footer of {length} bytes is not where {found} has it"
            return
        stream.seek(size - 4 - len(mark) - length)
        footer = stream.read(length)
    if any(name in footer for name in _PYTHON_TYPES):
        yield "has a column of Python objects"
    try:
        rows, columns = parquet_footer(footer) if found == "parquet" else (None, arrow_footer(footer))
    except (ValueError, IndexError, KeyError, TypeError, struct.error, RecursionError):
        yield "its footer is malformed"
        return
    details["columns"] = sorted(columns)[:1000]
    if rows is not None:
        details["rows"] = rows


def parquet_footer(data: bytes) -> tuple[int, list[str]]:
    """Return rows and column names of a Parquet footer. Raises ValueError, IndexError, KeyError or TypeError."""
    footer, end = _Compact(data).record(0, 0)
    schema, rows = footer[2], footer[3]
    if end != len(data) or not isinstance(rows, int) or rows < 0:
        raise ValueError("rows or end")
    return rows, [element[4].decode() for element in schema if 5 not in element]


class _Compact:
    """Thrift's compact protocol, as far as a footer needs it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.items = data, 0

    def varint(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise ValueError("a number does not end")

    def signed(self, at: int) -> tuple[int, int]:
        value, at = self.varint(at)
        return (value >> 1) ^ -(value & 1), at

    def record(self, at: int, depth: int) -> tuple[dict[int, Any], int]:
        found: dict[int, Any] = {}
        number = 0
        while (byte := self.data[at]) != 0:
            at += 1
            if byte >> 4:
                number += byte >> 4
            else:
                number, at = self.signed(at)
            kind = byte & 15
            found[number], at = (int(kind == 1), at) if kind in (1, 2) else self.value(kind, at, depth + 1)
        return found, at + 1

    def value(self, kind: int, at: int, depth: int) -> tuple[_Value, int]:
        self.items += 1
        if depth > 32 or self.items > _MAX_ITEMS:
            raise ValueError("too deep or too many")
        if kind in (1, 2, 3):
            return self.data[at], at + 1
        if kind in (4, 5, 6):
            return self.signed(at)
        if kind == 7:
            return 0, at + 8
        if kind == 8:
            length, at = self.varint(at)
            if length > len(self.data) - at:
                raise ValueError("a text leaves the footer")
            return self.data[at : at + length], at + length
        if kind in (9, 10):
            return self.sequence(at, depth)
        if kind == 12:
            return self.record(at, depth)
        raise ValueError("an unknown kind")

    def sequence(self, at: int, depth: int) -> tuple[list[_Value], int]:
        count, kind = self.data[at] >> 4, self.data[at] & 15
        at += 1
        if count == 15:
            count, at = self.varint(at)
        found = []
        for _ in range(count):
            item, at = self.value(kind, at, depth + 1)
            found.append(item)
        return found, at


def arrow_footer(data: bytes) -> list[str]:
    """Return the column names of an Arrow file's footer. Raises ValueError, IndexError or struct.error."""
    footer = _offset(data, 0)
    schema = _field(data, footer, 1)
    fields = _field(data, schema, 1)
    count = _number(data, fields)
    if count > 100_000:
        raise ValueError("too many columns")
    names = []
    for index in range(count):
        text = _field(data, _offset(data, fields + 4 + 4 * index), 0)
        length = _number(data, text)
        if length > len(data) - text - 4:
            raise ValueError("a text leaves the footer")
        names.append(data[text + 4 : text + 4 + length].decode())
    return names


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _offset(data: bytes, at: int) -> int:
    return at + _number(data, at)


def _field(data: bytes, table: int, index: int) -> int:
    """Return where field *index* of the flatbuffers table at *table* points to."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if not 0 <= vtable <= len(data) - 4:
        raise ValueError("a table without a description")
    size = struct.unpack_from("<H", data, vtable)[0]
    where = struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0] if 4 + 2 * index < size else 0
    if where == 0:
        raise ValueError("a field is missing")
    return _offset(data, table + where)
