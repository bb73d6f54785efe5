"""ONNX: a model parsed without its external data, each message in it looked at.

Rules: no field that ONNX does not define, text is UTF-8; operators of domains that policy knows, or functions defined in the
model itself; external data only in files that are judged as well, in the model's folder or below it, each piece inside its
file; the ONNX checker must agree.

Source: onnx.proto and docs/ExternalData.md of the ONNX repository.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

from sealrun.inside.formats import pickles, texts

MAX_MODEL = 2 * 1024**3
_MAX_DIMS = 64
_PYTHON_OPERATORS = {"PythonOp", "PythonOpGrad", "ATen", "ATenGrad", "PyOp"}  # of builds for training
_KEYS = {"location", "offset", "length", "checksum", "basepath"}

type Pieces = dict[Path, list[tuple[int, int]]]  # every file that is judged, and which bytes of it tensors take


def load(file: Path) -> onnx.ModelProto | None:
    """Return the ONNX model in *file* without its external data, None when it is none."""
    return parse(file.read_bytes()) if file.stat().st_size <= MAX_MODEL else None


def parse(data: bytes) -> onnx.ModelProto | None:
    """Return the ONNX model that *data* is, None when it is none."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError):
        return None
    return model if model.ir_version and (model.graph.node or model.graph.initializer) else None


def read(model: onnx.ModelProto, folder: Path, details: dict[str, Any], domains: set[str], pieces: Pieces) -> Iterator[str]:
    """Yield what is wrong with an ONNX model; fill *details*, and *pieces* with what it takes from which file."""
    if any(isinstance(text, bytes) for message in messages(model) for text in _strings(message)):
        yield "holds text that is not UTF-8"
        return
    if any(len(message.dims) > _MAX_DIMS for message in messages(model) if isinstance(message, onnx.TensorProto)):
        yield f"holds a tensor of more than {_MAX_DIMS} dimensions"
        return
    used: set[str] = set()
    functions = {(function.domain, function.name) for function in model.functions}
    for message in messages(model):
        if len(UnknownFieldSet(message)):
            yield f"holds data that ONNX does not define, in a {message.DESCRIPTOR.name}"
        if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
            yield from _external(message, folder, pieces)
        if isinstance(message, onnx.NodeProto) and (message.domain, message.op_type) not in functions:
            used.add(message.domain)
        for text in (*_strings(message), *_constants(message)):
            yield from pickles.encoded(text.encode() if isinstance(text, str) else text)
        if isinstance(message, onnx.StringStringEntryProto):
            yield from (f"{message.key[:100]}: {text}" for text in texts.embedded(message.value))
        if isinstance(message, onnx.NodeProto) and message.op_type in _PYTHON_OPERATORS:
            yield f"the operator {message.op_type} runs what the model names"
    imported = {entry.domain: entry.version for entry in model.opset_import}
    own = {domain for domain, _ in functions}
    for domain in sorted((used | (imported.keys() - own)) - domains):
        yield f"uses operators of the domain {domain[:100]!r}, which policy does not know"
    versions = {domain or "ai.onnx" for domain, version in imported.items() if version > 0}
    for domain in sorted({domain or "ai.onnx" for domain in used} - versions):
        yield f"names no version of the operators of {domain[:100]!r}"
    details |= _described(model, used, imported)
    yield from _checked(model)


def messages(model: Message) -> Iterator[Message]:
    """Yield *model* and every message inside it."""
    rest = [model]
    while rest:
        item = rest.pop()
        yield item
        for field, value in item.ListFields():
            if field.message_type is not None:
                rest += list(value) if not isinstance(value, Message) else [value]


def _strings(message: Message) -> Iterator[str | bytes]:
    """Yield the texts directly in *message*; protobuf hands over as bytes what is not UTF-8."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value


def _constants(message: Message) -> Iterator[bytes]:
    """Yield the texts that a graph may compute with."""
    if isinstance(message, onnx.AttributeProto):
        yield from (message.s, *message.strings)
    elif isinstance(message, onnx.TensorProto):
        yield from message.string_data


def _external(tensor: onnx.TensorProto, folder: Path, pieces: Pieces) -> Iterator[str]:
    """Yield what is wrong with the place outside the file that *tensor* names; note a sound one in *pieces*."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    name, where = said.get("location", ""), f"tensor {tensor.name[:100]!r}"
    parts = PurePosixPath(name).parts
    numbers = [said.get("offset", "0"), said.get("length", str(max(0, _bytes_of(tensor))))]
    if len(said) != len(tensor.external_data) or said.keys() - _KEYS or "basepath" in said:
        yield f"{where}: its external data is described twice or oddly"
    elif not parts or name != "/".join(parts) or ".." in parts or "\\" in name or ":" in name or name.startswith("/"):
        yield f"{where} lies outside the folder, at {name[:100]!r}"
    elif not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        yield f"{where}: offset or length of its external data is no number"
    else:
        begin, length = int(numbers[0]), int(numbers[1])
        target = folder / name
        if target not in pieces:
            yield f"{where} lies outside the file, at {name[:100]!r}, which is none of the files judged"
        elif begin + length > target.stat().st_size:
            yield f"{where} leaves the file {name[:100]!r}"
        elif length != _bytes_of(tensor):
            yield f"{where}: shape and data size disagree"
        else:
            pieces[target].append((begin, begin + length))


def _bytes_of(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the data of *tensor* takes outside a model."""
    narrow = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    try:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        bits = narrow.get(kind) or onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    except (ValueError, KeyError):
        return -1
    return -1 if kind in ("STRING", "UNDEFINED") else -(-math.prod(tensor.dims) * bits // 8)


def _described(model: onnx.ModelProto, used: set[str], imported: dict[str, int]) -> dict[str, Any]:
    known = set(onnx.TensorProto.DataType.values())
    kinds = {onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer if t.data_type in known}
    return {
        "opset": max((imported.get(name, 0) for name in ("", "ai.onnx")), default=0),
        "domains": sorted(name or "ai.onnx" for name in used),
        "ir_version": model.ir_version,
        "nodes": len(model.graph.node),
        "parameters": min(sum(math.prod(tensor.dims) for tensor in model.graph.initializer), 2**63 - 1),
        "dtypes": sorted(kinds),
    }


def _checked(model: onnx.ModelProto) -> Iterator[str]:
    """Yield what the ONNX checker says. External data is judged above: the checker would want to be where the model lies."""
    try:
        for message in messages(model):
            if isinstance(message, onnx.TensorProto) and message.data_location:
                _empty(message)
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        yield f"the ONNX checker refuses it: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"


def _empty(tensor: onnx.TensorProto) -> None:
    """Make *tensor* one without elements: the checker then asks for no data."""
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    del tensor.dims[:]
    tensor.dims.append(0)
