"""The scorers: the same bytes for any number of workers and threads, a stated tolerance for batches, resumed, with references."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from sealrun import digest, venvs
from sealrun.reports.records import Records, parse_records
from sealrun.stage import INSIDE
from tests import engine_releases
from tests.certification import CHECKOUT, EXAMPLE

pytestmark = pytest.mark.e2e
TOLERANCE = 1e-5  # of a log probability, as a share; what docs/certify.md states for batches and for runtimes
CASES = 40


def score(
    tmp: Path, model: str = "baseline", *, runtime: str = "onnx", name: str = "records", data: bytes | None = None,
    variables: dict[str, str] | None = None, **options: object,
) -> bytes:  # fmt: skip
    """Run a scorer by itself and return the records that it wrote."""
    lines = (EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:CASES]
    (tmp / "data.jsonl").write_bytes(b"".join(lines) if data is None else data)
    artifact = {"onnx": "model.onnx", "transformers": "model.safetensors"}[runtime]
    job = {
        "model": str(EXAMPLE / model / artifact), "tokenizer": str(EXAMPLE / model / "tokenizer.json"),
        "data": str(tmp / "data.jsonl"), "text_field": "text", "reference_field": None, "joiner": " ", "window": 1024,
        "batch": 1, "device": "cpu", "workers": 1, **options,
    }  # fmt: skip
    (tmp / "job.json").write_text(json.dumps(job))
    python = venvs.existing(CHECKOUT, f"runtime-{runtime}").python
    argv = [str(python), "-I", "-B", str(INSIDE / f"score_{runtime}.py"), str(tmp / "job.json"), str(tmp / name)]
    subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **(variables or {})}, timeout=300)
    return (tmp / name).read_bytes()


def apart(one: Records, other: Records) -> float:
    """How far two records of the same cases lie apart, as a share of the first, at most."""
    pairs = zip(one.scored, other.scored, strict=True)
    return max(abs((a.logprob_sum or 0) - (b.logprob_sum or 0)) / abs(a.logprob_sum or 1) for a, b in pairs)


@pytest.mark.parametrize("batch", [1, 8])
def test_any_number_of_workers_and_threads_gives_the_same_bytes(tmp_path: Path, batch: int) -> None:
    """One worker or three, whatever the libraries are told about threads: the same records."""
    first = score(tmp_path, batch=batch)
    assert score(tmp_path, batch=batch, workers=3, name="three") == first
    assert score(tmp_path, batch=batch, workers=2, name="two", variables={"OMP_NUM_THREADS": "4"}) == first


def test_batches_stay_within_the_stated_tolerance(tmp_path: Path) -> None:
    """A batch changes no number by more than what the documents state, and the header names its size."""
    alone, batched = (parse_records(score(tmp_path, batch=batch), "records") for batch in (1, 8))
    assert (alone.header.batch, batched.header.batch) == (1, 8)
    assert apart(alone, batched) <= TOLERANCE


def test_a_dynamically_quantised_model_is_scored_one_text_at_a_time(tmp_path: Path) -> None:
    """Its numbers would depend on the neighbours in a batch, so there are none, whatever was asked for."""
    assert score(tmp_path, "candidate", batch=8) == score(tmp_path, "candidate", batch=1)


def test_what_was_scored_is_not_scored_again(tmp_path: Path) -> None:
    """Lines of an ended run are taken over, a torn one is not, and the records are those of a run in one go."""
    whole = score(tmp_path)
    records = [json.loads(line) for line in whole.splitlines()[1:]]
    known = [{name: value for name, value in record.items() if name not in ("id", "model_sha256")} for record in records]
    known[3]["error"], known[3]["logprob_sum"] = "taken over", None
    lines = [json.dumps([index, record]) for index, record in enumerate(known[:20])]
    (tmp_path / "again.part-0").write_text("\n".join(lines) + '\n[25, {"logprob_sum": -1')
    again = score(tmp_path, name="again", workers=2).splitlines()
    assert json.loads(again[4])["error"] == "taken over"
    assert [line for number, line in enumerate(again) if number != 4] == [
        line for number, line in enumerate(whole.splitlines()) if number != 4
    ]
    assert not list(tmp_path.glob("again.part-*"))


def test_with_references_only_they_count_and_the_model_answers(tmp_path: Path) -> None:
    """The answer is the reference exactly when every token of it is the likeliest; its bytes alone are counted."""
    data = engine_releases.sentences(CASES)
    options = {"text_field": "question", "reference_field": "answer"}
    scored = parse_records(score(tmp_path, data=data, **options), "records").cases
    answers = [json.loads(line)["answer"] for line in data.splitlines()]
    assert [record.utf8_byte_count for record in scored] == [len(answer) for answer in answers]
    right = [record.output == answer for record, answer in zip(scored, answers, strict=True)]
    assert 0 < sum(right) < len(right)
    for record, answer, is_right in zip(scored, answers, right, strict=True):
        assert record.output is not None
        assert (digest.of_bytes(record.output.encode()) == record.text_sha256) == is_right
        if is_right:  # each of its tokens is at least as likely as any other of 512
            assert (record.logprob_sum or 0) / record.token_count > -6.24, answer


@pytest.mark.heavy
def test_transformers_agrees_with_onnx(tmp_path: Path) -> None:
    """The same weights in both runtimes: the same likelihoods within the stated tolerance, batched, by any number of workers."""
    engine_releases.needs("runtime-transformers")
    onnx = parse_records(score(tmp_path), "records")
    first = score(tmp_path, runtime="transformers", batch=8, name="t1")
    assert score(tmp_path, runtime="transformers", batch=8, workers=2, name="t2") == first
    assert apart(onnx, parse_records(first, "records")) <= TOLERANCE
