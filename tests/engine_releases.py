"""Releases of the example by any engine and runtime, cut to some of its texts, with the checkout's environments."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from sealrun import digest, files, pipeline, venvs
from sealrun.outcome import Outcome
from sealrun.policy.load import load_plan
from sealrun.reports.artifacts import Artifacts
from sealrun.stage import Context
from sealrun.stages import certify, verify
from tests.certification import CHECKOUT, EXAMPLE, PROFILE, state, write_gates


def release(
    tmp: Path, table: str, *, baseline: str = "model.onnx", candidate: str = "model.onnx", other: str = "candidate",
    cases: int = 60, data: bytes | None = None, fields: str = 'text_field = "text"', profile: str | None = PROFILE,
) -> Context:  # fmt: skip
    """Return a context in the new folder *tmp* with a model gate that passed.

    *table* is what stands below `[certify]`, *baseline* and *candidate* are the files to run, *other* the example's folder that is
    the candidate, *data* the evaluation data (default: its first *cases* texts); without *profile* the limits are policy's own.
    """
    home = tmp / "release"
    for role, source in (("baseline", "baseline"), ("candidate", other)):
        shutil.copytree(EXAMPLE / source, home / role)
    lines = (EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:cases]
    (home / "data.jsonl").write_bytes(b"".join(lines) if data is None else data)
    for folder in ("policy", "requirements"):
        shutil.copytree(CHECKOUT / folder, tmp / folder)
    if profile is not None:
        write_gates(tmp / "policy" / "gates.toml", profile, 600)
    (tmp / ".nox").symlink_to(CHECKOUT / ".nox")
    (home / "release.toml").write_text(_toml(home, {"baseline": baseline, "candidate": candidate}, fields, table))
    plan = load_plan(tmp, home / "release.toml", date(2026, 1, 1))
    context = Context(plan=plan, root=tmp, out=tmp / "build" / plan.title)
    found = Artifacts(
        baseline=digest.describe_files(home / "baseline", plan.release.baseline.files),
        candidate=digest.describe_files(home / "candidate", plan.release.candidate.files),
        data=digest.describe_files(home, ["data.jsonl"]),
    )
    files.write_json(files.empty_folder(context.evidence("model")) / "digests.json", found)
    state(context, "model", {})
    return context


def _toml(home: Path, artifacts: dict[str, str], fields: str, table: str) -> str:
    head = 'format = "sealrun/release-v1"\nname = "engine"\nversion = "1"\nposture = "research"\nretention = "research"\n'
    for role, artifact in artifacts.items():
        head += f'[{role}]\npath = "{role}"\nartifact = "{artifact}"\ntokenizer = "tokenizer.json"\n[{role}.files]\n'
        head += "".join(f'"{name}" = "{digest.of_file(home / role / name)}"\n' for name in files.walk_files(home / role))
    head += f'[data]\npath = "data.jsonl"\nsha256 = "{digest.of_file(home / "data.jsonl")}"\n{fields}\n'
    return f"{head}[certify]\n{table}\n"


def run(context: Context) -> dict[str, Outcome]:
    """Run certify and verify, offline, and return their outcomes by control; neither may end in an error."""
    said = [pipeline.execute(stage, context).predicate for stage in (certify.STAGE, verify.STAGE)]
    assert [predicate.error for predicate in said] == ["", ""]
    assert {predicate.network for predicate in said} == {"denied"}
    return {outcome.control: outcome for predicate in said for outcome in predicate.outcomes}


def refused(outcomes: dict[str, Outcome]) -> set[str]:
    """Return the controls that failed."""
    return {control for control, outcome in outcomes.items() if outcome.outcome == "failed"}


def needs(*environments: str) -> None:
    """Skip, naming the command, where a large environment is not installed."""
    for name in environments:
        path = venvs.locate(CHECKOUT, name).path
        if not (path / "sealrun-venv.json").is_file():
            pytest.skip(f"run `INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install {name}` first")


def evidence(context: Context, *stages: str) -> dict[str, bytes]:
    """Return every file that *stages* left, by its name."""
    names = [f"{stage}/{name}" for stage in stages for name in files.walk_files(context.evidence(stage))]
    return {name: (context.out / "evidence" / name).read_bytes() for name in names}


def sentences(count: int) -> bytes:
    """Return *count* prompts with references: a word of each of the example's texts after those before it, an easy one or not."""
    rows = []
    for number, line in enumerate((EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines()[:count]):
        words = json.loads(line)["text"].split(" ")
        place = 2 + number % 12
        rows.append({"question": " ".join(words[:place]), "answer": words[place]})
    return b"".join(map(digest.canonical_json, rows))
