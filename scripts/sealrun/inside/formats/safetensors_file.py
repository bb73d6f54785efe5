"""safetensors: a length, a JSON header, and tensors without a gap to the end of the file.

Rules: the header is strict JSON within 100 MB; every entry has a known dtype, a shape that agrees with its bytes, and a place
of its own; the places leave no gap, do not overlap and end where the file ends. The library must read the same.

Source: the format's description in the safetensors repository.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sealrun.inside.formats import pickles, strict, texts

MAX_HEADER = 100_000_000
_LOOKED_AT = 64 * 1024
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def looks_so(head: bytes, size: int) -> bool:
    """Return whether a file of *size* bytes begins like safetensors: a length within the file, and a JSON object there."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8


def read(file: Path, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a safetensors file; fill *details*."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            yield f"the header has {length} bytes, expected at most {MAX_HEADER}"
            return
        raw = stream.read(length)
        problems = list(check_header(raw, size - 8 - length, details))
        yield from problems or _check_bytes(stream, 8 + length, raw)


def _check_bytes(stream: IO[bytes], start: int, raw: bytes) -> Iterator[str]:
    """Yield which tensor of bytes is a pickle; those of other numbers cannot be told from weights."""
    header, _ = strict.strict_json(raw.decode())
    for name, tensor in header.items():
        if name != "__metadata__" and tensor["dtype"] in ("U8", "I8"):
            begin, end = tensor["data_offsets"]
            stream.seek(start + begin)
            if pickles.imports_and_calls(stream.read(min(end - begin, _LOOKED_AT))):
                yield f"tensor {name[:100]!r} is a pickle"


def check_header(raw: bytes, data_size: int, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the header *raw* of a file with *data_size* bytes of tensors."""
    try:
        header, problem = strict.strict_json(raw.decode())
    except UnicodeDecodeError:
        header, problem = None, "the header is not UTF-8"
    if problem or not isinstance(header, dict):
        yield problem or "the header is no JSON object"
        return
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        yield "__metadata__ is not a map of strings"
    yield from pickles.encoded(raw)
    yield from _judge_metadata(metadata)
    problems = list(check_tensors(header, data_size))
    yield from problems
    if not problems:
        details["dtypes"] = sorted({tensor["dtype"] for tensor in header.values()})
        details["tensors"] = len(header)
        details["parameters"] = sum(math.prod(tensor["shape"]) for tensor in header.values())


def _judge_metadata(metadata: Any) -> Iterator[str]:
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        if isinstance(value, str):
            yield from (f"{key[:100]}: {text}" for text in texts.embedded(value, strictly="chat_template" in key))


def check_tensors(header: dict[str, Any], data_size: int) -> Iterator[str]:
    """Yield what is wrong with the tensors of a header: shape, dtype, gaps, overlaps, bounds."""
    places = []
    for name, tensor in header.items():
        bits, shape, (begin, end) = tensor_fields(tensor)
        if bits is None:
            yield f"tensor {name[:100]!r}: malformed entry or unknown dtype"
            return
        if math.prod(shape) * bits != (end - begin) * 8:
            yield f"tensor {name[:100]!r}: shape and data size disagree"
        places.append((begin, end))
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            yield f"tensors {'overlap' if begin < reached else 'leave a gap'} at byte {min(begin, reached)}"
            return
        reached = end
    if reached != data_size:
        yield f"tensors take {reached} bytes, the file has {data_size}"


def tensor_fields(tensor: Any) -> tuple[int | None, list[int], tuple[int, int]]:
    """Return bits per element, shape and offsets of a header entry; None for the bits when it is malformed."""
    malformed = None, list[int](), (0, 0)
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        return malformed
    shape, offsets, dtype = tensor["shape"], tensor["data_offsets"], tensor["dtype"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2 or len(shape) > 64:
        return malformed
    sound = all(type(number) is int and 0 <= number < 2**63 for number in [*shape, *offsets]) and offsets[0] <= offsets[1]
    if not sound or not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        return malformed
    return DTYPE_BITS[dtype], shape, (offsets[0], offsets[1])


def agree_with_library(file: Path) -> Iterator[str]:
    """Yield where the safetensors library reads the header of a sound file differently, or refuses it."""
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as stream:
        header, _ = strict.strict_json(stream.read(int.from_bytes(stream.read(8), "little")).decode())
    header.pop("__metadata__", None)
    try:
        with safe_open(str(file), framework="numpy") as reader:
            read = {name: reader.get_slice(name) for name in reader.keys()}  # noqa: SIM118 - a reader is no dict
            same = {name: (piece.get_dtype(), list(piece.get_shape())) for name, piece in read.items()}
    except SafetensorError as error:
        yield f"the safetensors library refuses it: {str(error)[:200]}"
        return
    if same != {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()}:
        yield "the safetensors library reads other tensors than its header names"
