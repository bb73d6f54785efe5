"""The record of an audit in other people's formats: SARIF 2.1.0, JUnit, GitLab's dependency scanning, Markdown, a table.

Rules: all are written from the one record, entries in its order; a waived entry is a suppressed one; what no gate was applied
to says so in each of them; no format has a time of its own, only the day of judgement.

Sources: SARIF 2.1.0; GitLab security report schemas 15 (dependency scanning).
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from sealrun import __version__, files
from sealrun.outcome import OutcomeKind, Severity
from sealrun.reports.audit_record import Entry, Record

_LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
_HEADS = ("outcome", "severity", "package", "version", "advisory", "fixed in", "environment", "excuse")


def all_of(record: Record) -> dict[str, bytes]:
    """Return every format of *record*, by file name."""
    return {
        "audit.sarif": sarif(record),
        "junit.xml": junit(record),
        "gl-dependency-scanning-report.json": gitlab(record),
        "audit.md": markdown(record).encode(),
        "audit.txt": table(record).encode(),
    }


def address(identifier: str) -> str:
    """Return where an advisory can be read."""
    return f"https://osv.dev/vulnerability/{quote(identifier)}"


def sarif(record: Record) -> bytes:
    """Return SARIF: a rule for each vulnerability, a result for each pin that has it."""
    rules = {entry.id: _rule(entry) for entry in reversed(record.entries)}
    driver = {"name": "sealrun-audit", "version": __version__, "rules": [rules[key] for key in sorted(rules)]}
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": [_result(entry) for entry in record.entries],
                           "properties": {"enforced": record.enforced, "advisories": record.snapshot}}  # fmt: skip
    if record.stamp:
        run["invocations"] = [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "warning", "message": {"text": record.stamp}}],
            }
        ]
    return files.readable_json({"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]})


def _rule(entry: Entry) -> dict[str, Any]:
    score = {"security-severity": f"{entry.score:.1f}"} if entry.score is not None else {}
    return {
        "id": entry.id, "shortDescription": {"text": f"{entry.id} in {entry.package}"}, "helpUri": address(entry.id),
        "help": {"text": entry.remedy}, "properties": {"tags": ["security", *entry.aliases], **score},
    }  # fmt: skip


def _result(entry: Entry) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": quote(entry.path)}, "region": {"startLine": max(entry.line, 1)}}
    result: dict[str, Any] = {
        "ruleId": entry.id, "level": _LEVELS.get(entry.severity, "error"), "message": {"text": entry.text},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"sealrun/v1": f"{entry.environment}:{entry.purl}:{entry.id}"},
        "properties": {"outcome": entry.outcome, "severity": entry.severity, "purl": entry.purl},
    }  # fmt: skip
    if entry.outcome is OutcomeKind.WAIVED:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": entry.excuse}]
    return result


def junit(record: Record) -> bytes:
    """Return JUnit: a suite for each lock, a case for each pin, and one for each gap of the coverage."""
    known: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in record.entries:
        known.setdefault((entry.path, entry.package, entry.version), []).append(entry)
    root = ElementTree.Element("testsuites", name=f"sealrun audit {record.stamp}".rstrip())
    for lock in record.locks:
        suite = ElementTree.SubElement(root, "testsuite", name=lock.path)
        for name, version in lock.pins:
            _case(suite, f"{name} {version}", lock.path, known.get((lock.path, name, version), ()))
        failed = sum(case.find("failure") is not None for case in suite)
        suite.attrib |= {"tests": str(len(suite)), "failures": str(failed), "errors": "0"}
    if record.gaps:
        suite = ElementTree.SubElement(root, "testsuite", name="coverage", tests=str(len(record.gaps)), failures="0")
        suite.set("errors", str(len(record.gaps)))
        for gap in record.gaps:
            case = ElementTree.SubElement(suite, "testcase", name=_plain(gap), classname="coverage")
            ElementTree.SubElement(case, "error", message=_plain(gap))
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _case(suite: ElementTree.Element, name: str, where: str, entries: Sequence[Entry]) -> None:
    case = ElementTree.SubElement(suite, "testcase", name=_plain(name), classname=where)
    failed = [entry for entry in entries if entry.outcome is OutcomeKind.FAILED]
    if failed:
        failure = ElementTree.SubElement(case, "failure", message=_plain(", ".join(entry.id for entry in failed)))
        failure.text = "\n".join(_plain(entry.text) for entry in failed)
    if others := [entry for entry in entries if entry not in failed]:
        said = "\n".join(f"{entry.outcome}: {entry.text} {entry.excuse}".rstrip() for entry in others)
        ElementTree.SubElement(case, "system-out").text = _plain(said)


def _plain(text: str) -> str:
    """Return *text* without what XML cannot hold."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def gitlab(record: Record) -> bytes:
    """Return GitLab's dependency scanning report, without what is waived or below the threshold."""
    tool = {"id": "sealrun-audit", "name": "Sealrun", "version": __version__, "vendor": {"name": "Sealrun"}}
    moment = f"{record.judged_at.isoformat()}T00:00:00"
    scan: dict[str, Any] = {
        "analyzer": tool, "scanner": tool, "type": "dependency_scanning", "status": "success", "start_time": moment,
        "end_time": moment, **({"messages": [{"level": "warn", "value": record.stamp}]} if record.stamp else {}),
    }  # fmt: skip
    locks = [
        {"path": lock.path, "package_manager": "pip",
         "dependencies": [{"package": {"name": name}, "version": version} for name, version in lock.pins]}
        for lock in record.locks
    ]  # fmt: skip
    left = [_vulnerability(entry) for entry in record.entries if entry.outcome is OutcomeKind.FAILED]
    return files.readable_json({"version": "15.0.7", "scan": scan, "vulnerabilities": left, "dependency_files": locks})


