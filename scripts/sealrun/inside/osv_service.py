"""Answer OSV queries on the loopback and let pip-audit ask them. Runs inside the `audit` environment, never in Sealrun's own.

    python osv_service.py JOB.json

The job names `facts` (advisories as Sealrun keeps them), `log` (JSON lines, one per question: package, version and the ids
answered) and `batches`, each with `requirements` (what pip-audit reads) and `report` (what it writes).

Rules: one POST, one answer, in one buffer; a question that is no OSV query is answered 400 and ends the run as failed; so does
a pip-audit that ends with anything but 0 or 1, or that wrote no report. Exit 0: every batch was audited; 4: it was not.

Source: OSV API, POST /v1/query; OSV format, "Evaluation"; PEP 440.
"""

import functools
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

TOOL_FAILED = 4
WORKED = (0, 1)  # pip-audit: nothing found, or something found (or a crash, which leaves no report)
ASKED_AT_ONCE = 2

version_of = functools.lru_cache(maxsize=65536)(Version)  # the same bounds are read for every question


class Advisories:
    """The facts, by canonical package name."""

    def __init__(self, facts: Path) -> None:
        self.found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        for advisory in json.loads(facts.read_bytes())["advisories"]:
            for block in advisory["affected"]:
                self.found.setdefault(block["package"], []).append((advisory, block))

    def about(self, name: str, text: str) -> list[dict[str, Any]]:
        """Return the OSV records that hold for version *text* of *name*. Raises InvalidVersion."""
        version = Version(text)
        versions = {version, Version(version.public)}
        records: dict[str, dict[str, Any]] = {}
        for advisory, block in self.found.get(name, ()):
            if not advisory.get("withdrawn") and any(affected(block, each) for each in versions):
                record = records.setdefault(advisory["id"], record_of(advisory))
                record["affected"].append(block_of(block))
        return [records[key] for key in sorted(records)]


def affected(block: dict[str, Any], version: Version) -> bool:
    """Return whether a block lists *version* or has a range around it."""
    return version in {parsed(text) for text in block.get("versions", ())} or any(
        inside(events, version) for events in block.get("ranges", ())
    )


def inside(events: list[dict[str, str]], version: Version) -> bool:
    """Return what the last event at or before *version* says."""
    limits = [event["limit"] for event in events if "limit" in event]
    if limits and all(limit != "*" and version >= version_of(limit) for limit in limits):
        return False
    state = False
    for event in sorted(events, key=place):
        (kind, text), *_ = event.items()
        if kind == "introduced":
            state = state or text == "0" or version_of(text) <= version
        elif kind == "fixed":
            state = state and version < version_of(text)
        elif kind == "last_affected":
            state = state and version <= version_of(text)
    return state


def place(event: dict[str, str]) -> tuple[int, Version]:
    """Order events by version; "introduced 0" comes before every version."""
    (kind, text), *_ = event.items()
    return (0, version_of("0")) if text == "*" or (kind, text) == ("introduced", "0") else (1, version_of(text))


def parsed(text: str) -> Version | None:
    """Return a PEP 440 version, None for anything older."""
    try:
        return version_of(text)
    except InvalidVersion:
        return None


def record_of(advisory: dict[str, Any]) -> dict[str, Any]:
    """Return the OSV record of a fact, its affected blocks still to come."""
    return {
        "schema_version": "1.6.0", "id": advisory["id"], "aliases": advisory.get("aliases", []),
        "modified": advisory["modified"], "affected": [],
    }  # fmt: skip


def block_of(block: dict[str, Any]) -> dict[str, Any]:
    """Return an affected block in OSV's own words."""
    return {
        "package": {"ecosystem": "PyPI", "name": block["package"]},
        "ranges": [{"type": "ECOSYSTEM", "events": events} for events in block.get("ranges", ())],
        "versions": block.get("versions", []),
    }


class Service(ThreadingHTTPServer):
    """The server; `refused` counts questions that it could not understand."""

    daemon_threads = True

    def __init__(self, advisories: Advisories, log: Path) -> None:
        super().__init__(("127.0.0.1", int(os.environ.get("SEALRUN_LOOPBACK_PORT", "0"))), Questions)
        self.advisories, self.refused, self.guard = advisories, 0, threading.Lock()
        self.log = log.open("w", encoding="utf-8", newline="\n")

    @property
    def url(self) -> str:
        """Where questions go."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1/query"

    def note(self, **line: object) -> None:
        """Log one question."""
        with self.guard:
            self.log.write(json.dumps(line, sort_keys=True) + "\n")
            self.log.flush()


class Questions(BaseHTTPRequestHandler):
    """One connection, kept alive; headers and body leave in one buffer (Nagle's delay costs 40 ms otherwise)."""

    server: Service
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer an OSV query."""
        try:
            name, version = self.question()
            records = self.server.advisories.about(name, version)
        except (ValueError, TypeError, KeyError) as error:
            self.server.refused += 1
            self.reply(400, {"code": 3, "message": f"{error}"})
            return
        self.server.note(name=name, version=version, ids=[record["id"] for record in records])
        self.reply(200, {"vulns": records} if records else {})

    def question(self) -> tuple[str, str]:
        """Return the package and version asked about. Raises ValueError, TypeError or KeyError for anything else."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = asked["package"]["name"], asked["version"]
        if self.path != "/v1/query" or asked["package"]["ecosystem"] != "PyPI" or name != canonicalize_name(name):
            raise ValueError("not a query about a PyPI package by its canonical name")
        return name, version

    def reply(self, status: int, answer: object) -> None:
        """Send *answer*; the buffer is flushed once, after the request."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is `Service.note`."""


def audit(url: str, batch: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start pip-audit on one batch."""
    program = Path(sys.executable).parent / "pip-audit"
    return subprocess.Popen(
        [str(program), "--progress-spinner", "off", "--disable-pip", "--no-deps", "--vulnerability-service", "osv",
         "--osv-url", url, "--aliases", "on", "--desc", "off", "--format", "json", "--output", batch["report"],
         "--requirement", batch["requirements"]],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def failure(batch: dict[str, str], code: int) -> str:
    """Return why a batch counts as not audited, "" when it was."""
    report = Path(batch["report"])
    if code not in WORKED:
        return f"pip-audit ended with exit code {code}"
    return "" if report.is_file() and report.stat().st_size else f"pip-audit ended with exit code {code} and wrote no report"


def main(job_file: str) -> int:
    """Serve, audit every batch, and return the exit code."""
    job = json.loads(Path(job_file).read_bytes())
    failures = []
    with Service(Advisories(Path(job["facts"])), Path(job["log"])) as service:
        threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        waiting = list(job["batches"])
        while waiting:
            current, waiting = waiting[:ASKED_AT_ONCE], waiting[ASKED_AT_ONCE:]
            running = [(batch, audit(service.url, batch)) for batch in current]
            failures += [why for batch, process in running if (why := failure(batch, process.wait()))]
        service.shutdown()
    if service.refused:
        failures.append(f"{service.refused} questions were no OSV query")
    for why in failures:
        print(f"audit: {why}", file=sys.stderr)
    return TOOL_FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
