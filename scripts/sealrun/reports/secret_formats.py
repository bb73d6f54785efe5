"""Findings of the secret scan in other people's formats: SARIF 2.1.0 and GitLab's secret-detection report.

Rules: the same findings in the same order, fingerprints alone; a waived finding is a suppressed one.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any
from urllib.parse import quote

from sealrun import __version__, files
from sealrun.outcome import Finding, OutcomeKind
from sealrun.reports.trufflehog3 import SecretFinding

_LEVELS = {"high": "error", "medium": "error", "low": "warning"}
_REMEDY = "Rotate the secret first, then remove it from the files and rewrite the history that holds it."


def sarif(found: Sequence[SecretFinding], judged: Sequence[Finding], remedy: str) -> bytes:
    """Return the findings as SARIF; `judged` are the same findings with their outcomes."""
    rules = {entry.rule: entry for entry in sorted(found, key=lambda entry: entry.rule, reverse=True)}
    described = [
        {
            "id": rule, "shortDescription": {"text": entry.message}, "help": {"text": remedy},
            "defaultConfiguration": {"level": _LEVELS[entry.severity]},
        }
        for rule, entry in sorted(rules.items())
    ]  # fmt: skip
    results = [_result(entry, finding) for entry, finding in zip(found, judged, strict=True)]
    driver = {"name": "sealrun-secrets", "version": __version__, "rules": described}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return files.readable_json(
        {"$schema": schema, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    )


def _result(entry: SecretFinding, finding: Finding) -> dict[str, Any]:
    region = {"region": {"startLine": entry.line}} if entry.line else {}
    location = {"physicalLocation": {"artifactLocation": {"uri": quote(entry.path)}, **region}}
    result: dict[str, Any] = {
        "ruleId": entry.rule, "level": _LEVELS[entry.severity], "message": {"text": finding.message}, "locations": [location],
        "partialFingerprints": {"sealrun/v1": entry.fingerprint},
        "properties": {"where": entry.where, "commit": entry.commit or ""},
    }  # fmt: skip
    if finding.outcome is OutcomeKind.WAIVED:
        result["suppressions"] = [{"kind": "external", "status": "accepted"}]
    return result


def gitlab(found: Sequence[SecretFinding], judged: Sequence[Finding], day: date) -> bytes:
    """Return the findings that are not waived as GitLab's report; evidence holds no clock: times are the day of judgement."""
    tool = {"id": "sealrun-secrets", "name": "Sealrun", "version": __version__, "vendor": {"name": "Sealrun"}}
    moment = f"{day.isoformat()}T00:00:00"
    scan = {
        "analyzer": tool, "scanner": tool, "type": "secret_detection", "status": "success", "start_time": moment,
        "end_time": moment,
    }  # fmt: skip
    left = [entry for entry, finding in zip(found, judged, strict=True) if finding.outcome is OutcomeKind.FAILED]
    return files.readable_json(
        {"version": "15.0.7", "scan": scan, "vulnerabilities": [_vulnerability(entry) for entry in left]}
    )


def _vulnerability(entry: SecretFinding) -> dict[str, Any]:
    lines = {"start_line": entry.line, "end_line": entry.line} if entry.line else {}
    commit = {"sha": entry.commit} if entry.commit else {"sha": "0000000"}
    return {
        "id": f"{entry.fingerprint}:{entry.path}:{entry.line or 0}", "category": "secret_detection", "name": entry.message,
        "description": f"{entry.message} found by rule {entry.rule}.", "severity": entry.severity.capitalize(),
        "solution": _REMEDY,
        "location": {"file": entry.path, "commit": commit, **lines},
        "identifiers": [
            {"type": "sealrun_rule", "name": f"Sealrun rule {entry.rule}", "value": entry.rule},
            {"type": "sealrun_fingerprint", "name": "Fingerprint", "value": entry.fingerprint},
        ],
    }  # fmt: skip
