"""The record of an audit as an OpenVEX document, for others' tools.

Rules: what is waived has the status and words of its waiver, what VEX of others excuses theirs, everything else is under
investigation. Of one package in several environments the least settled status is said; an environment that is held to nothing
speaks only where no other does, so that no document contradicts itself. The document's id comes from its content and its
time from the day of judgement, so that the same judgement gives the same bytes; no finding, no document.

Source: OpenVEX 0.2.0 (of justification and impact statement its schema takes one).
"""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from sealrun import digest, files
from sealrun.policy.model import Justification
from sealrun.reports.audit_record import Entry, Record

CONTEXT = "https://openvex.dev/ns/v0.2.0"
_UNSETTLED = ("affected", "under_investigation", "fixed", "not_affected")


def document(record: Record, *, author: str) -> bytes | None:
    """Return the document on the entries of *record*, None when there are none."""
    statements = {digest.canonical_json(statement): statement for statement in map(_statement, _least_settled(record.entries))}
    if not statements:
        return None
    content = {
        "@context": CONTEXT,
        "author": author,
        "timestamp": f"{record.judged_at.isoformat()}T00:00:00Z",
        "version": 1,
        "statements": [statements[key] for key in sorted(statements)],
        **({"tooling": record.stamp} if record.stamp else {}),
    }
    return files.readable_json({**content, "@id": f"urn:sealrun:vex:{digest.of_json(content)}"})


def _least_settled(entries: Iterable[Entry]) -> Iterator[Entry]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.id, entry.purl), []).append(entry)
    for group in groups.values():
        counted = [entry for entry in group if entry.outcome != "passed"] or group
        least = min((entry.status for entry in counted), key=_UNSETTLED.index)
        yield from (entry for entry in counted if entry.status == least)


def _statement(entry: Entry) -> dict[str, Any]:
    vulnerability = {"name": entry.id, **({"aliases": list(entry.aliases)} if entry.aliases else {})}
    return {
        "vulnerability": vulnerability,
        "products": [{"@id": entry.purl, "identifiers": {"purl": entry.purl}}],
        "status": entry.status,
        **_words(entry),
    }


def _words(entry: Entry) -> dict[str, str]:
    """Return what OpenVEX wants beside the status."""
    if entry.status == "affected":
        return {"action_statement": entry.reason}
    if entry.status == "not_affected" and entry.justification in get_args(Justification):
        return {"justification": entry.justification, "status_notes": entry.reason}
    if entry.status == "not_affected":
        return {"impact_statement": f"{entry.justification}: {entry.reason}"}
    return {"status_notes": entry.reason} if entry.reason else {}
