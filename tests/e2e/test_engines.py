"""Every engine with real tools on real models: what is harmless releases, what harms is refused, the same bytes each time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sealrun import digest, pipeline
from sealrun.outcome import Verdict
from sealrun.reports.exports import LABEL
from sealrun.stage import Context
from sealrun.stages import certify
from tests import engine_releases
from tests.engine_releases import evidence, needs, refused, release, run, sentences

pytestmark = pytest.mark.e2e
NOT_RUN = "not evaluated: spectral, rmt"


def samples(wrong: set[int], choice: bool, count: int = 60) -> bytes:
    """What lm-eval's `--log_samples` writes for a task of *count* cases, of which those *wrong* are answered wrongly."""
    rows = []
    for number in range(count):
        right = number not in wrong
        row: dict[str, object] = {
            "doc_id": number, "doc": {"query": f"Question {number}?", "gold": 1}, "doc_hash": "a", "prompt_hash": "b",
            "target_hash": "c", "filter": "none", "metrics": ["acc"], "acc": float(right),
        }  # fmt: skip
        if choice:
            likelihoods = [["-9.5", "False"], ["-1.25", "True"]] if right else [["-1.25", "True"], ["-9.5", "False"]]
            arguments = {
                f"gen_args_{n}": {"arg_0": f"Question {number}?", "arg_1": text} for n, text in enumerate((" no", " yes"))
            }
            row |= {
                "target": "1",
                "arguments": arguments,
                "resps": [[pair] for pair in likelihoods],
                "filtered_resps": likelihoods,
            }
        else:
            answer = "yes" if right else "no"
            arguments = {"gen_args_0": {"arg_0": f"Question {number}?", "arg_1": {"until": ["\n"]}}}
            row |= {"target": "yes", "arguments": arguments, "resps": [[answer]], "filtered_resps": [answer]}
        rows.append(json.dumps(row) + "\n")
    return "".join(rows).encode()


def imported(tmp: Path, baseline: bytes, candidate: bytes, adapter: str = "lm-eval-samples", metric: str = "acc") -> Context:
    """A release that compares two exports."""
    tmp.mkdir(exist_ok=True)
    table = (
        f'engine = "imported"\n[certify.imported]\nadapter = "{adapter}"\nevaluator = "lm-eval"\nversion = "0.4.9"\n'
        f'metric = "{metric}"\n'
    )
    for role, data in (("baseline", baseline), ("candidate", candidate)):
        table += f'{role} = {{ path = "{role}.jsonl", sha256 = "{digest.of_bytes(data)}" }}\n'
    context = release(tmp, table, profile=engine_releases.PROFILE + "max_score_drop = 0.1\nmax_score_interval_width = 0.3\n")
    for role, data in (("baseline", baseline), ("candidate", candidate)):
        (context.plan.base / f"{role}.jsonl").write_bytes(data)
    return context


@pytest.mark.parametrize("choice", [False, True], ids=["generated", "multiple choice"])
def test_an_lm_eval_export_releases(tmp_path: Path, choice: bool) -> None:
    """Two exports whose scores hardly differ pass every control, labelled as what they are, with nothing said to be witnessed."""
    outcomes = run(imported(tmp_path, samples({3, 9}, choice), samples({3, 11}, choice)))
    assert refused(outcomes) == set()
    assert LABEL in outcomes["certify.completed"].seen
    assert (outcomes["verify.witnessed"].outcome, outcomes["verify.witnessed"].seen) == ("not_applicable", LABEL)


def inspect_log(wrong: set[int], count: int = 60) -> bytes:
    """What Inspect writes for a run of *count* samples, as JSON."""
    rows = [
        {
            "id": number, "epoch": 1, "input": f"Question {number}?", "target": "yes", "metadata": {},
            "output": {"choices": [{"message": {"content": "no" if number in wrong else "yes"}}]},
            "scores": {"match": {"value": "I" if number in wrong else "C"}},
        }
        for number in range(count)
    ]  # fmt: skip
    return json.dumps({"version": 2, "status": "success", "samples": rows}).encode()


def promptfoo_results(wrong: set[int], count: int = 60) -> bytes:
    """What promptfoo writes for one prompt and *count* tests, as JSON lines."""
    rows = []
    for number in range(count):
        row: dict[str, object] = {"testIdx": number, "promptIdx": 0, "testCase": {"vars": {"question": number}}}
        row |= {"prompt": {"raw": f"Question {number}?"}, "response": {"output": "no" if number in wrong else "yes"}}
        if number in wrong:
            grading = {"pass": False, "score": 0, "reason": "it is no"}
            row |= {"score": 0, "success": False, "failureReason": 1, "gradingResult": grading, "error": "it is no"}
        else:
            row |= {"score": 1, "success": True, "failureReason": 0}
        rows.append(json.dumps(row) + "\n")
    return "".join(rows).encode()


