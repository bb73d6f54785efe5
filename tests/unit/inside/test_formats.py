"""The header readers against generated input: whatever they are given, they end, say what is wrong, and never raise."""

import base64
import hashlib
import io
import json
import pickle
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealrun import venvs
from sealrun.errors import InputMissing
from sealrun.inside.formats import (
    arrow_file,
    containers,
    gguf_file,
    parquet_file,
    pickles,
    safetensors_file,
    sentencepiece_file,
    strict,
    templates,
    texts,
)
from tests import disguises, fuzz, models
from tests.conftest import ROOT


def _parquet(data: bytes) -> Iterator[str]:
    try:
        parquet_file.read_footer(data, 1 << 20)
    except parquet_file.MALFORMED:
        yield "its footer is malformed"


def _arrow(data: bytes) -> Iterator[str]:
    try:
        arrow_file.read_stream(io.BytesIO(data), len(data))
    except parquet_file.MALFORMED:
        yield "is malformed Arrow"


def _said(*found: object) -> Iterator[str]:
    yield from (str(text) for text in found if text)


READERS: dict[str, fuzz.Reader] = {
    "safetensors": lambda data: safetensors_file.check_header(data[8:][: int.from_bytes(data[:8], "little")], 19, {}),
    "gguf": lambda data: gguf_file.read_stream(io.BytesIO(data), len(data), {}),
    "sentencepiece": lambda data: _said(not sentencepiece_file.pieces(data)),
    "parquet": _parquet,
    "arrow": _arrow,
    "pickle": lambda data: _said(pickles.is_pickle(io.BytesIO(data)), *pickles.encoded(data)),
    "archive": lambda data: _said(containers.by_magic(data[:16]), containers.is_tar(data[:512])),
    "json": lambda data: _said(strict.strict_json(data.decode("utf-8", "replace"))[1]),
    "template": lambda data: templates.judge(data.decode("utf-8", "replace"), strictly=True),
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "safetensors": (models.safetensors(models.SOUND, {"format": "pt"}),),
    "gguf": (models.gguf({"tokenizer.chat_template": "{{ x }}", "general.name": "n"}), models.gguf(tensors=0)),
    "sentencepiece": (models.sentencepiece(),),
    "parquet": (models.parquet_footer(7, "text", "label"),),
    "arrow": (models.ARROW_STREAM, models.ARROW_FILE),
    "pickle": (models.PAYLOAD, models.TEXT_PICKLE, b"words and [1, 2]\n", base64.b64encode(models.PAYLOAD)),
    "archive": (models.tarred({"a": b"b"})[:512], models.zipped({"a": b"b"}), b"words"),
    "json": (b'{"a": [1, {"b": null}], "c": 1e5}',),
    "template": (b"{% for m in x %}{{ m.role + '|' }}{% endfor %}{{ x[-1]['a'].strip() }}",),
}
COSTLY = {"template": 20}  # a template costs a parser's work: how many times fewer inputs it gets


def run(reader: str, inputs: int, each: int) -> None:
    """Feed *reader* that many inputs: hypothesis draws, and each draw is varied *each* times."""
    seeds, refused = SEEDS[reader], [0, 0]
    others = [seed for found in SEEDS.values() for seed in found]
    quiet = list(HealthCheck)

    @settings(max_examples=inputs // each, deadline=None, database=None, derandomize=True, suppress_health_check=quiet)
    @given(st.one_of(st.binary(max_size=200), st.sampled_from(seeds)), st.integers(0, 2**32))
    def one(data: bytes, seed: int) -> None:
        for variant in fuzz.variants(data, others, each, seed):
            refused[fuzz.held(READERS[reader], variant)] += 1

    with fuzz.bounded():
        one()
    assert sum(refused) >= inputs // each * each
    assert min(refused) > 0  # some were sound, some were not: the inputs reach what is behind the first look


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"pickle", "archive"}))
def test_an_untouched_file_is_sound(reader: str) -> None:
    """What the inputs are made of is accepted, so that a refusal is about the edit."""
    assert [list(READERS[reader](seed)) for seed in SEEDS[reader]] == [[]] * len(SEEDS[reader])


