"""The ML-BOM of the example: valid CycloneDX, the same bytes each time, every file under its digest."""

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest

from sealrun import digest, files, venvs
from sealrun.errors import InputMissing
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan
from sealrun.reports import invarlock, mlbom
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.formats import FormatVerdict
from tests.conftest import ROOT

RECORDED = ROOT / "tests" / "recorded" / "invarlock"
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding="utf-8").read()) or "valid")
"""


@pytest.fixture
def plan() -> Plan:
    """The example's plan."""
    return load_plan(ROOT, ROOT / "examples" / "tiny-lm" / "release.toml", date(2026, 1, 1))


@pytest.fixture
def found(plan: Plan) -> Artifacts:
    """The example's files as pinned."""

    def pinned(names: dict[str, str]) -> digest.Manifest:
        return tuple(digest.FileDigest(path=name, sha256=sha256, size=1) for name, sha256 in sorted(names.items()))

    data = pinned({plan.release.data.path: plan.release.data.sha256})
    return Artifacts(baseline=pinned(plan.release.baseline.files), candidate=pinned(plan.release.candidate.files), data=data)


@pytest.fixture
def comparison() -> invarlock.Comparison:
    """A comparison that InvarLock made."""
    path = next(RECORDED.glob("candidate*/**/evaluation.report.json"))
    return files.decode(path.read_bytes(), invarlock.Comparison, path.name)


def test_every_file_stands_under_its_digest(plan: Plan, found: Artifacts, comparison: invarlock.Comparison) -> None:
    """Baseline, candidate and data name their files with the digests that were found."""
    value = json.loads(mlbom.ml_bom(plan, found, comparison))
    said = {
        component["bom-ref"]: {part["name"]: part["hashes"][0]["content"] for part in component["components"]}
        for component in value["components"]
    }
    assert said == {
        "baseline": plan.release.baseline.files,
        "candidate": plan.release.candidate.files,
        "data": {plan.release.data.path: plan.release.data.sha256},
    }


def test_the_identifier_follows_from_the_content(plan: Plan, found: Artifacts, comparison: invarlock.Comparison) -> None:
    """Same release, same bytes; another file, another serial number."""
    first = mlbom.ml_bom(plan, found, comparison)
    assert first == mlbom.ml_bom(plan, found, comparison)
    other = mlbom.ml_bom(plan, Artifacts(baseline=found.baseline, candidate=(), data=found.data), comparison)
    assert json.loads(first)["serialNumber"] != json.loads(other)["serialNumber"]


def test_the_measured_ratio_is_in_the_model_card(plan: Plan, found: Artifacts, comparison: invarlock.Comparison) -> None:
    """The candidate's card has the certificate's metric with its interval; without a certificate it has none."""

    def card(measured: invarlock.Comparison | None) -> dict[str, object]:
        components = json.loads(mlbom.ml_bom(plan, found, measured))["components"]
        return next(c["modelCard"] for c in components if c["bom-ref"] == "candidate")  # type: ignore[no-any-return]

    metric = comparison.metrics[0]
    assert metric.interval is not None
    measured = card(comparison)["quantitativeAnalysis"]["performanceMetrics"][0]  # type: ignore[index]
    assert float(measured["value"]) == metric.ratio
    assert float(measured["confidenceInterval"]["upperBound"]) == metric.interval.upper
    assert "quantitativeAnalysis" not in card(None)


@pytest.mark.parametrize("measured", [True, False])
def test_the_strict_validator_accepts_it(
    plan: Plan, found: Artifacts, comparison: invarlock.Comparison, measured: bool, tmp_path: Path
) -> None:
    """cyclonedx-python-lib's strict validator finds nothing."""
    try:
        python = venvs.existing(ROOT, "sbom").python
    except InputMissing as error:
        pytest.skip(str(error))
    (tmp_path / "bom.json").write_bytes(mlbom.ml_bom(plan, found, comparison if measured else None))
    done = subprocess.run([python, "-I", "-c", _VALIDATE, tmp_path / "bom.json"], capture_output=True, text=True)
    assert done.stdout.strip() == "valid", done.stdout + done.stderr


def test_what_the_gate_read_and_the_sboms_stand_in_it(plan: Plan, found: Artifacts, tmp_path: Path) -> None:
    """Architecture, parameters, dtypes, rows, and a link with a digest to each environment's SBOM; still valid."""
    described = (
        described_as("candidate/model.onnx", "onnx", parameters=7, dtypes=("INT8",), opset=17),
        described_as("candidate/config.json", "json", architecture="gpt2", architectures=("GPT2LMHeadModel",)),
        described_as("data/eval.jsonl", "jsonl", rows=3, columns=("id", "text"), encoding="UTF-8"),
    )
    data = mlbom.ml_bom(plan, found, None, described=described, sboms={"model.cdx.json": "a" * 64})
    value = json.loads(data)
    said = {c["bom-ref"]: {p["name"]: p["value"] for p in c["properties"]} for c in value["components"]}
    assert said["candidate"]["sealrun:dtypes"] == "INT8"
    assert said["data"]["sealrun:columns"] == "id, text"
    card = next(c["modelCard"]["modelParameters"] for c in value["components"] if c["bom-ref"] == "candidate")
    assert (card["architectureFamily"], card["modelArchitecture"]) == ("gpt2", "GPT2LMHeadModel")
    assert value["metadata"]["component"]["externalReferences"][0]["url"] == "evidence/sbom/model.cdx.json"
    assert validated(data, tmp_path) == "valid"


def described_as(path: str, kind: str, **details: str | int | tuple[str, ...]) -> FormatVerdict:
    """Return the verdict on a sound file."""
    return FormatVerdict(path=path, sha256="0" * 64, format=kind, problems=(), code=(), details=details)


def validated(data: bytes, folder: Path) -> str:
    """Return what the strict validator says; skip where it is not installed."""
    try:
        python = venvs.existing(ROOT, "sbom").python
    except InputMissing as error:
        pytest.skip(str(error))
    (folder / "bom.json").write_bytes(data)
    done = subprocess.run([python, "-I", "-c", _VALIDATE, folder / "bom.json"], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr
