"""What else a file is or holds: archives behind or around another format, arrays of objects, and what waived pickles import.

Rules: an archive is found where its readers look for it, at the front or at the end; a pickle that policy waives is clean only
when picklescan read it without an error and knows every import in it to be harmless; archives are read member by member, each
within bounds, with checksums that hold.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sealrun.inside.formats import pickles

MAGIC = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"PK\x07\x08": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"GGUF": "gguf",
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard", b"\x04\x22\x4d\x18": "lz4",
    b"Rar!\x1a\x07": "rar", b"\x93NUMPY": "numpy", b"\x89HDF\r\n\x1a\n": "hdf5", b"PAR1": "parquet", b"ARROW1": "arrow",
    b"\x7fELF": "executable", b"MZ": "executable", b"\xcf\xfa\xed\xfe": "executable", b"\xce\xfa\xed\xfe": "executable",
    b"\xca\xfe\xba\xbe": "executable", b"\x00asm": "executable", b"%PDF": "pdf", b"%!PS": "postscript", b"{\\rtf": "rtf",
}  # fmt: skip
_MAX_MEMBER = 2 * 1024**3
_MAX_MEMBERS = 100_000
_TAIL = 22 + 65535


def by_magic(head: bytes) -> str | None:
    """Return the format that the first bytes of a file say."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def is_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes are those of a tar archive: its magic, or the checksum that older ones have alone."""
    if head[257:262] == b"ustar":
        return True
    try:
        said = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return len(head) == 512 and said == sum(head[:148]) + 8 * 32 + sum(head[156:]) != 256


def second_format(file: Path, found: str) -> Iterator[str]:
    """Yield which archive stands in a file of the format *found*."""
    with file.open("rb") as stream:
        head = stream.read(512)
        stream.seek(max(0, file.stat().st_size - _TAIL))
        tail = stream.read()
    if found != "zip" and b"PK\x05\x06" in tail:
        yield "holds a zip archive"
    if found != "tar" and is_tar(head):
        yield "holds a tar archive"


def uncertain(file: Path, found: str) -> Iterator[str]:
    """Yield why a pickle-bearing file is not known to be clean; it may be admitted by a waiver only when nothing is yielded."""
    from picklescan.scanner import scan_file_path

    try:
        if found == "zip":
            yield from _members(file)
        if found == "numpy":
            yield from _array(file)
        result = scan_file_path(str(file))
    except Exception as error:  # noqa: BLE001 - a scanner that gives up has not found the file clean
        yield f"could not be scanned ({type(error).__name__})"
        return
    bad = {f"{item.module}.{item.name}" for item in result.globals if item.safety.value != "innocuous"}
    yield from (f"a pickle in it imports {name[:100]}" for name in sorted(bad))
    if found == "pickle" and not pickles.is_whole(file):
        yield "a pickle in it has no end"
    if result.scan_err or not result.scanned_files:
        yield "picklescan could not read it to its end"


def _array(file: Path) -> Iterator[str]:
    """Yield why an array file is not one of plain numbers: objects in it are a pickle, and stay refused."""
    with file.open("rb") as stream:
        stream.seek(6)
        version = stream.read(2)
        length = int.from_bytes(stream.read(2 if version == b"\x01\x00" else 4), "little")
        header = stream.read(length) if version in (b"\x01\x00", b"\x02\x00", b"\x03\x00") and length <= 65536 else b""
    if not header.startswith(b"{'descr':") or b"O" in header.split(b"'fortran_order'")[0]:
        yield "is an array of objects, or no array file of a known version"


def _members(file: Path) -> Iterator[str]:
    """Yield what in a zip picklescan would pass over: members it cannot read, or pickles it does not know by their names."""
    from picklescan.scanner import scan_pickle_bytes

    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_MEMBERS or len({entry.filename for entry in entries}) != len(entries):
            yield "the archive names a member twice, or too many"
            return
        for entry in entries:
            if entry.file_size > _MAX_MEMBER or entry.flag_bits & 1:
                yield f"the member {entry.filename[:100]!r} is too large or encrypted"
                return
            data = archive.read(entry)  # raises where the checksum does not hold
            if by_magic(data[:16]) or is_tar(data[:512]):
                yield f"the member {entry.filename[:100]!r} is another archive or a program"
            elif entry.filename.endswith(".pkl") or pickles.is_pickle(io.BytesIO(data)):
                result = scan_pickle_bytes(io.BytesIO(data), "member")
                if result.scan_err or any(item.safety.value != "innocuous" for item in result.globals):
                    yield f"the member {entry.filename[:100]!r} is a pickle that is not known to be clean"
            elif entry.filename.lower().endswith((".py", ".pyc", ".so", ".dll")):
                yield f"the member {entry.filename[:100]!r} is code"