@pytest.mark.parametrize("reader", READERS)
def test_no_input_makes_a_reader_fail(reader: str) -> None:
    """It ends in time and memory, raises nothing, and says short texts: 2,000 inputs each; the long run is below."""
    run(reader, 2000 // COSTLY.get(reader, 1), 50)


@pytest.mark.heavy
@pytest.mark.parametrize("reader", READERS)
def test_no_input_makes_a_reader_fail_in_the_long_run(reader: str) -> None:
    """200,000 inputs for each reader of a header."""
    run(reader, 200_000 // COSTLY.get(reader, 1), 200)


@pytest.mark.heavy
@pytest.mark.e2e
def test_no_input_makes_the_onnx_reader_fail(tmp_path: Path) -> None:
    """200,000 inputs, in the model environment: the reader stands on ONNX's own library."""
    try:
        python = venvs.existing(ROOT, "model").python
    except InputMissing as error:
        pytest.skip(str(error))
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    subprocess.run([python, "-I", "-c", models.MAKE_ONNX, str(tmp_path / "model.onnx")], check=True)
    command = [python, "-m", "tests.fuzz", "200000", str(tmp_path / "model.onnx")]
    said = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True, timeout=600).stdout
    inputs, refused, untouched = map(int, said.split())
    assert (inputs, untouched) == (200_001, 0)
    assert 0 < refused < inputs


@pytest.mark.parametrize(
    "name", sorted(name for name in models.HONEST if name.endswith((".txt", ".json", ".jsonl", ".md", ".csv")))
)
def test_an_honest_text_is_no_pickle(name: str) -> None:
    """Word lists whose first letters are operations are told apart by what the operations would need on the stack."""
    assert not pickles.is_pickle(io.BytesIO(models.HONEST[name]))


@pytest.mark.parametrize(
    "data", [models.PAYLOAD, models.TEXT_PICKLE, models.TEXT_PICKLE[:-1], b"I0x1\n0" + models.TEXT_PICKLE, b"(" * 2_000_000]
)
def test_a_pickle_is_told_by_what_it_would_do(data: bytes) -> None:
    """Also without its end, behind an argument other readers refuse, and where the walk does not end."""
    assert pickles.is_pickle(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(6))
def test_honest_frames_are_walked_to_their_end(protocol: int, tmp_path: Path) -> None:
    """Long and short objects, in frames and beside them: whole pickles, and pickles by their mark from protocol 2 on."""
    texts_and_bytes = ["x" * 300_000, b"y" * 200_000 if protocol > 2 else "z"]  # before protocol 3 bytes are an import
    value = {"a": [1, 2.5, None, *texts_and_bytes], "b": {str(n): n for n in range(20_000)}}
    (tmp_path / "x").write_bytes(pickle.dumps(value, protocol=protocol))
    assert pickles.is_whole(tmp_path / "x")
    assert pickles.file_is_pickle(tmp_path / "x") == (protocol >= 2)


def test_what_leaves_its_frame_is_a_pickle() -> None:
    """CPython drops the rest of a frame that an argument leaves, so that what it does is not what stands there."""
    assert pickles.is_pickle(io.BytesIO(disguises.LEFT_FRAME))
    assert not pickles.is_pickle(io.BytesIO(b"N" + disguises.LEFT_FRAME[9:]))  # without the frame it ends in an error


def test_every_template_of_honest_models_passes() -> None:
    """Loops, macros, namespaces, generation blocks, string methods."""
    assert list(templates.judge(models.TEMPLATE, strictly=True)) == []


@pytest.mark.parametrize(
    ("pages", "sound"),
    [
        ({9: 4}, True), ({9: 0, 11: 4}, True), ({9: 76, 10: 0, 11: 4}, True), ({9: 0}, False), ({}, False), ({9: 3}, False),
        ({9: 4, 11: -1}, False), ({9: 4, 10: 2}, False), ({9: 64}, False),
    ],
)  # fmt: skip
def test_a_page_at_no_place_is_none(pages: dict[int, int], sound: bool) -> None:
    """Writers say 0 for pages that a column lacks: a table without rows, an index that nobody wrote. One page there must be."""
    with nullcontext() if sound else pytest.raises(ValueError, match="leaves the file"):
        parquet_file._check_place({7: 15, **pages}, 78)


def test_a_parquet_file_says_rows_and_columns(tmp_path: Path) -> None:
    """From the footer alone."""
    details: dict[str, object] = {}
    (tmp_path / "x.parquet").write_bytes(models.parquet(7, "text", "label"))
    assert list(parquet_file.read(tmp_path / "x.parquet", details)) == []
    assert details == {"rows": 7, "columns": ["label", "text"]}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (models.parquet(7, "a")[:-1], "is not where Parquet has it"),
        (models.parquet(7, "a")[:-8] + b"\xff\xff\xff\xffPAR1", "is not where Parquet has it"),
        (b"PAR1" * 4, "is not where Parquet has it"),
        (models.parquet(7, "a", rows_of_group=8), "do not add up"),
        (models.parquet(7, "a", elsewhere="/etc/passwd"), "lies in another file"),
        (models.parquet(7, "a", size=1 << 40), "leaves the file"),
        (models.parquet(7, "a", arrow=b"arrow.py_extension_type"), "Python objects"),
    ],
)
def test_a_parquet_file_that_is_not_sound_is_named(tmp_path: Path, data: bytes, named: str) -> None:
    """A footer out of place, rows that do not add up, columns elsewhere, objects in Arrow's own schema."""
    (tmp_path / "x.parquet").write_bytes(data)
    assert named in " ".join(parquet_file.read(tmp_path / "x.parquet", {}))


