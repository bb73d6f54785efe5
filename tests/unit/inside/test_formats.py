"""The header readers against generated input: whatever they are given, they end, say what is wrong, and never raise."""

import base64
import hashlib
import io
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealrun.inside.formats import (
    containers,
    gguf_file,
    pickles,
    safetensors_file,
    sentencepiece_file,
    strict,
    tables,
    templates,
)
from tests import models

_SEEDS = {
    "safetensors": models.safetensors(models.SOUND, {"format": "pt"}),
    "gguf": models.gguf({"tokenizer.chat_template": models.TEMPLATE}),
    "sentencepiece": models.sentencepiece(),
    "pickle": models.PAYLOAD,
    "text pickle": models.TEXT_PICKLE,
    "json": b'{"a": [1, {"b": null}], "c": 1e5}',
    "template": models.TEMPLATE.encode(),
    "tar": models.tarred({"a": b"b"})[:512],
}


def _gguf(data: bytes) -> list[str]:
    return list(gguf_file.read_stream(io.BytesIO(data), len(data), {}))


def _footer(data: bytes) -> None:
    for reader in (tables.parquet_footer, tables.arrow_footer):
        with suppress(ValueError, IndexError, KeyError, TypeError, struct.error, RecursionError):
            reader(data)


READERS: dict[str, Callable[[bytes], object]] = {
    "safetensors": lambda data: list(safetensors_file.check_header(data[8:], len(data), {})),
    "gguf": _gguf,
    "sentencepiece": sentencepiece_file.pieces,
    "pickle": lambda data: (pickles.is_pickle(io.BytesIO(data)), list(pickles.encoded(data))),
    "json": lambda data: strict.strict_json(data.decode("utf-8", "replace")),
    "template": lambda data: list(templates.judge(data.decode("utf-8", "replace"), strictly=True)),
    "archive": lambda data: (containers.by_magic(data[:16]), containers.is_tar(data[:512])),
    "footer": _footer,
}


def _edited(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, count, new in edits:
        start = at % (len(seed) + 1)
        seed = seed[:start] + new + seed[start + count :]
    return seed


EDITS = st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 9), st.binary(max_size=9)), max_size=6)
INPUTS = st.one_of(st.binary(max_size=400), st.builds(_edited, st.sampled_from(sorted(_SEEDS.values())), EDITS))


def fuzz(reader: str, examples: int) -> None:
    """Feed *reader* that many inputs."""

    @settings(max_examples=examples, deadline=2000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(INPUTS)
    def one(data: bytes) -> None:
        READERS[reader](data)

    one()


@pytest.mark.parametrize("reader", READERS)
def test_no_input_makes_a_reader_fail(reader: str) -> None:
    """A few hundred inputs each; the long run is below."""
    fuzz(reader, 300)


@pytest.mark.heavy
@pytest.mark.parametrize("reader", READERS)
def test_no_input_makes_a_reader_fail_in_the_long_run(reader: str) -> None:
    """SEALRUN_FUZZ_INPUTS inputs for each reader: 3,000 unless told, 200,000 before a release."""
    fuzz(reader, int(os.environ.get("SEALRUN_FUZZ_INPUTS", "3000")))


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


def test_every_template_of_honest_models_passes() -> None:
    """Loops, macros, namespaces, generation blocks, string methods."""
    assert list(templates.judge(models.TEMPLATE, strictly=True)) == []


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def parquet(rows: int, *columns: str) -> bytes:
    """Return a Parquet file with a footer and no data."""
    leaf = b"".join(b"\x15\x02\x38" + _varint(len(name)) + name.encode() + b"\0" for name in columns)
    root = b"\x48\x06schema\x15" + _varint(2 * len(columns)) + b"\0"
    schema = b"\x19" + bytes([(len(columns) + 1) << 4 | 12]) + root + leaf
    footer = b"\x15\x02" + schema + b"\x16" + _varint(rows * 2) + b"\x19\x0c" + b"\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_a_parquet_file_says_rows_and_columns(tmp_path: Path) -> None:
    """From the footer alone."""
    details: dict[str, object] = {}
    (tmp_path / "x.parquet").write_bytes(parquet(7, "text", "label"))
    assert list(tables.read(tmp_path / "x.parquet", "parquet", details)) == []
    assert details == {"rows": 7, "columns": ["label", "text"]}


@pytest.mark.parametrize("data", [parquet(7, "a")[:-1], parquet(7, "a")[:-8] + b"\xff\xff\xff\xffPAR1", b"PAR1" * 4])
def test_a_cut_parquet_file_is_named(tmp_path: Path, data: bytes) -> None:
    """A footer that is not where it should be, or not one."""
    (tmp_path / "x.parquet").write_bytes(data)
    assert list(tables.read(tmp_path / "x.parquet", "parquet", {}))


def test_arrow_files_with_python_objects_are_named(tmp_path: Path) -> None:
    """An extension type that unpickles on reading is refused by its name."""
    footer = b"arrow.py_extension_type".ljust(64, b"\0")
    (tmp_path / "x.arrow").write_bytes(b"ARROW1\0\0" + footer + struct.pack("<I", len(footer)) + b"ARROW1")
    assert "has a column of Python objects" in list(tables.read(tmp_path / "x.arrow", "arrow", {}))


def test_lists_of_digests_hide_nothing() -> None:
    """Random bytes in base64 or hexadecimal are not taken for pickles or archives: 100,000 digests, and a long blob."""
    digests = [hashlib.sha256(b"%d" % n).digest() for n in range(100_000)]
    assert list(pickles.encoded(b"\n".join(digest.hex().encode() for digest in digests))) == []
    assert list(pickles.encoded(b"\n".join(base64.b64encode(digest) for digest in digests))) == []
    assert list(pickles.encoded(base64.b64encode(b"".join(digests[:30_000])))) == []
    assert list(pickles.encoded(base64.b64encode(b"".join(digests[:999]) + models.PAYLOAD))) != []
