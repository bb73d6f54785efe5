"""GGUF: counts, typed metadata, tensor places, then the tensors.

Rules: little-endian version 2 or 3; every count is held against the bytes that are left before anything is read by it; keys and
tensor names are unique; every tensor has a known type and lies aligned, in its own place, inside the file; what lies between is
zero; strings are UTF-8, and templates among them are judged as templates.

Source: docs/gguf.md and ggml.h of the ggml repository.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sealrun.inside.formats import pickles, texts

MAGIC = b"GGUF"
MAX_HEADER = 512 * 1024 * 1024
MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_ELEMENTS = 1 << 23  # strings and arrays inside arrays, all together
MAX_DEPTH = 4
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SHORT = 20
# ggml type: name, elements in a block, bytes of a block.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}  # fmt: skip


class _Bad(Exception):
    """What is wrong with the header; nothing after it can be read."""


class _Header:
    """The file as far as its header goes; every read is held against the bytes left."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size, self.at = stream, size, 0
        self.elements = 0

    def take(self, count: int) -> bytes:
        self.advance(count)
        return self.stream.read(count)

    def skip(self, count: int) -> None:
        self.advance(count)
        self.stream.seek(self.at)

    def advance(self, count: int) -> None:
        if count > min(self.size, MAX_HEADER) - self.at:
            raise _Bad(f"the header ends early or is too large at byte {self.at}")
        self.at += count

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str, each: int, most: int) -> int:
        """Return a count of things that take at least *each* bytes."""
        found: int = self.number("<Q")
        if found > most or found * each > self.size - self.at:
            raise _Bad(f"counts {found} {what}, more than the file can hold or policy of this reader allows")
        return found

    def elements_of(self, each: int) -> int:
        """Return the length of an array whose elements are read one by one."""
        found = self.count("array elements", each, MAX_ELEMENTS - self.elements)
        self.elements += found
        return found

    def strings(self) -> list[bytes]:
        """Return those strings of an array that are long enough to hide something: a vocabulary has a million short ones."""
        count, read, at, limit, found = self.elements_of(8), self.stream.read, self.at, min(self.size, MAX_HEADER), []
        for _ in range(count):
            length = int.from_bytes(read(8), "little")
            at += 8 + length
            if at > limit:
                raise _Bad(f"the header ends early or is too large at byte {self.at}")
            if length < _SHORT:
                read(length)
            else:
                found.append(read(length))
        self.at = at
        return found

    def string(self, what: str, most: int) -> str:
        try:
            return self.take(self.count(f"bytes in a {what}", 1, most)).decode()
        except UnicodeDecodeError:
            raise _Bad(f"a {what} before byte {self.at} is not UTF-8") from None