@pytest.mark.parametrize("data", [models.ARROW_FILE, models.ARROW_STREAM], ids=["file", "stream"])
def test_an_arrow_file_says_rows_and_columns(tmp_path: Path, data: bytes) -> None:
    """As a file with a footer, and as the stream that data sets are saved as."""
    details: dict[str, object] = {}
    (tmp_path / "x.arrow").write_bytes(data)
    assert list(arrow_file.read(tmp_path / "x.arrow", details)) == []
    assert details == {"rows": 7, "columns": ["label", models.ARROW_COLUMN.decode()]}


def _swapped(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (models.ARROW_STREAM[:-12], "leaves the file"),
        (models.ARROW_STREAM + b"more", "no message stands"),
        (models.ARROW_FILE[:-1], "its footer is not where"),
        (models.ARROW_FILE[:-400] + _swapped(models.ARROW_FILE[-400:], b"label", b"other"), "names other columns"),
        (_swapped(models.ARROW_STREAM, struct.pack("<q", 3), struct.pack("<q", -3)), "less than no rows"),
        (_swapped(models.ARROW_STREAM, models.ARROW_COLUMN, b"arrow.py_extension_type"), "Python objects"),
        (_swapped(models.ARROW_FILE, models.ARROW_COLUMN, b"arrow.py_extension_type"), "Python objects"),
        (models.ARROW_STREAM[:8] + bytes(400), "malformed Arrow"),
    ],
)
def test_an_arrow_file_that_is_not_sound_is_named(tmp_path: Path, data: bytes, named: str) -> None:
    """Cut short, with something behind it, a footer about other batches, an extension type that unpickles on reading."""
    (tmp_path / "x.arrow").write_bytes(data)
    assert named in " ".join(arrow_file.read(tmp_path / "x.arrow", {}))


@pytest.mark.parametrize(
    "filler",
    [b"\n", b" ", b"\t", b"A", b"=", b"A" * 30 + b"\n", b"<~", b"0x80, ", b"- ", b",", b'"', b"begin 644 x\n", b": !", b"{{ ", b"_" * 27 + b" ",
     b"node\n", b"=\ncmd ", b"!!pytho", b"(", b"S'a'\n", b"@" * 60 + b" "],
)  # fmt: skip
def test_no_text_takes_long(tmp_path: Path, filler: bytes) -> None:
    """Repeated for ever, what the patterns begin with costs time in step with its length: seconds of the processor at most."""
    file = tmp_path / "text.yaml"
    file.write_bytes(filler * (400_000 // len(filler)))
    begun = time.process_time()
    list(texts.read(file, texts.kind_of(file), {}, []))
    pickles.file_is_pickle(file)
    assert time.process_time() - begun < 3


def test_a_line_that_is_wrong_is_named_and_a_million_are_not(tmp_path: Path) -> None:
    """What is found in JSON lines has its line; a file of nothing else ends soon, and says that the rest was not read."""
    file = tmp_path / "data.jsonl"
    file.write_bytes(b'{"a": 1}\n\n{"auto_map": {"A": "b.C"}}\n' + json.dumps({"x": list(models.PAYLOAD)}).encode() + b"\n")
    code: list[str] = []
    problems = list(texts.read(file, "jsonl", {}, code))
    assert problems == ["line 2: is empty", "line 4: a list in it is a pickle, a byte for a number"]
    assert code == ["line 3: auto_map names code to load"]
    file.write_bytes(b"\n" * 1_000_000)
    assert len(problems := list(texts.read(file, "jsonl", {}, code))) < 30 and "were not read" in problems[-1]


def test_lists_of_digests_hide_nothing() -> None:
    """Random bytes in base64 or hexadecimal are not taken for pickles or archives: 100,000 digests, and a long blob."""
    digests = [hashlib.sha256(b"%d" % n).digest() for n in range(100_000)]
    assert list(pickles.encoded(b"\n".join(digest.hex().encode() for digest in digests))) == []
    assert list(pickles.encoded(b"\n".join(base64.b64encode(digest) for digest in digests))) == []
    assert list(pickles.encoded(base64.b64encode(b"".join(digests[:30_000])))) == []
    assert list(pickles.encoded(base64.b64encode(b"".join(digests[:999]) + models.PAYLOAD))) != []