def _vulnerability(entry: Entry) -> dict[str, Any]:
    return {
        "id": f"{entry.environment}:{entry.purl}:{entry.id}", "name": f"{entry.id} in {entry.package}",
        "description": entry.text, "severity": entry.severity.capitalize(), "solution": entry.remedy,
        "location": {
            "file": entry.path, "dependency": {"package": {"name": entry.package}, "version": entry.version},
        },
        "identifiers": [
            {"type": name.partition("-")[0].lower(), "name": name, "value": name, "url": address(name)}
            for name in (entry.id, *entry.aliases)
        ],
        "links": [{"url": address(entry.id)}],
    }  # fmt: skip


def _rows(record: Record) -> list[tuple[str, ...]]:
    return [
        (e.outcome, e.severity if e.score is None else f"{e.severity} {e.score:.1f}", e.package, e.version, e.id,
         ", ".join(e.fixed) or "none known", e.environment, e.excuse)
        for e in record.entries
    ]  # fmt: skip


def _summary(record: Record) -> list[str]:
    pins = len({pin for lock in record.locks for pin in lock.pins})
    known = len({entry.id for entry in record.entries})
    days = "" if record.age_days == 1 else "s"
    return [
        *([record.stamp] if record.stamp else []),
        f"{record.verdict}: {pins} packages in {len(record.locks)} locks, {known} known advisories",
        f"advisories as of {record.as_of}, {record.age_days} day{days} before the day of judgement {record.judged_at}, "
        f"sha256 {record.snapshot}",
        *(f"not audited: {gap}" for gap in record.gaps),
    ]


def markdown(record: Record) -> str:
    """Return a page for a pull request."""
    head = ["# Audit", "", *(line for text in _summary(record) for line in (_cell(text), ""))]
    rows = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in _rows(record)]
    ruler = [f"| {' | '.join(_HEADS)} |", f"|{'---|' * len(_HEADS)}"]
    return "\n".join([*head, *([*ruler, *rows] if rows else ["Nothing was found."]), ""])


def _cell(text: str) -> str:
    safe = _plain(text).replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "|[]*_`" else char for char in safe)


def table(record: Record) -> str:
    """Return the same for a terminal."""
    rows = [_HEADS, *_rows(record)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(_plain(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*map(_plain, _summary(record)), *(["", *lines] if record.entries else []), ""])
