"""Say what model and data files are, by content. Runs inside the `model` environment, never in Sealrun's own.

    python scan_model.py JOB.json FORMATS.json

The job names `files` (each a `path` to report and the `file` to read), and the ONNX operator `domains` that are known.

Rules: nothing is imported, unpickled or executed; ONNX is parsed without its external data; a file is what its bytes are,
whatever it is called; a name that claims another format is a problem, and so is a second format behind the first (a zip or
pickle in a valid file). Texts written here hold no path of the host.
"""

import errno
import hashlib
import itertools
import json
import logging
import math
import os
import pickletools
import re
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]
from picklescan.scanner import scan_file_path
from safetensors import SafetensorError, safe_open

CLAIMS = {
    ".safetensors": "safetensors", ".onnx": "onnx", ".json": "json", ".jsonl": "jsonl", ".txt": "text", ".md": "text",
    ".gguf": "gguf",
}  # fmt: skip
MAGIC = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"GGUF": "gguf", b"\x1f\x8b": "gzip",
    b"\x93NUMPY": "numpy", b"\x89HDF\r\n\x1a\n": "hdf5", b"PAR1": "parquet", b"ARROW1": "arrow",
    b"\x7fELF": "executable", b"MZ": "executable", b"\xcf\xfa\xed\xfe": "executable", b"\xca\xfe\xba\xbe": "executable",
}  # fmt: skip
CODE_SUFFIXES = {
    ".py", ".pyc", ".pyd", ".pyi", ".pyx", ".pth", ".egg", ".whl", ".ipynb", ".so", ".dll", ".dylib", ".exe", ".jar",
    ".sh", ".bat", ".ps1", ".js", ".mjs",
}  # fmt: skip
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
IMPORTING = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD", "EXT1", "EXT2", "EXT4"}
MAX_HEADER = 100 * 1024 * 1024
MAX_TEXT = 1024 * 1024 * 1024
MAX_DEPTH = 64
MAX_PICKLE_OPERATIONS = 10_000_000
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def main(job_file: str, report_file: str) -> None:
    """Judge every file of the job and write the report."""
    logging.disable(logging.CRITICAL)  # picklescan logs what it finds, with the host's paths
    job = json.loads(Path(job_file).read_bytes())
    verdicts = [verdict(entry["path"], Path(entry["file"]), set(job["domains"])) for entry in job["files"]]
    report = {"format": "sealrun/formats-v1", "files": verdicts, "probe": probe()}
    Path(report_file).write_text(
        json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
    )


def verdict(name: str, file: Path, domains: set[str]) -> dict[str, Any]:
    """Return the verdict on one file."""
    problems: list[str] = []
    details: dict[str, Any] = {}
    code = [f"is code by its name (*{file.suffix})"] if file.suffix.lower() in CODE_SUFFIXES else []
    found = format_of(file)
    if found == "safetensors":
        problems += read_safetensors(file, details)
    elif found == "onnx":
        problems += read_onnx(file, details, domains)
    elif found in ("json", "jsonl", "text"):
        problems += read_text(file, found, code)
    elif found in ("executable", "script"):
        code.append("is a script" if found == "script" else "is an executable or a shared library")
    claimed = CLAIMS.get(file.suffix.lower(), found)
    if claimed != found:
        problems.append(f"is {found}, but is named *{file.suffix.lower()}")
    problems += second_format(file, found)
    return {
        "path": name, "sha256": sha256_of(file), "format": found, "problems": problems, "code": code, "details": details,
    }  # fmt: skip


def format_of(file: Path) -> str:
    """Return the format of *file* by its content, `unknown` when it is none of those known here."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if is_safetensors(file, head):
        return "safetensors"
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    if is_pickle(file):
        return "pickle"
    text = text_of(file)
    if text is not None:
        return "script" if text.startswith("#!") else text_format(text, file.suffix.lower())
    return "onnx" if load_onnx(file) is not None else "unknown"


def is_safetensors(file: Path, head: bytes) -> bool:
    """Return whether *file* begins like safetensors: a length within the file, and a JSON object there."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= file.stat().st_size - 8


