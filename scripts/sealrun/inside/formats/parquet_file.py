"""Parquet: rows and columns by the footer, read without a library that could run what it holds.

Rules: the footer lies inside the file and is walked with bounds; the rows of its row groups add up; every column chunk lies in
this file; a column of Python objects is refused, also where the footer keeps Arrow's schema in base64.

Source: Apache Parquet's format.thrift (compact protocol).
"""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_FOOTER = 64 * 1024 * 1024
PYTHON_TYPES = (b"arrow.py_extension_type", b"PyExtensionType")
MALFORMED = (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, RecursionError, OverflowError)
_MARK = b"PAR1"
_MAX_ITEMS = 1_000_000

type _Value = int | bytes | list[Any] | dict[int, Any]


def read(file: Path, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Parquet file; fill *details*."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(max(0, size - 8))
        tail = stream.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MARK or not 0 < length <= min(MAX_FOOTER, size - 12):
            yield f"its footer of {length} bytes is not where Parquet has it"
            return
        stream.seek(size - 8 - length)
        footer = stream.read(length)
    try:
        details |= read_footer(footer, size)
    except MALFORMED as error:
        yield f"its footer is malformed ({error})" if isinstance(error, ValueError) else "its footer is malformed"


def read_footer(data: bytes, size: int) -> dict[str, Any]:
    """Return what the footer of a file of *size* bytes says. Raises one of MALFORMED."""
    footer, end = _Compact(data).record(0, 0)
    schema, rows, groups = footer[2], footer[3], footer.get(4, [])
    if end != len(data) or not isinstance(rows, int) or sum(group[3] for group in groups) != rows or rows < 0:
        raise ValueError("its rows do not add up")
    for chunk in (chunk for group in groups for chunk in group[1]):
        if 1 in chunk:
            raise ValueError("a column lies in another file")
        _check_place(chunk[3], size - 8 - len(data))
    kept = [base64.b64decode(entry.get(2, b"")) for entry in footer.get(5, []) if entry[1] == b"ARROW:schema"]
    if any(name in part for name in PYTHON_TYPES for part in (data, *kept)):
        raise ValueError("a column holds Python objects")
    columns = [element[4].decode() for element in schema if 5 not in element]
    return {"rows": rows, "columns": sorted(columns)[:1000]}


def _check_place(column: dict[int, Any], limit: int) -> None:
    """Raise ValueError unless the pages of a column lie between the head of the file and its footer."""
    begins = [column[number] for number in (9, 10, 11) if column.get(number)]  # 0 where writers mean none
    if not begins or min(begins) < len(_MARK) or column[7] < 0 or min(begins) + column[7] > limit:
        raise ValueError("a column leaves the file")


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
            return int.from_bytes(self.data[at : at + 8], "little"), at + 8
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
        if count > len(self.data) - at:  # each takes a byte at least
            raise ValueError("a list leaves the footer")
        found = []
        for _ in range(count):
            item, at = self.value(kind, at, depth + 1)
            found.append(item)
        return found, at