def read(file: Path, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a GGUF file; fill *details*."""
    with file.open("rb") as stream:
        yield from read_stream(stream, file.stat().st_size, details)


def read_stream(stream: IO[bytes], size: int, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the GGUF file of *size* bytes in *stream*."""
    header = _Header(stream, size)
    try:
        tensors, metadata = _open(header)
        yield from _judge_metadata(metadata)
        places = _tensors(header, tensors)
        yield from _check_places(header, places, _alignment(metadata))
    except _Bad as error:
        yield str(error)
        return
    details |= _described(metadata, places)


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 65536 or alignment & (alignment - 1):
        raise _Bad("general.alignment is no power of two from 8 to 65536")
    return alignment


def _open(header: _Header) -> tuple[int, dict[str, Any]]:
    """Return the number of tensors, and the metadata."""
    header.take(4)
    version = header.number("<I")
    if version not in (2, 3):
        raise _Bad(f"is GGUF of version {version}, expected 2 or 3, little-endian")
    tensors, pairs = header.count("tensors", 24, MAX_TENSORS), header.count("metadata pairs", 13, MAX_PAIRS)
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = header.string("key", 65535)
        if key in metadata:
            raise _Bad(f"the key {key[:100]!r} stands twice")
        metadata[key] = _value(header, header.number("<I"), 0)
    return tensors, metadata


def _value(header: _Header, kind: int, depth: int) -> Any:
    """Return a value; of arrays of numbers only how many they are is of interest."""
    if kind == _STRING:
        return header.string("string", MAX_HEADER)
    if kind == _BOOL and (flag := header.number("<B")) in (0, 1):
        return bool(flag)
    if kind in _SCALARS and kind != _BOOL:
        return header.number(_SCALARS[kind])
    if kind != _ARRAY or depth >= MAX_DEPTH:
        raise _Bad(f"a metadata value before byte {header.at} has an unknown type, or is nested too deeply")
    inside = header.number("<I")
    if inside in _SCALARS:
        width = struct.calcsize(_SCALARS[inside])
        header.skip(header.count("array elements", width, MAX_HEADER) * width)
        return []
    if inside == _STRING:  # tokens may be pieces of characters
        return header.strings()
    return [_value(header, inside, depth + 1) for _ in range(header.elements_of(12))]


def _judge_metadata(metadata: dict[str, Any]) -> Iterator[str]:
    for key, value in metadata.items():
        if isinstance(value, str):
            yield from (f"{key[:100]}: {text}" for text in texts.embedded(value, strictly="chat_template" in key))
        for text in _strings(value) if isinstance(value, list) else ():
            yield from (f"{key[:100]}: {found}" for found in pickles.encoded(text))


def _strings(value: Any) -> Iterator[bytes]:
    if isinstance(value, str) and len(value) >= _SHORT:
        yield value.encode()
    for item in value if isinstance(value, list) else ():
        yield from [item] if isinstance(item, bytes) else _strings(item)


def _tensors(header: _Header, count: int) -> dict[str, tuple[int, int, int, int]]:
    """Return offset, size in bytes, type and elements of each tensor by name."""
    found: dict[str, tuple[int, int, int, int]] = {}
    for _ in range(count):
        name, rank = header.string("tensor name", 4096), header.number("<I")
        if rank > 4:
            raise _Bad(f"tensor {name[:100]!r} has {rank} dimensions, expected at most 4")
        shape = [header.number("<Q") for _ in range(rank)]
        kind, offset, elements = header.number("<I"), header.number("<Q"), math.prod(shape)
        if name in found:
            raise _Bad(f"the tensor {name[:100]!r} stands twice")
        _, block, width = TYPES.get(kind, ("", 0, 0))
        if not block or elements % block or (shape and shape[0] % block):
            raise _Bad(f"tensor {name[:100]!r} has an unknown type or a shape that its type cannot have")
        found[name] = offset, elements // block * width, kind, elements
    return found


def _check_places(header: _Header, places: dict[str, tuple[int, int, int, int]], alignment: int) -> Iterator[str]:
    """Yield what is wrong with where the tensors lie, and what lies between them."""
    start = -(-header.at // alignment) * alignment
    reached = header.at
    for begin, width, _, _ in sorted(places.values()):
        if begin % alignment or start + begin < reached or start + begin + width > header.size:
            yield f"tensors overlap, are not aligned or leave the file at byte {min(start + begin, header.size)}"
            return
        yield from _check_padding(header, reached, start + begin, alignment)
        reached = start + begin + width
    yield from _check_padding(header, reached, header.size, alignment)


def _check_padding(header: _Header, begin: int, end: int, alignment: int) -> Iterator[str]:
    if end - begin >= alignment + (alignment if end == header.size else 0):
        yield f"{end - begin} bytes at byte {begin} belong to no tensor"
        return
    header.stream.seek(begin)
    if header.stream.read(end - begin).strip(b"\0"):
        yield f"the padding at byte {begin} is not zero"


def _described(metadata: dict[str, Any], places: dict[str, tuple[int, int, int, int]]) -> dict[str, Any]:
    said = {
        "dtypes": sorted({TYPES[kind][0] for _, _, kind, _ in places.values()}),
        "tensors": len(places),
        "parameters": sum(elements for _, _, _, elements in places.values()),
    }
    architecture = metadata.get("general.architecture")
    return said | ({"architecture": architecture[:100]} if isinstance(architecture, str) else {})
