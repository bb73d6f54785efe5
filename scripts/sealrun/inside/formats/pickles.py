"""Pickles, wherever they stand: what unpickling these bytes would do, without doing any of it.

Rules: the operations are walked with their effect on the stack, so that a text which merely begins like one is told apart; what
follows the first pickle is walked as well (old checkpoints are pickles in a row); an argument that other readers would refuse
does not end the walk; a walk that does not end counts as a pickle.

Source: pickletools (the table of operations); CPython's Modules/_pickle.c.
"""

import base64
import binascii
import io
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

IMPORTING = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
CALLING = frozenset({"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
MAX_OPERATIONS = 1_000_000
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_MAX_LINE = 1024 * 1024
_MAX_ENCODED = 64 * 1024 * 1024
_LENGTHS = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4, pickletools.TAKEN_FROM_ARGUMENT4U: 4,
            pickletools.TAKEN_FROM_ARGUMENT8U: 8}  # fmt: skip
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX = re.compile(rb"(?:\\x)?(?:[0-9a-fA-F]{2}(?:\\x)?){20,}")
_HIDDEN = (b"PK\x03\x04", b"\x7fELF", b"\x1f\x8b\x08")


def is_pickle(stream: IO[bytes]) -> bool:
    """Return whether *stream*, at its front, is a pickle that marks itself as one, or that imports and calls."""
    marked = stream.read(1) == b"\x80"
    stream.seek(0)
    try:
        return _walk(stream, marked)
    except _Endless:
        return True


def file_is_pickle(file: Path) -> bool:
    """Return whether *file* is a pickle."""
    with file.open("rb") as stream:
        return is_pickle(stream)


def encoded(data: bytes, levels: int = 3) -> Iterator[str]:
    """Yield what a base64 or hexadecimal run in *data* hides: a pickle, an archive or a program."""
    for kind, pattern, decode in (("base64", _BASE64, _from_base64), ("hexadecimal", _HEX, _from_hex)):
        for run in pattern.finditer(data):
            if run.end() - run.start() > _MAX_ENCODED:
                yield f"holds a {kind} text of more than {_MAX_ENCODED} bytes"
                continue
            for inner in decode(run.group()):
                if inner.startswith(_HIDDEN) or is_pickle(io.BytesIO(inner)):
                    yield f"holds a {kind} text that decodes to a pickle, an archive or a program"
                    return
                if levels and inner.isascii() and any(encoded(inner, levels - 1)):
                    yield f"holds a {kind} text that decodes to another one, with a pickle, an archive or a program in it"
                    return


class _Endless(Exception):
    """The walk took more operations than any honest file has."""


def _walk(stream: IO[bytes], marked: bool) -> bool:
    """Walk the pickles at the front of *stream*; return what `is_pickle` does."""
    imports = calls = complete = False
    stack: list[bool] = []
    for name, operation in _operations(stream):
        if not _apply(operation, stack):
            break
        imports = imports or name in IMPORTING
        calls = calls or name in CALLING
        if imports and calls:
            return True
        if name == "STOP":
            complete, stack = True, []
            if imports or marked:
                return True
    return marked and (imports or complete)


def _operations(stream: IO[bytes]) -> Iterator[tuple[str, pickletools.OpcodeInfo]]:
    """Yield operation by operation until one is unknown or cut off."""
    for _ in range(MAX_OPERATIONS):
        operation = _OPERATIONS.get(stream.read(1).decode("latin-1"))
        if operation is None or not _skip_argument(stream, operation):
            return
        yield operation.name, operation
    raise _Endless


def _skip_argument(stream: IO[bytes], operation: pickletools.OpcodeInfo) -> bool:
    """Read past the argument of *operation*; return whether it was all there."""
    if operation.arg is None:
        return True
    size = operation.arg.n
    if size == pickletools.UP_TO_NEWLINE:
        lines = 2 if operation.name in ("GLOBAL", "INST") else 1
        return all(stream.readline(_MAX_LINE).endswith(b"\n") for _ in range(lines))
    if size >= 0:
        return len(stream.read(size)) == size
    head = stream.read(_LENGTHS[size])
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTHS[size] or length >= 2**62:
        return False
    here = stream.tell()
    return here + length <= stream.seek(0, io.SEEK_END) and stream.seek(here + length) >= 0


def _apply(operation: pickletools.OpcodeInfo, stack: list[bool]) -> bool:
    """Apply the operation to *stack* (True is a mark); return whether the stack had what it takes."""
    before = operation.stack_before
    if operation.name == "POP":
        return bool(stack) and stack.pop() in (True, False)
    single = before
    if pickletools.markobject in before:
        if True not in stack:
            return False
        while not stack.pop():
            pass
        single = before[: before.index(pickletools.markobject)]
    if len(stack) < len(single) or any(stack[len(stack) - len(single) :]):
        return False
    del stack[len(stack) - len(single) :]
    stack += [item is pickletools.markobject for item in operation.stack_after]
    return True


def _from_base64(text: bytes) -> Iterator[bytes]:
    """Yield what *text* says in either base64 alphabet, from any of the four places a group can begin at."""
    plain = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    for start in range(4):
        piece = plain[start:]
        try:
            yield base64.b64decode(piece[: len(piece) - (len(piece) % 4 == 1)] + b"=" * (-len(piece) % 4 % 3))
        except binascii.Error:
            continue


def _from_hex(text: bytes) -> Iterator[bytes]:
    plain = text.replace(b"\\x", b"")
    yield bytes.fromhex(plain[: len(plain) // 2 * 2].decode())
