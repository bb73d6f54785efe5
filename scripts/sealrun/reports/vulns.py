"""The record of an audit as in-toto's vulns predicate, for whoever admits artifacts by attestations.

Rules: subjects are the locks, by digest; the database is named by its digest and the day of its newest change; what is waived
stays among the results and says so; times are the day of judgement, so that the same judgement gives the same bytes.

Source: in-toto attestation framework, predicate vulns 0.2.
"""

from typing import Any

from sealrun.reports.audit_record import Entry, Record

TYPE = "https://in-toto.io/attestation/vulns/v0.2"
FILE = "vulns.json"


def statement(record: Record) -> dict[str, Any]:
    """Return the unsigned in-toto statement about the locks of *record*."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": lock.path, "digest": {"sha256": lock.sha256}} for lock in record.locks],
        "predicateType": TYPE,
        "predicate": predicate(record),
    }


def predicate(record: Record) -> dict[str, Any]:
    """Return the predicate alone."""
    moment = f"{record.judged_at.isoformat()}T00:00:00Z"
    name, _, version = record.tool.partition(" ")
    stamp = {"annotations": [{"enforced": record.stamp}]} if record.stamp else {}
    return {
        "scanner": {
            "uri": f"pkg:pypi/{name}@{version}", "version": version,
            "db": {"uri": f"urn:sha256:{record.snapshot}", "version": record.snapshot,
                   "lastUpdate": f"{record.as_of.isoformat()}T00:00:00Z"},
            "result": [_result(entry) for entry in record.entries],
        },
        "metadata": {"scanStartedOn": moment, "scanFinishedOn": moment, **stamp},
    }  # fmt: skip


def _result(entry: Entry) -> dict[str, Any]:
    scores = [{"method": "sealrun", "score": str(entry.severity)}]
    if entry.score is not None:
        scores.append({"method": "cvss_score", "score": f"{entry.score:.1f}"})
    said = {
        "purl": entry.purl,
        "lock": entry.path,
        "outcome": str(entry.outcome),
        "status": entry.status,
        "excuse": entry.excuse,
    }
    return {"id": entry.id, "severity": scores, "annotations": [{key: value} for key, value in said.items() if value]}