def is_pickle(file: Path) -> bool:
    """Return whether *file* is a pickle: operations to the end, a protocol mark at the front or an import among them."""
    with file.open("rb") as stream:
        marked = stream.read(1) == b"\x80"
        stream.seek(0)
        imports = False
        try:
            for operation, _, _ in itertools.islice(pickletools.genops(stream), MAX_PICKLE_OPERATIONS):
                imports = imports or operation.name in IMPORTING
        except Exception:  # noqa: BLE001 - pickletools raises whatever an odd operand makes it raise
            return marked and imports
    return marked or imports


def text_of(file: Path) -> str | None:
    """Return the text of *file*, None when it is not UTF-8 text without control characters."""
    if file.stat().st_size > MAX_TEXT:
        return None
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if CONTROL.search(text) else text


def text_format(text: str, suffix: str) -> str:
    """Return json, jsonl or text; of a text that is no JSON its name decides what is wrong with it."""
    if suffix in (".json", ".jsonl"):
        return suffix[1:]
    if strict_json(text)[1] is None:
        return "json"
    lines = text.removesuffix("\n").split("\n")
    return "jsonl" if len(lines) > 1 and all(strict_json(line)[1] is None for line in lines) else "text"


def read_text(file: Path, found: str, code: list[str]) -> Iterator[str]:
    """Yield what is wrong with a JSON or JSON lines file, and note in *code* what in it asks for code."""
    text = text_of(file) or ""
    if found == "text":
        return
    for number, line in enumerate(text.split("\n") if found == "jsonl" else [text], 1):
        if found == "jsonl" and not line.strip():
            if number <= text.count("\n"):
                yield f"line {number} is empty"
            continue
        value, problem = strict_json(line)
        if problem:
            yield f"line {number}: {problem}" if found == "jsonl" else problem
        code += [name for name in asked_code(value) if name not in code]


def strict_json(text: str) -> tuple[Any, str | None]:
    """Return the value of strict JSON and None, or None and what is wrong."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key stands twice")
        return value

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        return None, "not strict JSON: nested too deeply"
    except ValueError as error:
        return None, f"not strict JSON: {error}"
    return (None, f"nested deeper than {MAX_DEPTH}") if depth(value) > MAX_DEPTH else (value, None)


def depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [child for item in level for child in children(item) if isinstance(child, dict | list)]
    return deepest


def children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def asked_code(value: Any) -> Iterator[str]:
    """Yield the keys of JSON *value* by which a library is asked to run code that comes with the model."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            if item.get("auto_map"):
                yield "auto_map names code to load"
            if item.get("trust_remote_code"):
                yield "trust_remote_code is set"
        rest += children(item)


