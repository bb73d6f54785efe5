"""Secrets: masked in whatever is shown, logged or written.

Rules: known secrets (values of variables and files named as such, passwords in addresses) are masked in clear, JSON-escaped,
URL-encoded, in hexadecimal and in base64 at any alignment; texts that are shaped like a credential are masked too. Files are
masked as a stream, in bounded memory, and replaced whole. What is evidence is not altered but refused.
"""

import base64
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, TextIO
from urllib.parse import quote, quote_plus

from sealrun import settings

MASK = "[masked]"
_CHUNK, _OVERLAP, _BEHIND = 1024 * 1024, 64 * 1024, 64
_SHAPES = (
    rb"(?<=://)[^\s/@:'\"]*:[^\s/@'\"]+(?=@)",
    rb"(?i)(?<=authorization: )(?:basic|bearer|token) +[\w.~+/=-]+",
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[\sA-Za-z0-9+/=:,\\-]{1,16000}?-----END [A-Z ]*PRIVATE KEY-----",
    rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|xox[abprs]-[\w-]{10,}"
    rb"|AKIA[0-9A-Z]{16}|sk-[\w-]{20,}|pypi-[\w-]{40,}|npm_[A-Za-z0-9]{30,})",
)  # fmt: skip


def mask_text(text: str, *, shapes: bool = True) -> str:
    """Return *text* with every secret masked; without `shapes` only the known ones."""
    return _without_secrets(text.encode("utf-8", "surrogatepass"), shapes=shapes).decode("utf-8", "surrogatepass")


def _without_secrets(data: bytes, *, shapes: bool) -> bytes:
    parts, done = [], 0
    for begin, end in _spans(data, shapes=shapes):
        parts += [data[done:begin], MASK.encode()]
        done = end
    return b"".join((*parts, data[done:])) if parts else data


def _spans(data: bytes, *, shapes: bool, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield where *data* holds a secret from *start* on, in order; what overlaps is one, so that no rest of it stays."""
    patterns = [_shapes()] if shapes else []
    if any(form in data for form in _known_forms()):  # most hold none, and the pattern takes long to make
        patterns.append(_known())
    begin = end = start
    for first, last in sorted(match.span() for pattern in patterns for match in pattern.finditer(data, start)):
        if first >= end:
            if end > begin:
                yield begin, end
            begin = first
        end = max(end, last)
    if end > begin:
        yield begin, end


def mask_file(path: Path, *, shapes: bool = True) -> None:
    """Mask every secret in the file *path*; without `shapes` only the known ones. It may be missing."""
    size = path.stat().st_size if path.is_file() else 0
    if size > _CHUNK or (size and _without_secrets(data := path.read_bytes(), shapes=shapes) != data):
        _mask_file(path, shapes=shapes)


def holds_secret(path: Path) -> bool:
    """Return whether the file *path* holds a known secret in any of its forms."""
    before = b""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if any(form in before + chunk for form in _known_forms()):
                return True
            before = chunk[-_OVERLAP:]
    return False


def cover_terminal() -> None:
    """Mask whatever this process shows from now on, what is logged and tracebacks included."""
    if not isinstance(sys.stderr, _Masked):
        sys.stdout, sys.stderr = _Masked(sys.stdout), _Masked(sys.stderr)
    for handler in logging.getLogger().handlers:
        if not any(isinstance(each, _MaskRecords) for each in handler.filters):
            handler.addFilter(_MaskRecords())


class _MaskRecords(logging.Filter):
    """Masks a log record before it is formatted."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask_text(record.getMessage()), ()
        return True


class _Masked:
    """A text stream that masks what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write *text* masked; return its own length."""
        self._stream.write(mask_text(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each line masked."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def forms(secret: str) -> set[bytes]:
    """Return the ways in which *secret* may stand in a text."""
    data = secret.encode("utf-8", "surrogatepass")
    texts = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote_plus(data), quote(data, safe=""), quote(data)}
    texts |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in texts if "%" in text}
    found = {text.encode("utf-8", "surrogatepass") for text in texts} | {data.hex().encode(), data.hex().upper().encode()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data).rstrip(b"=")
        whole = encoded[(0, 2, 3)[offset] : len(encoded) - (1 if (offset + len(data)) % 3 else 0)]
        found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form for form in found if len(form) >= settings.SHORTEST_SECRET}


@cache
def _known_forms() -> tuple[bytes, ...]:
    """Return every form of the known secrets, the longest first."""
    found = {form for secret in settings.secret_values() for form in forms(secret)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


@cache
def _known() -> re.Pattern[bytes]:
    """Return a pattern of the known secrets; it matches nothing when there is none."""
    return re.compile(b"|".join(map(re.escape, _known_forms())) or rb"(?!)")


@cache
def _shapes() -> re.Pattern[bytes]:
    return re.compile(b"|".join(_ungrouped(_SHAPES)))


def _ungrouped(shapes: tuple[bytes, ...]) -> Iterator[bytes]:
    for shape in shapes:
        yield b"(?i:" + shape.removeprefix(b"(?i)") + b")" if shape.startswith(b"(?i)") else shape


def _mask_file(path: Path, *, shapes: bool) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    masked = False
    try:
        with os.fdopen(handle, "wb") as sink, path.open("rb") as stream:
            for part in _parts(stream, shapes=shapes):
                masked = masked or part is None
                sink.write(MASK.encode() if part is None else part)
        if masked:
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _parts(stream: BinaryIO, *, shapes: bool) -> Iterator[bytes | None]:
    """Yield what *stream* holds, each secret as None; one may lie across the borders of what is read."""
    held, done = b"", 0  # a shape looks at what stands before it, so some of what was yielded is held on to
    while True:
        chunk = stream.read(_CHUNK)
        held += chunk
        edge = max(done, len(held) - _OVERLAP) if chunk else len(held)
        for begin, end in _spans(held, shapes=shapes, start=done):
            if chunk and begin >= edge:
                break
            yield held[done:begin]
            yield None
            done = end
        cut = max(done, edge)
        yield held[done:cut]
        if not chunk:
            return
        kept = max(0, cut - _BEHIND)
        held, done = held[kept:], cut - kept