@pytest.mark.parametrize(
    ("adapter", "export", "metric"),
    [("inspect-json", inspect_log, "match"), ("promptfoo-jsonl", promptfoo_results, "score")],
    ids=["inspect", "promptfoo"],
)
def test_other_evaluators_release_too(tmp_path: Path, adapter: str, export: Callable[[set[int]], bytes], metric: str) -> None:
    """Inspect's log and promptfoo's results go the same way, with the score that they recorded."""
    outcomes = run(imported(tmp_path, export({3, 9}), export({3, 11}), adapter, metric))
    assert refused(outcomes) == set(), outcomes


def test_an_export_that_shows_a_regression_is_refused(tmp_path: Path) -> None:
    """A third of the answers lost: refused, under a certificate that verifies as what it is."""
    outcomes = run(imported(tmp_path, samples({3}, choice=False), samples(set(range(0, 60, 3)), choice=False)))
    assert {"certify.regression", "verify.invarlock"} <= refused(outcomes)


def test_an_export_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """One byte more, and nothing is judged."""
    context = imported(tmp_path, samples({3}, choice=False), samples({3}, choice=False))
    with (context.plan.base / "candidate.jsonl").open("ab") as stream:
        stream.write(b"\n")
    predicate = pipeline.execute(certify.STAGE, context).predicate
    assert (predicate.verdict, predicate.error_code) == (Verdict.ERROR, 5)
    assert "pinned is" in predicate.error


def test_references_are_judged_by_likelihood_and_by_exact_match(tmp_path: Path) -> None:
    """Data with references: InvarLock compares both metrics, and our recomputation agrees with both."""
    fields = 'text_field = "question"\nreference_field = "answer"'
    limits = engine_releases.PROFILE.replace("min_tokens = 500", "min_tokens = 20").replace("width = 0.02", "width = 0.5")
    loose = limits.replace("max_ratio = 1.02", "max_ratio = 1.5") + "max_score_drop = 0.3\nmax_score_interval_width = 0.6\n"
    context = release(tmp_path, 'profile = "release"', data=sentences(60), fields=fields, profile=loose)
    outcomes = run(context)
    assert refused(outcomes) == set(), outcomes
    said = json.loads((context.evidence("certify") / "certificate" / "reports" / "evaluation.report.json").read_bytes())
    assert [metric["name"] for metric in said["metrics"]] == ["normalized_nll_per_utf8_byte", "exact_match"]


@pytest.mark.heavy
def test_a_safetensors_baseline_against_an_onnx_candidate_certifies(tmp_path: Path) -> None:
    """Different runtimes on the two sides: int8 ONNX against the trained checkpoint passes, and both runtimes are named."""
    needs("runtime-transformers")
    context = release(tmp_path, 'profile = "release"\nbatch = 8\nheavy = true', baseline="model.safetensors")
    assert refused(run(context)) == set()
    tools = {tool.name for tool in context.upstream("certify").predicate.tools}
    assert {"onnxruntime", "transformers", "torch"} <= tools


@pytest.mark.heavy
def test_invarlock_03_certifies_the_example_twice_with_the_same_bytes(tmp_path: Path) -> None:
    """`certify --profile release` of 0.3.7, offline, under policy's own limits; what varies is listed and kept apart."""
    needs("certify-0.3", "verify-0.3")
    context = checkpoints(tmp_path / "one", "candidate")
    outcomes = run(context)
    assert refused(outcomes) == set(), outcomes
    assert NOT_RUN in outcomes["certify.completed"].seen
    assert outcomes["verify.keys"].outcome == "not_applicable"
    assert b"NaN" in (context.out / "originals" / "certify" / "baseline-report.json").read_bytes()
    again = checkpoints(tmp_path / "another", "candidate")
    pipeline.execute(certify.STAGE, again)
    found = [evidence(context, "certify"), evidence(again, "certify")]
    assert found[0] == found[1]
    assert not any(str(tmp_path).encode() in data or b"NaN" in data for data in evidence(context, "certify", "verify").values())
    left = json.loads(found[0]["certify/left-out.json"])
    assert "/meta/ts" in left["evaluation.cert.json"]


@pytest.mark.heavy
def test_invarlock_03_accepts_a_damaged_model_and_we_do_not(tmp_path: Path) -> None:
    """0.3.7's own verify accepts the certificate of a damaged model; the release is refused all the same."""
    needs("certify-0.3", "verify-0.3")
    assert "certify.regression" in refused(run(checkpoints(tmp_path, "damaged")))


def checkpoints(tmp: Path, other: str) -> Context:
    """A release of the example's checkpoints by 0.3.7."""
    tmp.mkdir(exist_ok=True)
    table = 'engine = "invarlock-0.3"\nwindow = 64\nheavy = true'
    artifact = "model.safetensors"
    return release(tmp, table, baseline=artifact, candidate=artifact, other=other, cases=1000, profile=None)
