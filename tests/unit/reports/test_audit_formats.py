"""Every format of an audit says what the one record says."""

import json
from datetime import date
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from msgspec import structs

from sealrun.outcome import OutcomeKind, Severity
from sealrun.reports import audit_formats, openvex
from sealrun.reports.audit_record import Entry, Pinned, Record, groups

STAMP = "NOT ENFORCED"
# What OpenVEX 0.2.0 asks of a document, written down from its specification.
_TEXT = {"type": "string"}
_MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}
_COMPONENT = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "@id": _TEXT, "hashes": {"type": "object"}, "subcomponents": {"type": "array"},
        "identifiers": {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(("purl", "cpe22", "cpe23"), _TEXT)},
    },
}  # fmt: skip
OPENVEX = {
    "type": "object", "additionalProperties": False,
    "required": ["@context", "@id", "author", "timestamp", "version", "statements"],
    "properties": {
        "@context": {"const": "https://openvex.dev/ns/v0.2.0"}, "@id": {"type": "string", "pattern": "^[a-z]+:"}, "author": _TEXT,
        "role": _TEXT, "timestamp": _MOMENT, "last_updated": _MOMENT, "version": {"type": "integer", "minimum": 1}, "tooling": _TEXT,
        "statements": {
            "type": "array", "minItems": 1, "uniqueItems": True,
            "items": {
                "type": "object", "additionalProperties": False, "required": ["vulnerability", "status"],
                "properties": {
                    "vulnerability": {
                        "type": "object", "required": ["name"], "additionalProperties": False,
                        "properties": {"@id": _TEXT, "name": _TEXT, "description": _TEXT,
                                       "aliases": {"type": "array", "uniqueItems": True, "items": _TEXT}},
                    },
                    "products": {"type": "array", "uniqueItems": True, "items": _COMPONENT},
                    "status": {"enum": ["not_affected", "affected", "fixed", "under_investigation"]},
                    "justification": {"enum": [
                        "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
                        "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
                    ]},
                    **dict.fromkeys(("@id", "supplier", "status_notes", "impact_statement", "action_statement"), _TEXT),
                    **dict.fromkeys(("timestamp", "last_updated", "action_statement_timestamp"), _MOMENT),
                },
                "allOf": [
                    {"if": {"properties": {"status": {"const": "not_affected"}}},
                     "then": {"oneOf": [{"required": ["justification"]}, {"required": ["impact_statement"]}]}},
                    {"if": {"properties": {"status": {"const": "affected"}}}, "then": {"required": ["action_statement"]}},
                ],
            },
        },
    },
}  # fmt: skip

FAILED = Entry(
    environment="app", package="forms-kit", version="1.9", id="PYSEC-2026-1", aliases=("CVE-2026-0001",), path="requirements/app.txt",
    line=7, severity=Severity.CRITICAL, score=9.8, vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", fixed=("2.0",),
    threshold=Severity.MEDIUM, outcome=OutcomeKind.FAILED,
)  # fmt: skip
WAIVED = structs.replace(
    FAILED, package="six", version="1.16.0", id="PYSEC-2026-2", aliases=(), severity=Severity.UNKNOWN, score=None, vector="", fixed=(),
    outcome=OutcomeKind.WAIVED, status="not_affected", justification="component_not_present", reason="it is not shipped",
    excuse="waived until 2026-04-01 by b",
)  # fmt: skip
LOW = structs.replace(FAILED, id="GHSA-x", aliases=(), severity=Severity.LOW, score=2.0, outcome=OutcomeKind.PASSED)


def record(*entries: Entry, enforced: bool = True, gaps: tuple[str, ...] = ()) -> Record:
    """A record of one lock."""
    pins = (("forms-kit", "1.9"), ("six", "1.16.0"), ("wheel", "1"))
    return Record(
        enforced=enforced, verdict="failed", judged_at=date(2026, 3, 10), tool="pip-audit 2.10.1", origin="a test",
        as_of=date(2026, 3, 8), age_days=2, snapshot="ab" * 32, entries=tuple(sorted(entries)), gaps=gaps,
        locks=(Pinned(environment="app", path="requirements/app.txt", sha256="cd" * 32, pins=pins),),
    )  # fmt: skip


