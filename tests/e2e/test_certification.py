"""Certify and verify with the real tools on real models: what is harmless passes, what harms is refused, bytes are the same."""

import json
import shutil
from pathlib import Path

import pytest

from sealrun import digest, files, pipeline
from sealrun.stage import Context
from sealrun.stages import certify, verify
from tests import damages
from tests.certification import EXAMPLE, outcomes, real_release, score

pytestmark = pytest.mark.e2e
ALL = {control: "passed" for stage in (certify.STAGE, verify.STAGE) for control in stage.controls}


def run(context: Context) -> dict[str, str]:
    """Run both stages and return control to outcome."""
    said = [pipeline.execute(stage, context).predicate for stage in (certify.STAGE, verify.STAGE)]
    assert [predicate.error for predicate in said] == ["", ""]
    assert {predicate.network for predicate in said} <= {"denied", "unused"}
    return outcomes(said[0].outcomes + said[1].outcomes)


def test_two_folders_give_the_same_bytes(tmp_path: Path) -> None:
    """The int8 candidate passes, and its evidence does not say where or when it was made."""
    found = []
    for name in ("one", "another one"):
        context = real_release(tmp_path / name)
        assert run(context) == ALL
        names = [f"{stage}/{file}" for stage in ("certify", "verify") for file in files.walk_files(context.evidence(stage))]
        found.append({file: (context.out / "evidence" / file).read_bytes() for file in names})
    assert found[0] == found[1]
    assert not any(str(tmp_path).encode() in data for data in found[0].values())


def test_the_damaged_candidate_is_refused(tmp_path: Path) -> None:
    """One block of noise: a regression, under a genuine certificate."""
    expected = {**ALL, "certify.regression": "failed", "verify.invarlock": "failed"}
    assert run(real_release(tmp_path, "damaged")) == expected


def test_many_candidates_of_one_baseline_score_it_once(tmp_path: Path) -> None:
    """A second candidate finds the baseline's records by the digests of what they are of, and scores itself alone; records
    that were touched in between are scored again."""
    scored = []
    for name, touched in (("candidate", False), ("damaged", False), ("damaged", True)):
        context = real_release(tmp_path / f"{len(scored)}", name)
        if scored:
            shutil.copytree(tmp_path / "0" / "build" / "records", context.out.parent / "records", dirs_exist_ok=True)
        if touched:
            for kept in context.out.parent.glob("records/*/records.jsonl"):
                kept.write_bytes(kept.read_bytes().replace(b"-", b"-1", 1))
        pipeline.execute(certify.STAGE, context)
        scored.append({name for name in pipeline.progress_of(context, "certify").programs if name.startswith("score-")})
    assert scored == [{"score-baseline", "score-candidate"}, {"score-candidate"}, {"score-baseline", "score-candidate"}]


def test_records_that_no_model_made_are_witnessed(tmp_path: Path) -> None:
    """Kept records are edited before certify uses them, so that InvarLock judges and signs them in good faith: the damaged
    candidate passes everything, but its cases scored again do not agree."""
    context = real_release(tmp_path, "damaged")
    pipeline.execute(certify.STAGE, context)
    folders = {path.parent for path in (context.out.parent / "records").glob("*/records.jsonl")}
    headers = {folder: json.loads((folder / "records.jsonl").read_text().splitlines()[0]) for folder in folders}
    theirs, ours = sorted(folders, key=lambda folder: headers[folder]["model_sha256"] != digest.of_file(
        EXAMPLE / "baseline" / "model.onnx"))  # fmt: skip
    old, new = (headers[folder]["model_sha256"] for folder in (theirs, ours))
    forged = (theirs / "records.jsonl").read_text().replace(old, new).encode()
    (ours / "records.jsonl").write_bytes(forged)
    (ours / "complete.json").write_text(json.dumps({"sha256": digest.of_bytes(forged)}))
    context.statement_path("certify").unlink()
    assert run(context) == {**ALL, "verify.witnessed": "failed"}


@pytest.mark.heavy
@pytest.mark.parametrize("damage", damages.CATALOGUE, ids=lambda damage: damage.name)
def test_what_harms_is_refused_and_what_does_not_passes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, damage: damages.Damage
) -> None:
    """Every change of the catalogue, through the gates model, certify and verify: harmful is refused, harmless passes."""
    shared = tmp_path_factory.getbasetemp() / "shared"
    context = damages.released(damage, tmp_path / "release", shared, cases=60)
    refused = damages.refusals(damages.said(context))
    assert damage.refused_by in refused if damage.refused_by else not refused


@pytest.mark.parametrize("model", ["baseline", "candidate", "damaged"])
def test_the_scorer_agrees_with_the_example(tmp_path: Path, model: str) -> None:
    """The likelihood that the example's maker measured by other code is found again."""
    figures = json.loads((EXAMPLE / "figures.json").read_bytes())
    records = score(tmp_path, EXAMPLE / model, EXAMPLE / "data" / "eval.jsonl", 1024)
    loss = -sum(record.logprob_sum or 0.0 for record in records.scored)
    size = sum(record.utf8_byte_count for record in records.scored)
    assert (len(records.scored), size) == (figures["cases"], figures["utf8_bytes"])
    assert loss / size == pytest.approx(figures["nll_per_utf8_byte"][model], abs=6e-5)


def test_long_texts_are_scored_in_pieces_without_losing_a_token(tmp_path: Path) -> None:
    """A small window sees less context, so the loss grows, but every token is still predicted once."""
    data = tmp_path / "data.jsonl"
    data.write_bytes(b"".join((EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:5]))
    whole, pieces = (score(tmp_path, EXAMPLE / "baseline", data, window) for window in (1024, 16))
    assert [record.token_count for record in pieces.cases] == [record.token_count for record in whole.cases]
    for long, short in zip(whole.scored, pieces.scored, strict=True):
        assert (short.logprob_sum or 0.0) < (long.logprob_sum or 0.0)


def test_a_text_longer_than_the_model_is_an_error_of_that_case(tmp_path: Path) -> None:
    """What the runtime refuses has no number; the other cases keep theirs."""
    data = tmp_path / "data.jsonl"
    texts = ["A short text.", "On Monday Anna swept the yard. " * 40]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    records = score(tmp_path, EXAMPLE / "candidate", data, 1024)
    assert [(record.id, record.error is None) for record in records.cases] == [("line-1", True), ("line-2", False)]