def read_safetensors(file: Path, details: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a safetensors file; its tensors must cover the data exactly, in one order."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            yield f"the header has {length} bytes, expected at most {MAX_HEADER}"
            return
        try:
            header, problem = strict_json(stream.read(length).decode())
        except UnicodeDecodeError:
            header, problem = None, "the header is not UTF-8"
    if problem or not isinstance(header, dict):
        yield problem or "the header is no JSON object"
        return
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        yield "__metadata__ is not a map of strings"
    problems = list(check_tensors(header, size - 8 - length))
    yield from problems
    if not problems:
        yield from agree_with_library(file, header)
        details["dtypes"] = sorted({tensor["dtype"] for tensor in header.values()})
        details["tensors"] = len(header)
        details["parameters"] = sum(math.prod(tensor["shape"]) for tensor in header.values())


def check_tensors(header: dict[str, Any], data_size: int) -> Iterator[str]:
    """Yield what is wrong with the tensors of a safetensors header: shape, dtype, gaps, overlaps, bounds."""
    places = []
    for name, tensor in header.items():
        bits, shape, offsets = tensor_fields(tensor)
        if bits is None:
            yield f"tensor {name!r}: malformed entry or unknown dtype"
            return
        begin, end = offsets
        if math.prod(shape) * bits != (end - begin) * 8:
            yield f"tensor {name!r}: shape and data size disagree"
        places.append((begin, end))
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            yield f"tensors {'overlap' if begin < reached else 'leave a gap'} at byte {min(begin, reached)}"
            return
        reached = end
    if reached != data_size:
        yield f"tensors take {reached} bytes, the file has {data_size}"


def tensor_fields(tensor: Any) -> tuple[int | None, list[int], list[int]]:
    """Return bits per element, shape and offsets of a header entry; None for the bits when it is malformed."""
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        return None, [], []
    shape, offsets = tensor["shape"], tensor["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 else [-1]
    sound = all(type(number) is int and 0 <= number < 2**63 for number in numbers) and offsets[0] <= offsets[1]
    known = isinstance(tensor["dtype"], str) and tensor["dtype"] in DTYPE_BITS
    return (DTYPE_BITS[tensor["dtype"]], shape, offsets) if sound and known else (None, [], [])


def agree_with_library(file: Path, header: dict[str, Any]) -> Iterator[str]:
    """Yield where the safetensors library reads the header differently, or refuses it."""
    try:
        with safe_open(str(file), framework="numpy") as reader:
            read = {name: reader.get_slice(name) for name in reader.keys()}  # noqa: SIM118 - a reader is no dict
            same = {name: (piece.get_dtype(), list(piece.get_shape())) for name, piece in read.items()}
    except SafetensorError as error:
        yield f"the safetensors library refuses it: {str(error)[:200]}"
        return
    if same != {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()}:
        yield "the safetensors library reads other tensors than its header names"


def load_onnx(file: Path) -> onnx.ModelProto | None:
    """Return the ONNX model in *file* without its external data, None when it is none."""
    try:
        model = onnx.load(str(file), format="protobuf", load_external_data=False)
    except DecodeError:
        return None
    return model if model.ir_version and (model.graph.node or model.graph.initializer) else None


def read_onnx(file: Path, details: dict[str, Any], domains: set[str]) -> Iterator[str]:
    """Yield what is wrong with an ONNX model: external data, unknown operators or fields, a failing checker."""
    model = load_onnx(file)
    assert model is not None
    used = set()
    for message in messages(model):
        if len(UnknownFieldSet(message)):
            yield f"holds data that ONNX does not define, in a {message.DESCRIPTOR.name}"
        if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
            yield f"tensor {message.name!r} lies outside the file"
        if isinstance(message, onnx.NodeProto):
            used.add(message.domain)
    imported = {entry.domain: entry.version for entry in model.opset_import}
    for domain in sorted((used | imported.keys()) - domains):
        yield f"uses operators of the domain {domain!r}, which policy does not know"
    details["opset"] = max((imported.get(name, 0) for name in ("", "ai.onnx")), default=0)
    details["domains"] = sorted(name or "ai.onnx" for name in used)
    details["ir_version"] = model.ir_version
    details["nodes"] = len(model.graph.node)
    details["parameters"] = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    details["dtypes"] = sorted({onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer})
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        yield f"the ONNX checker refuses it: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"


def messages(message: Message) -> Iterator[Message]:
    """Yield *message* and every message inside it."""
    rest = [message]
    while rest:
        item = rest.pop()
        yield item
        for field, value in item.ListFields():
            if field.message_type is not None:
                rest += list(value) if not isinstance(value, Message) else [value]


def second_format(file: Path, found: str) -> Iterator[str]:
    """Yield what else stands in a file of the format *found*, and what a pickle in it would import."""
    if found != "zip" and zipfile.is_zipfile(file):
        yield "holds a zip archive"
    try:
        result = scan_file_path(str(file))
    except Exception as error:  # noqa: BLE001 - a scanner that gives up has not found the file clean
        yield f"picklescan could not read it ({type(error).__name__})"
        return
    bad = {f"{item.module}.{item.name}" for item in result.globals if item.safety.value == "dangerous"}
    yield from (f"a pickle in it imports {name[:100]}" for name in sorted(bad))
    if result.scan_err:
        yield "picklescan met a broken pickle in it"


def probe() -> dict[str, Any]:
    """Return what this process sees: the offline switches, and whether a connection is refused for want of a network."""
    names = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setblocking(False)
        denied = attempt.connect_ex(("192.0.2.1", 9)) == errno.ENETUNREACH
    environment = {name: os.environ[name] for name in names if name in os.environ}
    return {"environment": environment, "network": "denied" if denied else "opened"}


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
