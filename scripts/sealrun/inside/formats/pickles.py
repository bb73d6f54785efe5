"""Pickles, wherever they stand: what unpickling these bytes would do, without doing any of it.

Rules: the operations are walked with their effect on the stack, so that a text which merely begins like one is told apart; what
follows the first pickle is walked as well (old checkpoints are pickles in a row); an argument that other readers would refuse
does not end the walk; a walk that does not end, or that readers would walk otherwise, counts as a pickle.

Source: pickletools (the table of operations); CPython's Modules/_pickle.c.
"""

import base64
import io
import itertools
import pickletools
import re
import string
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

IMPORTING = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_BY_NAME = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
CALLING = frozenset({"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
MAX_OPERATIONS = 1_000_000
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_STARTS = {operation.code.encode("latin-1") for operation in pickletools.opcodes if not operation.stack_before} | {b"\x78"}
_MAX_LINE = 1024 * 1024
_LENGTHS = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4, pickletools.TAKEN_FROM_ARGUMENT4U: 4,
            pickletools.TAKEN_FROM_ARGUMENT8U: 8}  # fmt: skip
_ALPHABET = string.ascii_letters.encode() + string.digits.encode() + b"+/_-"
_RUNS = bytes(byte if byte in _ALPHABET else 32 for byte in range(256))
_SHORTEST = 28  # no pickle that imports and calls is shorter in base64
_BEGINNINGS = re.compile(rb"gA[I-X]|UEsDB|f0VMR|H4sI[AC]|eJ|eN|eA")
_MOST_BEGINNINGS = 20_000
_LOOKED_AT = 64 * 1024
_BASE32 = re.compile(rb"[A-Z2-7]+")
_HEX = re.compile(rb"[0-9a-fA-F]+")
_WRAPPED = re.compile(rb"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_-]{28,}+\r?\n)+[A-Za-z0-9+/_-]+")
_LINES = bytes(97 if byte in _ALPHABET else 10 if byte == 10 else 32 for byte in range(256))  # a for any of the alphabet
_TWO_LINES = b"a" * _SHORTEST + b"\na"
_ALPHABET85 = string.ascii_letters.encode() + string.digits.encode() + b"!#$%&()*+-;<=>?@^_`{|}~"
_RUNS85 = bytes(byte if byte in _ALPHABET85 else 32 for byte in range(256))
_ASCII85 = re.compile(rb"<~[!-uz\s]{20,}(?:~>)?")
_ESCAPED = re.compile(rb"\\(?:x80\\x0|u0080\\u000|200\\00|0x80, ?0x0)[2-5]|\b0x80,\s{0,4}0x0[2-5],")
_ESCAPES = (b"\\x80", b"\\u0080", b"\\200", b"0x80")  # what _ESCAPED begins with
_UUENCODED = re.compile(rb"^begin [0-7]{3,4} \S.{0,200}\r?\n[!-`][ -`]{4,}$", re.MULTILINE)
_HIDDEN = (b"PK\x03\x04", b"\x7fELF", b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08", b"\xfd7zXZ\x00",
           b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n",
           b"\xac\xed\x00\x05", *(b"BZh%d1AY&SY" % n for n in range(1, 10)))  # fmt: skip


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


def is_whole(file: Path) -> bool:
    """Return whether *file* is pickles to its very end, with nothing behind the last one."""
    stack: list[bool] = []
    last, name = 0, ""
    with file.open("rb") as stream:
        try:
            for name, operation in _operations(stream):
                if not _apply(operation, stack):
                    return False
                stack = [] if name == "STOP" else stack
                last = stream.tell()
        except _Endless:
            return False
    return name == "STOP" and last == file.stat().st_size


def encoded(data: bytes, levels: int = 3) -> Iterator[str]:
    """Yield what a base64, base85, base32 or hexadecimal run in *data*, over several lines or in one, hides: a pickle, an
    archive or a program."""
    if any(sign in data for sign in _ESCAPES) and _ESCAPED.search(data):
        yield "holds a pickle, spelled with escapes"
    if b"begin " in data and _UUENCODED.search(data):
        yield "holds a file that is encoded by uuencode"
    others = (run for run in data.translate(_RUNS85).split() if len(run) >= _SHORTEST)
    if any(_hides(inner) for run in {*others, *_ASCII85.findall(data)} for inner in _from_base85(run)):
        yield "holds an encoded text (base85) that decodes to a pickle, an archive or a program"
        return
    lines = data.replace(b"\\r", b"").replace(b"\\n", b"\n")
    several = _TWO_LINES in lines.translate(_LINES, b"\r")
    wrapped = (run.translate(None, b"\r\n") for run in (_WRAPPED.findall(lines) if several else ()))
    plain = (run for run in data.replace(b"\\x", b"").translate(_RUNS).split() if len(run) >= _SHORTEST)
    for run in {*plain, *wrapped}:
        for inner in (*_from_base64(run), *_from_hex(run), *_from_base32(run)):
            if _hides(inner):
                yield "holds an encoded text (base64, base32 or hexadecimal) that decodes to a pickle, an archive or a program"
                return
            if levels and inner.isascii() and any(encoded(inner, levels - 1)):
                yield "holds a text encoded twice, with a pickle, an archive or a program in it"
                return


def _hides(data: bytes) -> bool:
    """Return whether decoded *data* is what no text of a model has any business with."""
    if data[:1] not in _STARTS and not data.startswith(_HIDDEN):
        return False
    return data.startswith(_HIDDEN) or imports_and_calls(data) or imports_and_calls(_inflated(data))


def imports_and_calls(data: bytes) -> bool:
    """Return whether *data* imports by name and calls, or ends: random bytes (digests) seldom do."""
    try:
        return _walk(io.BytesIO(data), data[:1] == b"\x80" and data[1:2] <= b"\x05", _BY_NAME)
    except _Endless:
        return True


class _Endless(Exception):
    """The walk took more operations than any honest file has, or met what none has."""


def _walk(stream: IO[bytes], marked: bool, importing: frozenset[str] = IMPORTING) -> bool:
    """Walk the pickles at the front of *stream*; return what `is_pickle` does."""
    imports = calls = complete = False
    stack: list[bool] = []
    for name, operation in _operations(stream):
        if not _apply(operation, stack):
            break
        imports = imports or name in importing
        calls = calls or name in CALLING
        if imports and calls:
            return True
        if name == "STOP":
            complete, stack = True, []
            if imports or marked:
                return True
    return marked and (imports or complete)


def _operations(stream: IO[bytes]) -> Iterator[tuple[str, pickletools.OpcodeInfo]]:
    """Yield operation by operation until one is unknown or cut off.

    Raises _Endless where an argument leaves its frame: CPython's reader then drops what is left of the frame, so that what it
    does is not what stands there.
    """
    frame = 0
    for _ in range(MAX_OPERATIONS):
        operation = _OPERATIONS.get(stream.read(1).decode("latin-1"))
        if operation is None:
            return
        inside = stream.tell() <= frame
        if not _skip_argument(stream, operation):
            if inside:
                raise _Endless
            return
        reached = stream.tell()
        if operation.name == "FRAME":
            stream.seek(-8, io.SEEK_CUR)
            reached += int.from_bytes(stream.read(8), "little")
            here, end = stream.tell(), stream.seek(0, io.SEEK_END)
            stream.seek(here)
            if reached > end:
                return
        if inside and reached > frame:
            raise _Endless
        frame = max(frame, reached) if operation.name == "FRAME" else frame
        yield operation.name, operation
    raise _Endless


def _skip_argument(stream: IO[bytes], operation: pickletools.OpcodeInfo) -> bool:
    """Read past the argument of *operation*; return whether it was all there."""
    if operation.arg is None:
        return True
    size = operation.arg.n
    if size == pickletools.UP_TO_NEWLINE:
        lines = 2 if operation.name in ("GLOBAL", "INST") else 1
        return all(_skip_line(stream) for _ in range(lines))
    if size >= 0:
        return len(stream.read(size)) == size
    head = stream.read(_LENGTHS[size])
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTHS[size] or length >= 2**62:
        return False
    here = stream.tell()
    return here + length <= stream.seek(0, io.SEEK_END) and stream.seek(here + length) >= 0


def _skip_line(stream: IO[bytes]) -> bool:
    """Read past the end of a line, however long it is; return whether it has one."""
    while piece := stream.readline(_MAX_LINE):
        if piece.endswith(b"\n"):
            return True
    return False


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


def _inflated(data: bytes) -> bytes:
    """Return the beginning of what zlib packed as *data*, nothing when it did not."""
    if data[:1] != b"\x78":
        return b""
    try:
        return zlib.decompressobj().decompress(data, _MAX_LINE)
    except zlib.error:
        return b""


def _from_base64(text: bytes) -> Iterator[bytes]:
    """Yield what *text* says in either base64 alphabet, from its front, and from wherever a known beginning stands in it."""
    plain = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    yield _decoded(plain)
    for found in itertools.islice(_BEGINNINGS.finditer(plain, 1), _MOST_BEGINNINGS):
        yield _decoded(plain[found.start() : found.start() + _LOOKED_AT])


def _from_base85(text: bytes) -> Iterator[bytes]:
    """Yield what *text* says in base85 or Ascii85, where its beginning could be one of what is looked for."""
    decode = base64.a85decode if text.startswith(b"<~") else base64.b85decode
    body = text.removeprefix(b"<~").removesuffix(b"~>")
    try:
        head = decode(body[:10])
        if head[:1] in _STARTS or head.startswith(tuple(magic[:8] for magic in _HIDDEN)):
            yield decode(body[: _LOOKED_AT - _LOOKED_AT % 5])
    except ValueError:
        return


def _decoded(text: bytes) -> bytes:
    whole = text[: len(text) - (len(text) % 4 == 1)]
    return base64.b64decode(whole + b"=" * (-len(whole) % 4))


def _from_hex(text: bytes) -> Iterator[bytes]:
    if _HEX.fullmatch(text):
        yield bytes.fromhex(text[: len(text) // 2 * 2].decode())


def _from_base32(text: bytes) -> Iterator[bytes]:
    if _BASE32.fullmatch(text):
        whole = text[: len(text) - {1: 1, 3: 1, 6: 1}.get(len(text) % 8, 0)]
        yield base64.b32decode(whole + b"=" * (-len(whole) % 8))
