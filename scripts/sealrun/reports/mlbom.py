"""The ML-BOM: baseline, candidate and data of a release as CycloneDX 1.6, with what was measured.

Rules: plain JSON, since no library models these fields; identifiers come from the content, so that the same release gives the
same bytes; every file stands under the digest that the model gate found.

Source: CycloneDX 1.6, machine-learning-model components and modelCard.
"""

import uuid
from typing import Any

from sealrun import __version__, digest, files
from sealrun.policy.model import ModelRef, Plan
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.invarlock import Comparison

FILE = "ml-bom.cdx.json"

_URN = "urn:sealrun:release"


def ml_bom(plan: Plan, found: Artifacts, comparison: Comparison | None) -> bytes:
    """Return the ML-BOM; *comparison* is what the certificate measured, None when there is none."""
    release = plan.release
    data = _component("data", "data", release.data.path, release.data.licence, found.data)
    data["data"] = [{"type": "dataset", "name": release.data.path}]
    baseline = _component(
        "machine-learning-model", "baseline", f"{release.name}-baseline", release.baseline.licence, found.baseline
    )
    candidate = _component("machine-learning-model", "candidate", release.name, release.candidate.licence, found.candidate)
    ancestor = {"type": "machine-learning-model", "name": baseline["name"], "bom-ref": "ancestor"}
    candidate |= {"version": release.version, "pedigree": {"ancestors": [ancestor]}, "modelCard": _card(comparison)}
    for component, model in ((baseline, release.baseline), (candidate, release.candidate)):
        if model.source.repository is not None:
            component["properties"].append({"name": "sealrun:source", "value": _origin(model)})
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "release", "name": release.name, "version": release.version},
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


def _component(kind: str, ref: str, name: str, licence: str, manifest: digest.Manifest) -> dict[str, Any]:
    """Return a component whose files are components of their own, and whose digest is that of their list."""
    parts = [
        {"type": "file", "bom-ref": f"{ref}/{e.path}", "name": e.path, "hashes": [{"alg": "SHA-256", "content": e.sha256}]}
        for e in manifest
    ]
    properties = [{"name": "sealrun:manifest-sha256", "value": digest.of_manifest(manifest)}]
    component = {"type": kind, "bom-ref": ref, "name": name, "components": parts, "properties": properties}
    return component | ({"licenses": [{"license": {"name": licence}}]} if licence else {})


def _origin(model: ModelRef) -> str:
    return f"{model.source.repository}@{model.source.revision}"


def _card(comparison: Comparison | None) -> dict[str, Any]:
    datasets = {"modelParameters": {"datasets": [{"ref": "data"}]}}
    if comparison is None:
        return datasets
    metric = comparison.metrics[0]
    measured = {"type": f"{metric.name} ratio to baseline", "value": repr(metric.ratio), "slice": metric.slice}
    if metric.interval is not None:
        measured["confidenceInterval"] = {  # type: ignore[assignment]
            "lowerBound": repr(metric.interval.lower),
            "upperBound": repr(metric.interval.upper),
        }
    return {**datasets, "quantitativeAnalysis": {"performanceMetrics": [measured]}}
