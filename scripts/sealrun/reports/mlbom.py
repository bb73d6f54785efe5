"""The ML-BOM: baseline, candidate and data of a release as CycloneDX 1.6, with what was measured.

Rules: plain JSON, since no library models these fields; identifiers come from the content, so that the same release gives the
same bytes; every file stands under the digest that the model gate found.

Source: CycloneDX 1.6, machine-learning-model components and modelCard.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sealrun import __version__, digest, files
from sealrun.policy.model import DataRef, ModelRef, Plan
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.formats import FormatVerdict
from sealrun.reports.invarlock import Comparison

FILE = "ml-bom.cdx.json"

_URN = "urn:sealrun:release"


def ml_bom(
    plan: Plan, found: Artifacts, comparison: Comparison | None, *, described: Sequence[FormatVerdict] = (),
    sboms: Mapping[str, digest.Sha256] | None = None,
) -> bytes:  # fmt: skip
    """Return the ML-BOM. *comparison* is what the certificate measured, None when there is none; *described* is what the model
    gate read in the files; *sboms* are the environments' SBOMs, by their names in the evidence."""
    release = plan.release
    data = _component("data", "data", release.data.path, release.data.licence, found.data)
    data["data"] = [{"type": "dataset", "name": release.data.path}]
    data["properties"] += _facts(described, "data", Path(release.data.path).name, ("rows", "columns", "encoding"))
    models = {
        role: _component("machine-learning-model", role, name, ref.licence, found.model(role))
        for role, name, ref in (
            ("baseline", f"{release.name}-baseline", release.baseline),
            ("candidate", release.name, release.candidate),
        )
    }
    for role, ref in (("baseline", release.baseline), ("candidate", release.candidate)):
        models[role]["properties"] += _facts(described, role, ref.artifact, ("parameters", "dtypes", "opset", "format"))
        models[role]["modelCard"] = {"modelParameters": _parameters(described, role)}
    baseline, candidate = models["baseline"], models["candidate"]
    ancestor = {"type": "machine-learning-model", "name": baseline["name"], "bom-ref": "ancestor",
                "properties": [{"name": "sealrun:manifest-sha256", "value": digest.of_manifest(found.baseline)}]}  # fmt: skip
    candidate |= {"version": release.version, "pedigree": {"ancestors": [ancestor]}}
    candidate["modelCard"] |= _card(comparison)
    for component, model in ((baseline, release.baseline), (candidate, release.candidate), (data, release.data)):
        if model.source.repository is not None:
            component["properties"].append({"name": "sealrun:source", "value": _origin(model)})
    subject = {"type": "application", "bom-ref": "release", "name": release.name, "version": release.version}
    links = [
        {"type": "bom", "url": f"evidence/sbom/{name}", "hashes": [{"alg": "SHA-256", "content": sha256}]}
        for name, sha256 in sorted((sboms or {}).items())
    ]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": subject | ({"externalReferences": links} if links else {}),
            "tools": {"components": [{"type": "application", "name": "sealrun", "version": __version__}]},
        },
        "components": [baseline, candidate, data],
        "dependencies": [
            {"ref": "release", "dependsOn": ["candidate"]},
            {"ref": "candidate", "dependsOn": ["baseline", "data"]},
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{_URN}:{digest.of_json(body)}")
    return files.readable_json({**body, "serialNumber": serial.urn})


def _facts(described: Sequence[FormatVerdict], role: str, name: str, wanted: Sequence[str]) -> list[dict[str, str]]:
    """Return as properties what the model gate read in the file *name* of *role*; the dtypes say how a model is quantised."""
    for verdict in described:
        if verdict.path == f"{role}/{name}":
            known = {**verdict.details, "format": verdict.format}
            pairs = [(key, known[key]) for key in wanted if key in known]
            return [{"name": f"sealrun:{key}", "value": ", ".join(v) if isinstance(v, tuple) else str(v)} for key, v in pairs]
    return []


def _parameters(described: Sequence[FormatVerdict], role: str) -> dict[str, Any]:
    """Return what a model card says of the model: what is certified is the scoring of text, so that is the task."""
    said: dict[str, Any] = {"task": "text-generation", "datasets": [{"ref": "data"}]}
    for verdict in described:
        if verdict.path == f"{role}/config.json":
            family, names = verdict.details.get("architecture"), verdict.details.get("architectures")
            said |= {"architectureFamily": family} if isinstance(family, str) else {}
            said |= {"modelArchitecture": names[0]} if isinstance(names, tuple) and names else {}
    return said


def _component(kind: str, ref: str, name: str, licence: str, manifest: digest.Manifest) -> dict[str, Any]:
    """Return a component whose files are components of their own, and whose digest is that of their list."""
    parts = [
        {"type": "file", "bom-ref": f"{ref}/{e.path}", "name": e.path, "hashes": [{"alg": "SHA-256", "content": e.sha256}]}
        for e in manifest
    ]
    properties = [{"name": "sealrun:manifest-sha256", "value": digest.of_manifest(manifest)}]
    component = {"type": kind, "bom-ref": ref, "name": name, "components": parts, "properties": properties}
    return component | ({"licenses": [{"license": {"name": licence}}]} if licence else {})


def _origin(model: ModelRef | DataRef) -> str:
    return f"{model.source.repository}@{model.source.revision}"


def _card(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    metric = comparison.metrics[0]
    what, value = ("ratio", metric.ratio) if metric.ratio is not None else ("difference", metric.delta)
    measured = {"type": f"{metric.name} {what} to baseline", "value": repr(value), "slice": metric.slice}
    if metric.interval is not None:
        measured["confidenceInterval"] = {  # type: ignore[assignment]
            "lowerBound": repr(metric.interval.lower),
            "upperBound": repr(metric.interval.upper),
        }
    return {"quantitativeAnalysis": {"performanceMetrics": [measured]}}