def test_sarif_has_a_result_for_each_entry_and_suppresses_what_is_waived() -> None:
    """Rule, level, place and score; a waiver is a suppression with its words."""
    (run,) = json.loads(audit_formats.sarif(record(FAILED, WAIVED, LOW)))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["GHSA-x", "PYSEC-2026-1", "PYSEC-2026-2"]
    by_id = {result["ruleId"]: result for result in run["results"]}
    assert (by_id["PYSEC-2026-1"]["level"], by_id["PYSEC-2026-2"]["level"], by_id["GHSA-x"]["level"]) == (
        "error",
        "error",
        "note",
    )
    place = by_id["PYSEC-2026-1"]["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("requirements/app.txt", 7)
    assert by_id["PYSEC-2026-2"]["suppressions"][0]["justification"] == "waived until 2026-04-01 by b"
    assert "suppressions" not in by_id["PYSEC-2026-1"]
    assert run["tool"]["driver"]["rules"][1]["properties"]["security-severity"] == "9.8"


def test_junit_has_a_case_for_each_pin_and_fails_what_fails() -> None:
    """A pin without findings is a case that passes; a gap of the coverage is an error."""
    root = ElementTree.fromstring(audit_formats.junit(record(FAILED, WAIVED, gaps=("x: no hash",))))
    suite, coverage = root
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("requirements/app.txt", "3", "1")
    cases = {case.get("name"): case for case in suite}
    failure = cases["forms-kit 1.9"].find("failure")
    assert failure is not None and failure.get("message") == "PYSEC-2026-1" and "fixed in 2.0" in (failure.text or "")
    assert cases["six 1.16.0"].find("failure") is None and "waived until" in (cases["six 1.16.0"][0].text or "")
    assert len(cases["wheel 1"]) == 0
    assert (coverage.get("errors"), coverage[0][0].get("message")) == ("1", "x: no hash")


def test_gitlab_has_what_fails_and_every_dependency() -> None:
    """Waived ones are left out; the lock is listed pin by pin."""
    report = json.loads(audit_formats.gitlab(record(FAILED, WAIVED, LOW)))
    (found,) = report["vulnerabilities"]
    assert (found["severity"], found["solution"]) == ("Critical", "fixed in 2.0")
    assert found["location"] == {
        "file": "requirements/app.txt",
        "dependency": {"package": {"name": "forms-kit"}, "version": "1.9"},
    }
    assert [identifier["type"] for identifier in found["identifiers"]] == ["pysec", "cve"]
    assert len(report["dependency_files"][0]["dependencies"]) == 3
    assert report["scan"]["type"] == "dependency_scanning" and report["scan"]["start_time"] == "2026-03-10T00:00:00"


def test_a_page_and_a_table_say_the_same() -> None:
    """Both have every entry, and markup in a text stays text."""
    odd = structs.replace(WAIVED, excuse="a|b <script> [x](y) `z`\n# head")
    page, table = audit_formats.markdown(record(FAILED, odd)), audit_formats.table(record(FAILED, odd))
    for text in ("PYSEC-2026-1", "PYSEC-2026-2", "forms-kit", "critical 9.8", "none known", "failed: 3 packages in 1 locks"):
        assert text in table and text.replace("_", "\\_") in page
    assert "<script>" not in page and "a\\|b" in page and "\n# head" not in page
    assert len({line.count(" | ") for line in page.splitlines() if line.startswith("| ")}) == 1
    assert "Nothing was found." in audit_formats.markdown(record())


@pytest.mark.parametrize("entries", [(FAILED,), (WAIVED,), (FAILED, WAIVED, LOW)])
@pytest.mark.parametrize("status", ["affected", "not_affected", "fixed", "under_investigation"])
def test_openvex_is_valid_under_its_schema(entries: tuple[Entry, ...], status: str) -> None:
    """Whatever is found and whatever a waiver says; foreign justifications become an impact statement."""
    for justification in ("component_not_present", "code_not_reachable"):
        said = [
            structs.replace(entry, status=status, justification=justification if status == "not_affected" else "", reason="r")
            for entry in entries
        ]
        data = openvex.document(record(*said), author="a")
        assert data
        document = json.loads(data)
        jsonschema.validate(document, OPENVEX, format_checker=jsonschema.FormatChecker())
        assert {statement["status"] for statement in document["statements"]} == {status}
    assert openvex.document(record(), author="a") is None


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((), ["not_affected"]),
        ((structs.replace(WAIVED, environment="b", outcome=OutcomeKind.PASSED, status="under_investigation"),), ["not_affected"]),
        ((structs.replace(WAIVED, environment="b", outcome=OutcomeKind.FAILED, status="under_investigation"),), ["under_investigation"]),
        ((structs.replace(WAIVED, environment="b", status="affected", justification=""),), ["affected"]),
        ((structs.replace(WAIVED, version="1.17.0", status="affected", justification=""),), ["affected", "not_affected"]),
    ],
)  # fmt: skip
def test_openvex_never_contradicts_itself(others: tuple[Entry, ...], said: list[str]) -> None:
    """Of one package in several environments it says the least settled that the release is held to."""
    document = json.loads(openvex.document(record(WAIVED, *others), author="a") or b"{}")
    assert sorted(statement["status"] for statement in document["statements"]) == said


def test_what_is_not_enforced_says_so_in_every_format() -> None:
    """Nobody can mistake a report for a gate."""
    report = record(FAILED, enforced=False)
    written: dict[str, Any] = {**audit_formats.all_of(report), "openvex": openvex.document(report, author="a")}  # fmt: skip
    assert {name for name, data in written.items() if STAMP.encode() not in data} == set()
    jsonschema.validate(json.loads(written["openvex"]), OPENVEX)
    enforced = audit_formats.all_of(record(FAILED))
    assert not any(STAMP.encode() in data for data in enforced.values())


def test_twins_are_joined_also_by_way_of_a_third() -> None:
    """Whoever shares a name is one vulnerability, in any order."""
    names = [frozenset("ab"), frozenset("cd"), frozenset("ef"), frozenset("bc")]
    assert sorted(map(sorted, groups(names))) == [["a", "b", "c", "d"], ["e", "f"]]
    assert sorted(map(sorted, groups(names[::-1]))) == [["a", "b", "c", "d"], ["e", "f"]]
    assert list(groups([])) == []
