"""Findings and waivers as an OpenVEX document, for others' tools.

Rules: a waived finding has its waiver's status and words, any other is under investigation; the document's id comes from its
content and its time from the day of judgement, so that the same judgement gives the same bytes; no finding, no document.

Source: OpenVEX 0.2.0.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sealrun import digest, files
from sealrun.outcome import Finding, OutcomeKind
from sealrun.policy.model import Waiver

CONTEXT = "https://openvex.dev/ns/v0.2.0"
_JUSTIFICATIONS = (
    "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
)  # fmt: skip


def document(
    findings: Sequence[Finding], waived: Mapping[Finding, Waiver], aliases: Mapping[str, frozenset[str]], *,
    author: str, judged_at: date,
) -> bytes | None:  # fmt: skip
    """Return the document on *findings*, None when there are none. `waived` gives the waiver of each waived finding."""
    statements = {
        digest.canonical_json(statement): statement
        for statement in (_statement(finding, waived.get(finding), aliases) for finding in findings)
    }
    if not statements:
        return None
    content = {
        "@context": CONTEXT,
        "author": author,
        "timestamp": f"{judged_at.isoformat()}T00:00:00Z",
        "version": 1,
        "statements": [statements[key] for key in sorted(statements)],
    }
    return files.readable_json({**content, "@id": f"urn:sealrun:vex:{digest.of_json(content)}"})


def _statement(finding: Finding, waiver: Waiver | None, aliases: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    vulnerability: dict[str, Any] = {"name": finding.rule}
    if others := sorted(aliases.get(finding.rule, frozenset()) - {finding.rule}):
        vulnerability["aliases"] = others
    return {
        "vulnerability": vulnerability,
        "products": [{"@id": f"pkg:pypi/{finding.package}@{finding.version}"}],
        **(_position(waiver) if waiver and finding.outcome is OutcomeKind.WAIVED else {"status": "under_investigation"}),
    }


def _position(waiver: Waiver) -> dict[str, str]:
    """Return the waiver's status with the words that OpenVEX wants beside it."""
    if waiver.status == "affected":
        return {"status": "affected", "action_statement": waiver.reason}
    if waiver.status == "not_affected" and waiver.justification in _JUSTIFICATIONS:
        return {"status": "not_affected", "justification": waiver.justification, "impact_statement": waiver.reason}
    if waiver.status == "not_affected":
        return {"status": "not_affected", "impact_statement": waiver.reason}
    return {"status": waiver.status, "status_notes": waiver.reason}
