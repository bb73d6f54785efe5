"""SentencePiece tokenizers (`tokenizer.model`): a protocol buffer, walked field by field.

Rules: only the fields that its definition has, each of the kind it has there; at least one piece; a piece is UTF-8 text.

Source: sentencepiece_model.proto.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_SIZE = 256 * 1024 * 1024
_MESSAGE = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
_PIECE = {1: 2, 2: 5, 3: 0}


def looks_so(file: Path) -> bool:
    """Return whether *file* is a SentencePiece model from its first byte to its last."""
    if not 0 < file.stat().st_size <= MAX_SIZE:
        return False
    with file.open("rb") as stream:
        if stream.read(1) != b"\x0a":
            return False
    return pieces(file.read_bytes()) > 0


def pieces(data: bytes) -> int:
    """Return how many pieces a sound model has, 0 for anything else."""
    count = 0
    try:
        for number, wire, value in fields(data):
            if _MESSAGE.get(number) != wire:
                return 0
            if number == 1 and isinstance(value, bytes):
                _check_piece(value)
                count += 1
            elif isinstance(value, bytes):
                for _ in fields(value):
                    pass
    except ValueError:
        return 0
    return count


def describe(file: Path, details: dict[str, Any]) -> None:
    """Fill *details*."""
    details["pieces"] = pieces(file.read_bytes())


def fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield number, wire type and value of each field. Raises ValueError for anything malformed."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("an unknown wire type")
        if number == 0 or length > len(data) - at:
            raise ValueError("a field leaves the message")
        yield number, wire, data[at : at + length]
        at += length


def _check_piece(data: bytes) -> None:
    for number, wire, value in fields(data):
        if _PIECE.get(number) != wire:
            raise ValueError("an unknown field in a piece")
        if number == 1 and isinstance(value, bytes):
            value.decode()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number does not end")
