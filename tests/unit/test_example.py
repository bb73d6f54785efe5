"""The embedded example is what its README says, and its recipe makes it again."""

import importlib.util
import json
import os
import re
import struct
import subprocess
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-lm"
MODELS = ("baseline", "candidate", "damaged")
MODEL_FILES = {"README.md", "config.json", "model.onnx", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
GRID_STEPS = 64
Tensors = dict[str, tuple[tuple[int, ...], tuple[float, ...]]]


def _json(*parts: str) -> Any:
    return json.loads(EXAMPLE.joinpath(*parts).read_text(encoding="utf-8"))


def _cases() -> list[dict[str, str]]:
    return [json.loads(line) for line in (EXAMPLE / "data" / "eval.jsonl").read_text(encoding="utf-8").splitlines()]


def _header(model: str) -> tuple[dict[str, Any], bytes]:
    content = (EXAMPLE / model / "model.safetensors").read_bytes()
    [size] = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def _tensors(model: str) -> Tensors:
    header, body = _header(model)
    return {
        name: (tuple(entry["shape"]), _floats(body[slice(*entry["data_offsets"])]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _floats(content: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(content) // 4}f", content)


def _is_matrix_of_a_product(name: str) -> bool:
    return name.endswith("weight") and "ln_" not in name and "wpe" not in name


def _channels(name: str, shape: tuple[int, ...], values: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Return the weights of each output: the embedding's rows, the other matrices' columns."""
    width = shape[1]
    if "wte" in name:
        return [values[start : start + width] for start in range(0, len(values), width)]
    return [values[column::width] for column in range(width)]


def _on_grid(channel: tuple[float, ...]) -> bool:
    step = max(map(abs, channel)) / GRID_STEPS
    return all(abs(value / step - round(value / step)) < 1e-3 for value in channel)


def _recipe_text() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tiny_lm_text", EXAMPLE / "recipe" / "text.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_cases_are_numbered_texts() -> None:
    """A case is an id and a text of plain ASCII, the ids count up from one, and no text occurs twice."""
    cases = _cases()
    assert [case["id"] for case in cases] == [f"case-{number:04}" for number in range(1, len(cases) + 1)]
    assert all(set(case) == {"id", "text"} and case["text"].isascii() for case in cases)
    assert len({case["text"] for case in cases}) == len(cases)


def test_no_case_was_trained_on() -> None:
    """The grammar draws the tokenizer's texts, then the cases, then the training texts, and never one text twice."""
    text = _recipe_text()
    drawn = list(islice(text.documents(), 3 * text.TRAINING))
    assert len(set(drawn)) == len(drawn)
    place = {document: index for index, document in enumerate(drawn)}
    places = [place[case["text"]] for case in _cases()]
    assert places == sorted(places)
    assert places[0] >= text.TRAINING
    assert places[-1] < 2 * text.TRAINING, "the cases should be drawn in one go, before the training texts"


@pytest.mark.parametrize("model", MODELS)
def test_a_model_folder_is_complete(model: str) -> None:
    """Each of the three can be released: the same files by name, and byte-equal configuration and tokenizer."""
    assert {path.name for path in (EXAMPLE / model).iterdir()} == MODEL_FILES
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (EXAMPLE / model / name).read_bytes() == (EXAMPLE / "baseline" / name).read_bytes()


def test_tokenizer_fits_the_model() -> None:
    """Token ids are 0 to vocabulary size, all 256 bytes have one, and the special ones are where the model says."""
    config, tokenizer = _json("baseline", "config.json"), _json("baseline", "tokenizer.json")
    named = _json("baseline", "tokenizer_config.json")
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))
    assert sum(len(token) == 1 for token in vocabulary) == 256
    for kind in ("bos", "eos", "pad"):
        assert vocabulary[named[f"{kind}_token"]] == config[f"{kind}_token_id"]


@pytest.mark.parametrize("model", MODELS)
def test_safetensors_hold_a_gpt2(model: str) -> None:
    """Names and shapes are those of GPT2LMHeadModel with tied embeddings; float32 without gap or rest."""
    config = _json(model, "config.json")
    width, h = config["n_embd"], "transformer.h"
    expected = {
        "transformer.wte.weight": [config["vocab_size"], width],
        "transformer.wpe.weight": [config["n_positions"], width],
        "transformer.ln_f.weight": [width],
        "transformer.ln_f.bias": [width],
    }
    for layer in range(config["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            expected |= {f"{h}.{layer}.{norm}.{part}": [width] for part in ("weight", "bias")}
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            expected |= {f"{h}.{layer}.{name}.weight": [inputs, outputs], f"{h}.{layer}.{name}.bias": [outputs]}
    header, body = _header(model)
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {name: entry["shape"] for name, entry in header.items()} == expected
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(body)]


def test_candidate_is_the_baseline_on_an_int8_grid() -> None:
    """The candidate's matrices have at most 129 values a channel, next to the baseline's; all else is equal."""
    baseline, candidate = _tensors("baseline"), _tensors("candidate")
    for name, (shape, values) in candidate.items():
        if not _is_matrix_of_a_product(name):
            assert values == baseline[name][1], name
            continue
        channels = zip(_channels(name, shape, values), _channels(name, *baseline[name]), strict=True)
        for rounded, original in channels:
            half_step = max(map(abs, original)) / GRID_STEPS / 2
            assert _on_grid(rounded), name
            assert not _on_grid(original), name
            assert all(abs(a - b) < 1.001 * half_step for a, b in zip(rounded, original, strict=True)), name


def test_damage_is_in_one_block() -> None:
    """The damaged model is the candidate but for the matrices of its second block, and those are on a grid too."""
    candidate, damaged = _tensors("candidate"), _tensors("damaged")
    changed = {name for name in candidate if candidate[name] != damaged[name]}
    assert changed == {name for name in candidate if _is_matrix_of_a_product(name) and ".h.1." in name}
    assert all(_on_grid(channel) for name in changed for channel in _channels(name, *damaged[name]))


@pytest.mark.parametrize("model", MODELS)
def test_onnx_files_tell_no_tool_and_no_path(model: str) -> None:
    """Nothing in the graph depends on who wrote it: no producer, no documentation string, no path."""
    content = (EXAMPLE / model / "model.onnx").read_bytes()
    assert content[:2] == b"\x08\x08", "ir_version 8 comes first"
    assert content[2:3] == b"\x3a", "the graph comes next: neither producer nor domain nor version is set"
    assert re.search(rb"onnx\.quantize|onnxruntime|/tmp|/home|/root|\.py\b", content) is None
    assert (b"MatMulInteger" in content) == (model != "baseline")


def test_figures_say_what_the_example_is_for() -> None:
    """The model learned, int8 costs next to nothing, damage costs much; the counts are those of the cases."""
    figures, cases = _json("figures.json"), _cases()
    loss = figures["nll_per_utf8_byte"]
    assert (figures["cases"], figures["utf8_bytes"]) == (len(cases), sum(len(case["text"].encode()) for case in cases))
    assert loss["baseline"] < loss["unigram"] / 10
    assert 0.99 < loss["candidate"] / loss["baseline"] < 1.01
    assert loss["damaged"] > 5 * loss["candidate"]
    assert min(figures["tokens"], 64 * figures["cases"]) >= 50_000, "too little text for a release profile"


def test_readme_and_cards_quote_the_figures() -> None:
    """Every figure of figures.json stands in the README, and each model's own in its card."""
    figures, readme = _json("figures.json"), (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for count in ("cases", "tokens", "utf8_bytes"):
        assert f"{figures[count]:,}" in readme, count
    for name, loss in figures["nll_per_utf8_byte"].items():
        assert re.search(rf"^\| {name} \|.*\| {loss:.5f} \|", readme, re.MULTILINE), name
    for model in MODELS:
        card = (EXAMPLE / model / "README.md").read_text(encoding="utf-8")
        assert str(figures["nll_per_utf8_byte"][model]) in card
        for file in ("model.onnx", "model.safetensors"):
            kilobytes = round((EXAMPLE / model / file).stat().st_size / 1000)
            assert re.search(rf"^\| {model} \|.*\b{kilobytes} kB", readme, re.MULTILINE), (model, file, kilobytes)


def test_the_example_is_small() -> None:
    """A clone pays at most 3.5 MB for the example, packed or not."""
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 3_500_000


@pytest.mark.heavy
def test_make_regenerates_every_byte(tmp_path: Path) -> None:
    """make.py writes the committed files again, from any folder; floats may differ on another kind of processor."""
    python = os.environ.get("SEALRUN_EXAMPLE_PYTHON")
    if python is None:
        pytest.skip("SEALRUN_EXAMPLE_PYTHON does not name an interpreter with requirements/example.txt installed")
    command = [python, "-B", str(EXAMPLE / "make.py"), "--out", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=900)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 2 + len(MODELS) * len(MODEL_FILES)
    assert [path for path in sorted(made) if (tmp_path / path).read_bytes() != (EXAMPLE / path).read_bytes()] == []
