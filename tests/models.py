"""Model files for the tests: honest ones of each format, and hostile ones. None is ever loaded.

Rules: everything is built here, byte by byte or by the standard library; what a hostile file would run is harmless.
"""

import base64
import bz2
import gzip
import io
import json
import lzma
import marshal
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded" / "arrow"


class Payload:
    """Pickled, it asks for a program to be run; it is never unpickled here."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


PAYLOAD = pickle.dumps(Payload())
TEXT_PICKLE = b"cos\nsystem\n(S'true'\ntR."


def safetensors(tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a sound safetensors file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return framed(text + b" " * (-len(text) % 8), data)


def framed(header: bytes, data: bytes = b"") -> bytes:
    """Return *header* as that of a safetensors file."""
    return len(header).to_bytes(8, "little") + header + data


def placed(*tensors: tuple[bytes, int, int], data: bytes) -> bytes:
    """Return a safetensors file whose bytes are said to lie where *tensors* say."""
    entries = (b'"%s":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}' % (n, end - at, at, end) for n, at, end in tensors)
    return framed(b"{" + b",".join(entries) + b"}", data)


def text(value: str) -> bytes:
    """Return a GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(metadata: Mapping[str, str] | None = None, *, tensors: int = 2, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    """Return a sound GGUF file with text metadata and small F32 tensors."""
    pairs = [("general.architecture", "llama"), *(metadata or {}).items()]
    out = magic + struct.pack("<IQQ", version, tensors, len(pairs) + 1)
    for key, value in pairs:
        out += text(key) + struct.pack("<I", 8) + text(value)
    out += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    for index in range(tensors):
        out += text(f"t{index}") + struct.pack("<IQIQ", 1, 8, 0, 32 * index)
    return out + bytes(-len(out) % 32) + bytes(range(32)) * tensors


def sentencepiece() -> bytes:
    """Return a SentencePiece model of three pieces."""
    pieces = b""
    for piece in ("<unk>", "a", "b"):
        inner = b"\x0a" + bytes([len(piece)]) + piece.encode() + b"\x15" + struct.pack("<f", -1.0)
        pieces += b"\x0a" + bytes([len(inner)]) + inner
    return pieces + b"\x12\x02\x18\x01"


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _signed(number: int) -> bytes:
    return _varint(number * 2)


def parquet_footer(
    rows: int, *columns: str, rows_of_group: int | None = None, elsewhere: str = "", size: int = 0, arrow: bytes = b""
) -> bytes:  # fmt: skip
    """Return the footer of a Parquet file with one row group, in Thrift's compact protocol."""
    leaf = b"".join(b"\x15\x02\x38" + _varint(len(name)) + name.encode() + b"\0" for name in columns)
    root = b"\x48\x06schema\x15" + _signed(len(columns)) + b"\0"
    schema = b"\x19" + bytes([(len(columns) + 1) << 4 | 12]) + root + leaf
    place = b"\x76" + _signed(size) + b"\x26" + _signed(4) + b"\0"  # total_compressed_size, data_page_offset
    chunk = b"\x18" + _varint(len(elsewhere)) + elsewhere.encode() + b"\x2c" + place if elsewhere else b"\x3c" + place
    group = b"\x19" + bytes([len(columns) << 4 | 12]) + (chunk + b"\0") * len(columns)
    group += b"\x26" + _signed(rows if rows_of_group is None else rows_of_group) + b"\0"
    kept = base64.b64encode(arrow)
    pairs = b"\x19\x1c\x18\x0cARROW:schema\x18" + _varint(len(kept)) + kept + b"\0" if arrow else b""
    return b"\x15\x02" + schema + b"\x16" + _signed(rows) + b"\x19\x1c" + group + pairs + b"\0"


def parquet(rows: int, *columns: str, **more: Any) -> bytes:
    """Return a Parquet file with a footer and no data."""
    footer = parquet_footer(rows, *columns, **more)
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members: Mapping[str, bytes], layout: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def without_magic(tar: bytes) -> bytes:
    """Return *tar* with an entry as the oldest tars wrote it: no magic, the checksum alone."""
    head = bytearray(tar[:512])
    head[257:265] = bytes(8)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + tar[512:]


def numpy_objects() -> bytes:
    """Return an array file of Python objects: a header and a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + PAYLOAD


ARROW_FILE = (RECORDED / "file.arrow").read_bytes()
ARROW_STREAM = (RECORDED / "stream.arrow").read_bytes()
ARROW_COLUMN = b"text_of_each_evaluation"  # as long as the name of an extension type that is unpickled
SOUND = {"w": ("F32", [2, 2], bytes(16)), "b": ("I8", [3], b"abc"), "empty": ("F16", [0], b"")}
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}"
    "{% generation %}{{ '<|' + message.role + '|>' + message['content'] | trim }}{% endgeneration %}{% endfor %}"
    "{% macro one(tool) %}{{ tool.name | tojson }}{% endmacro %}{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}"
    "{% for tool in tools | selectattr('type', 'equalto', 'function') %}{{ one(tool) }}{% endfor %}"
    "{% if add_generation_prompt %}{{ messages[-1]['content'].split('</think>')[-1].strip() }}"
    "{{ strftime_now('%d') }}{% endif %}"
)

HONEST: dict[str, bytes] = {
    "model.safetensors": safetensors(SOUND, {"format": "pt"}),
    "empty.safetensors": safetensors({}),
    "model.gguf": gguf({"tokenizer.chat_template": TEMPLATE, "general.name": "Test"}),
    "no-tensors.gguf": gguf(tensors=0),
    "tokenizer.model": sentencepiece(),
    "config.json": b'{"architectures": ["GPT2LMHeadModel"], "n_layer": 2, "eps": 1e-05}',
    "tokenizer_config.json": json.dumps({"chat_template": [{"name": "default", "template": TEMPLATE}]}).encode(),
    "chat_template.jinja": TEMPLATE.encode(),
    "model.safetensors.index.json": b'{"metadata": {"total_size": 19}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}',
    "modules.json": b'[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]',
    "vocab.txt": "[PAD]\n[UNK]\n!\n(\ncat\ncos\nsin\n(\n日本\n".encode(),
    "words.txt": b"cat\ndog\nbird\n",
    "merges.txt": b"#version: 0.2\nt h\nth e\n",
    "tekken.tiktoken": b"".join(base64.b64encode(bytes([n, n + 1])) + b" %d\n" % n for n in range(32, 90)),
    "README.md": b"---\nlicense: mit\n---\n# A model\n```python\nimport torch\n```\n",
    "LICENSE": b"Words, words.\n",
    "digests.txt": b"a" * 64 + b"  model.bin\n" + b"0123456789abcdef" * 4 + b"  x\n",
    "data.jsonl": b'{"text": "one"}\n{"text": "two, with {{ braces }}"}\n',
    "data.csv": b'text,label\n"one, two",1\nthree,0\n',
    "generation_config.json": b'{"temperature": 0.7}',
    "model_index.json": b'{"_class_name": "P", "_diffusers_version": "0.1", "unet": ["diffusers", "UNet2DConditionModel"]}',
    "special_tokens.txt": b"<unk>\n<s>\n</s>\n<pad>\n",
    "words.json": b'["cat\\ndog", "(a)\\nb", "I 1\\n2", "plain text, long enough to be looked at"]',
    "model-00001-of-00002.safetensors": safetensors(SOUND, {"format": "pt"}),
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "own-names.jinja": b"{% for k, _ in x.items() %}{{ x[k] }}{% endfor %}{% set _args = x[loop.index0 - 1] %}{{ '<{}>'.format(_args) }}",
    "description.gguf": gguf({"general.description": "# A model\n\nIt was trained (well) on text.", "general.license": "mit"}),
    "file.arrow": ARROW_FILE,
    "data-00000-of-00001.arrow": ARROW_STREAM,
    "train-00000-of-00001.parquet": parquet(7, "text", "label"),
    "tokenizer.model.v3": sentencepiece(),
    "attention.json": b'{"_attn_implementation": "flash_attention_2", "_name_or_path": "/home/someone/model", "torch_dtype": "bfloat16"}',
    "added_tokens.json": b'{"<|im_end|>": 151645, "<think>": 151667}',
    "tekken.json": json.dumps(
        {"vocab": [{"rank": n, "token_bytes": base64.b64encode(bytes([n])).decode()} for n in range(200)]}
    ).encode(),
    "with-del.json": b'{"model": {"vocab": {"\x7f": 130}}}',
    "params.yaml": b"hidden: 64\nlayers: [1, 2]\n",
}


MAKE_ONNX = """
import sys
import onnx
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
inside = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
outside = TensorProto(name="e", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "8")):
    outside.external_data.add(key=key, value=value)
nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "e"], ["y"])]
model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [inside, outside]), opset_imports=[helper.make_opsetid("", 17)])
model.metadata_props.add(key="license", value="none")
open(sys.argv[1], "wb").write(model.SerializeToString())
"""


def template(body: str) -> bytes:
    """Return a tokenizer configuration with the chat template *body*."""
    return json.dumps({"chat_template": body}).encode()


def bomb(length: int) -> bytes:
    """Return the head of a safetensors file that announces *length* bytes of header."""
    return length.to_bytes(8, "little") + b"{" + bytes(64)


def under_each_name(name: str, data: bytes) -> dict[str, bytes]:
    """Return *data* under each name that honest files have."""
    return {f"{name}{suffix}": data for suffix in (".safetensors", ".json", ".onnx", ".gguf", ".txt", ".model", ".jsonl", "")}


def _torch(inner: str = "archive/data.pkl") -> bytes:
    return zipped({inner: PAYLOAD, "archive/version": b"3\n", "archive/data/0": bytes(64)})


def _broken(archive: bytes, old: bytes, new: bytes) -> bytes:
    assert old in archive
    return archive.replace(old, new, 1)


def _nested_gguf() -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("deep") + struct.pack("<I", 9)
    return head + struct.pack("<IQ", 9, 1) * 200 + bytes(4096)


_ENCODED = base64.b64encode(PAYLOAD).decode()
_LEGACY = b"L119547037146038801333356L\n.I1001\n.(d." + TEXT_PICKLE
_CODE = marshal.dumps(compile("1", "x", "eval"))

HOSTILE: dict[str, bytes] = {
    # pickles, in every protocol and under every name
    **{f"protocol{n}.bin": pickle.dumps(Payload(), protocol=n) for n in range(6)},
    **under_each_name("pickle", PAYLOAD),
    **under_each_name("text-pickle", TEXT_PICKLE),
    **{f"protocol0{suffix}": pickle.dumps(Payload(), protocol=0) for suffix in (".txt", ".json", ".csv", ".md", "")},
    "cut.txt": TEXT_PICKLE[:-1],
    "odd-number.txt": b"I0x10\n0" + TEXT_PICKLE,
    "inst.txt": b"(S'true'\nios\nsystem\n.",
    "after-a-number.txt": b"I1\n." + TEXT_PICKLE,
    "legacy-checkpoint.pt": _LEGACY,
    "legacy-checkpoint.txt": _LEGACY,
    "cut.bin": PAYLOAD[:-1],
    "trailing.bin": PAYLOAD + b"\xff" * 100,
    "first-harmless.bin": pickle.dumps({"a": 1}) + PAYLOAD,
    "no-import.pkl": pickle.dumps({"a": [1, 2]}),
    "nested.pkl": pickle.dumps(PAYLOAD),
    "extension.bin": b"\x80\x02\x82\x01.",
    "model.joblib": zlib.compress(PAYLOAD),
    "model.pkl.gz": gzip.compress(PAYLOAD),
    "model.pkl.xz": lzma.compress(PAYLOAD),
    "model.joblib.bz2": bz2.compress(PAYLOAD),
    "model.joblib.lz4": b"\x04\x22\x4d\x18\x64\x40\xa7" + PAYLOAD,
    "model.pkl.zst": b"\x28\xb5\x2f\xfd\x24" + PAYLOAD,
    "model.rds": gzip.compress(b"X\n\0\0\0\2"),
    "model.pte": b"\x1c\x00\x00\x00ET12" + bytes(64),
    "flax_model.msgpack": b"\x81\xa6params\x80",
    "array.npy": numpy_objects(),
    "arrays.npz": zipped({"a.npy": numpy_objects()}),
    "code.marshal": _CODE,
    # archives
    "pytorch_model.bin": _torch(),
    "renamed-inside.pt": _torch("archive/weights"),
    "named.safetensors": _torch(),
    "named.json": _torch(),
    "deflated.pth": zipped({"a/data.pkl": PAYLOAD}, zipfile.ZIP_DEFLATED),
    "inner.zip": zipped({"inner.zip": _torch()}),
    "crc.pt": _broken(_torch(), b"ran", b"run"),
    "encrypted-flag.pt": _broken(_torch(), b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
    "other-name.pt": _torch().replace(b"data.pkl", b"data.txt", 1),  # the local header's, not the directory's
    "patched-flag.pt": _broken(_torch(), b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x20\x00"),
    "strong-flag.pt": _broken(_torch(), b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x40\x00"),
    "commented.pt": _torch()[:-2] + b"\x05\x00words",
    "member-by-another-name.pt": zipped({"archive/readme.txt": PAYLOAD}),
    "traversal.zip": zipped({"../../etc/cron.d/x": b"* * * * * root true\n"}),
    "torchscript.pt": zipped({"m/code/__torch__.py": b"def forward(self): pass\n", "m/data.pkl": PAYLOAD}),
    "model.skops": zipped({"schema.json": b'{"__class__": "system", "__module__": "os"}'}),
    "model.mar": zipped({"MAR-INF/MANIFEST.json": b"{}", "handler.py": b"import os\n"}),
    "llamafile": b"MZqFpD='\n" + bytes(500) + gguf() + zipped({".args": b"-m\n"}),
    "llamafile.gguf": b"MZqFpD='\n" + bytes(500) + gguf(),
    "shell-in-front.gguf": b"#!/bin/sh\ntrue\nexit\n" + gguf(),
    "no-directory.pt": _torch()[:-60],
    "prefixed.pt": b"\x00" * 16 + _torch(),
    "checkpoint.tar": tarred({"data.pkl": PAYLOAD}),
    "old.tar": without_magic(tarred({"data.pkl": PAYLOAD})),
    "tar.safetensors": tarred({"data.pkl": PAYLOAD}, tarfile.GNU_FORMAT),
    "checkpoint.nemo": gzip.compress(tarred({"data.pkl": PAYLOAD})),
    "model.7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(64),
    "model.bin": b"7z\xbc\xaf\x27\x1c\x00\x04" + PAYLOAD,
    "model.rar": b"Rar!\x1a\x07\x01\x00" + bytes(64),
    "model.keras": zipped({"config.json": b'{"class_name": "Lambda"}', "model.weights.h5": bytes(8)}),
    "model.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "saved_model.pb": b"\x08\x01\x12\x1e\x0a\x1c\x0a\x08ReadFile\x12\x10/etc/passwd\0\0\0\0\0",
    "model.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(64),
    # a second format behind a sound one
    "zip-behind.safetensors": safetensors({"x": ("U8", [len(_torch())], _torch())}),
    "zip-behind.gguf": gguf() + _torch(),
    "zip-behind.model": sentencepiece() + _torch(),
    "zip-in-metadata.safetensors": safetensors(SOUND, {"x": base64.b64encode(_torch()).decode()}),
    "trailing.safetensors": safetensors(SOUND) + PAYLOAD,
    "tar-too.safetensors": without_magic(framed(b"{" + b" " * 1000 + b"}").ljust(1024, b" ")),
    # safetensors
    "bomb.safetensors": bomb(200_000_000),
    "bomb-max.safetensors": bomb(2**64 - 1),
    "twice.safetensors": placed((b"a", 0, 1), (b"a", 0, 1), data=b"x"),
    "overlap.safetensors": placed((b"a", 0, 2), (b"b", 1, 3), data=b"abc"),
    "gap.safetensors": framed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"ab"),
    "outside.safetensors": framed(b'{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}', b"ab"),
    "negative.safetensors": framed(b'{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,-1]}}', b""),
    "huge.safetensors": framed(b'{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', b""),
    "backwards.safetensors": framed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}', b"a"),
    "unknown-dtype.safetensors": framed(b'{"a":{"dtype":"O","shape":[1],"data_offsets":[0,1]}}', b"a"),
    "odd-metadata.safetensors": framed(b'{"__metadata__":{"a":1}}'),
    "deep.safetensors": framed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "hidden.safetensors": safetensors(SOUND, {"note": _ENCODED}),
    # GGUF
    "counts.gguf": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + bytes(64),
    "pairs.gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**32) + bytes(64),
    "key.gguf": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63) + bytes(64),
    "cut.gguf": gguf()[:-80],
    "version.gguf": gguf(version=9),
    "big-endian.gguf": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(8),
    "same-key.gguf": gguf({"general.architecture": "other"}),
    "nested.gguf": _nested_gguf(),
    "template.gguf": gguf({"tokenizer.chat_template": "{{ cycler.__init__.__globals__.os.popen('id').read() }}"}),
    "other-template.gguf": gguf({"tokenizer.chat_template.tool_use": "{{ x['__class__'] }}"}),
    "hidden.gguf": gguf({"general.description": _ENCODED}),
    "padding.gguf": gguf() + PAYLOAD[:30],
    # JSON and text
    "twice.json": b'{"a": 1, "a": 2}',
    "nan.json": b'{"a": NaN}',
    "infinite.json": b'{"a": 1e999}',
    "deep.json": b"[" * 200_000 + b"]" * 200_000,
    "cut.json": b'{"a": ',
    "latin.json": b'{"a": "\xe9"}',
    "nul.txt": b"text\0text",
    "encoded.json": json.dumps({"weights": _ENCODED}).encode(),
    "encoded-twice.json": json.dumps({"x": base64.b64encode(_ENCODED.encode()).decode()}).encode(),
    "hexadecimal.json": json.dumps({"x": PAYLOAD.hex()}).encode(),
    "base32.json": json.dumps({"x": base64.b32encode(PAYLOAD).decode()}).encode(),
    "encoded.txt": b"see " + _ENCODED.encode() + b"\n",
    "encoded-archive.txt": base64.b64encode(_torch()),
    "lines.jsonl": b'{"a": 1}\n{"a": 1, "a": 2}\n',
    "ragged.csv": b"a,b\n1\n",
    "escaped.py.txt": repr(PAYLOAD).encode(),
    "latin.jsonl": json.dumps({"x": PAYLOAD.decode("latin-1")}).encode() + b"\n",
    "latin-text.json": json.dumps({"x": [TEXT_PICKLE.decode()]}).encode(),
    "deflated.json": json.dumps({"x": base64.b64encode(zlib.compress(PAYLOAD)).decode()}).encode(),
    "wrapped.txt": base64.encodebytes(PAYLOAD * 3),
    **{f"text{suffix}": b"words\n" for suffix in (".pkl", ".pt", ".bin", ".joblib", ".h5", ".npy", ".zip", ".7z")},
    "hidden-file.safetensors.pkl": safetensors(SOUND),
    "virus-test.txt": b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-" + b"TEST-FILE!$H+H*",
    # wishes for code, and code
    "config.json": b'{"auto_map": {"AutoModel": "modeling.Model"}}',
    "remote.json": b'{"deep": [{"trust_remote_code": true}]}',
    "lambda.json": b'{"config": {"layers": [{"class_name": "Lambda", "config": {"function": ["4wEA", null, null]}}]}}',
    "keras-module.json": b'{"module": "builtins", "class_name": "function", "config": "exec"}',
    "kernel.json": b'{"_attn_implementation": "evil/kernel"}',
    "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {"w": "../../etc/model.safetensors"}}',
    "absolute.index.json": b'{"weight_map": {"w": "/etc/model.safetensors"}}',
    "python-in-metadata.safetensors": safetensors(SOUND, {"info": "import os; os.system('true')"}),
    "template-in-metadata.safetensors": safetensors(SOUND, {"chat_template": "{{ x.__class__ }}"}),
    "python-in-metadata.gguf": gguf({"general.description": "import os\nos.system('true')"}),
    "Dockerfile": b"FROM scratch\n",
    "hydra.json": b'{"model": {"_target_": "os.system", "command": "id"}}',
    "peft.json": b'{"auto_mapping": {"base_model_class": "x", "parent_library": "evil"}}',
    "modules.json": b'[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]',
    "pipelines.json": b'{"custom_pipelines": {"x": {"impl": "pipeline.P"}}}',
    "notebook.json": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "hyperparams.yaml": b"model: !new:os.system\n  command: id\n",
    "object.yaml": b"x: !!python/object/apply:os.system ['id']\n",
    "nemo.yaml": b"model:\n  _target_: os.system\n",
    "jsonpickle.json": b'{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}]}',
    "chain.json": b'{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}',
    "model_index.json": b'{"_class_name": "P", "_diffusers_version": "0.1", "unet": ["evil", "Model"]}',
    "MLmodel": b"flavors:\n  python_function:\n    loader_module: evil\n",
    "net.prototxt": b'layer {\n  type: "Python"\n  python_param { module: "os" }\n}\n',
    "saved_model.pbtxt": b'meta_graphs {\n  graph_def { node { name: "x" op: "ReadFile" } }\n}\n',
    "site.pth": b"import os; os.system('true')\n",
    "model.xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><net/>',
    "model.pmml": b"<PMML version='4.4'></PMML>",
    "paper.txt": b"%PDF-1.4\n",
    "modeling.py": b"pass\n",
    "python.txt": b"import os\nos.system('true')\n",
    "native.so": b"x",
    "library.bin": b"\x7fELF" + bytes(60),
    "program.bin": b"MZ" + bytes(60),
    "mach.bin": b"\xcf\xfa\xed\xfe" + bytes(60),
    "run.txt": b"#!/bin/sh\ntrue\n",
    "page.txt": b"<html><script>1</script></html>",
    # templates
    **{
        f"template-{number}.json": template(body)
        for number, body in enumerate(
            (
                "{{ ''.__class__.__mro__[1].__subclasses__() }}",
                "{{ x['__class__'] }}",
                "{{ x['__cla' ~ 'ss__'] }}",
                "{{ x['__cla' + 'ss__'] }}",
                "{{ x | attr('__class__') }}",
                "{{ x | map(attribute='__class__') | list }}",
                "{{ x | map('attr', '__class__') | list }}",
                "{% set f = x %}{{ f('id') }}",
                "{{ x.y.popen('id') }}",
                "{{ lipsum.__globals__['os'].popen('id').read() }}",
                "{% include '/etc/passwd' %}",
                "{% import 'x' as y %}",
                "{% from 'x' import y %}",
                "{% extends 'x' %}",
                "{% set namespace = x %}{{ namespace('id') }}",
                "{% macro m(range) %}{{ range('id') }}{% endmacro %}",
                "{{ self._TemplateReference__context }}",
                "{{ 9 ** 9 ** 9 }}",
                "{% for i in range(999999999) %}x{% endfor %}",
                "{% for %}",
                "{{ (x).format(messages) }}",
                "{% set k = '__class__' %}{{ x[k] }}",
                "{{ x[['__class', '__'] | join] }}",
                "{{" + "(" * 5000 + ")" * 5000 + "}}",
                "{% set k = '_' * 2 ~ 'class' ~ '_' * 2 %}{{ x[k] }}",
                "{% set a = '_' * 2 %}{% set b = a + 'class' %}{% set c = b %}{{ x[c] }}",
                "{% set ns = namespace(k='') %}{% set ns.k = '_cl' + 'ass' %}{{ x[ns.k] }}",
                "{% set k = ['_', '_class'] | join %}{{ x[k] }}",
                "{% set k %}{{ '_' }}_class{% endset %}{{ x[k] }}",
                "{% set k = dict(__class__=1) | list | first %}{{ x[k] }}",
                "{% for k in ['_' ~ '_class'] %}{{ x[k] }}{% endfor %}",
                "{% macro m(k) %}{{ x[k] }}{% endmacro %}{{ m('_' ~ '_class') }}",
                "{% macro m(k='_' * 2) %}{{ x[k] }}{% endmacro %}{{ m() }}",
                "{% set k = '%s%s' % ('_', '_class') %}{{ x | map(attribute=k) | list }}",
                "{{ '{0.__class__}'.format(x) }}",
                "{{ '{'.format(x.__class__) }}",
                "{{ x[('_' * 2 ~ 'class')] }}",
                "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
                "{% for item in x recursive %}{{ loop.__init__.__globals__ }}{% endfor %}",
                "{{ joiner.__init__.__globals__.os.popen('id') }}",
                "{{ namespace.__init__.__globals__ }}",
                "{{ x | map('string') | map('attr', '_' ~ '_') | list }}",
                "{% call(x) y.z('id') %}{% endcall %}",
                "{% trans %}{{ x }}{% endtrans %}",
                "{% set self = __builtins__ %}{{ self }}",
            )
        )
    },
    "bad.jinja": b"{{ x.__class__ }}",
    "padded.jinja": b"{{ x.__class__ }}" + b"{# padding #}" * 60_000,
    "elsewhere.json": json.dumps({"prompt": "{{ x.__class__ }}"}).encode(),
}
