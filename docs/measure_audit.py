"""Measure the audit, and print the figures as lines of docs/figures.md.

    .venv/bin/python docs/measure_audit.py

Ten locks of 100 pins, 400 distinct packages: audited by Sealrun, whole (sandbox, service, pip-audit, judgement, statement), and
by plain pip-audit against the same service, a process for each lock, as a CI would run it; both in turn, the best counts, by
the clock and in seconds of processors (what the service itself takes for plain pip-audit is left out of the second). Then
30,000 records are imported. Needs the environment `audit`; nothing leaves the machine.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from sealrun import advisories, venvs  # noqa: E402
from sealrun.__main__ import main as sealrun  # noqa: E402

LOCKS, PINS, PACKAGES, RECORDS, TURNS = 10, 100, 400, 30_000, 3
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from osv_service import Advisories, Service
with Service(Advisories(Path(sys.argv[2])), Path(sys.argv[3])) as service:
    print(service.url, flush=True)
    service.serve_forever()
"""


def record(number: int) -> dict[str, Any]:
    """A record as OSV writes them: several versions, two ranges, references, prose."""
    name = f"package-{number % 7000}"
    versions = [f"{major}.{minor}" for major in range(3) for minor in range(12)]
    events = [{"introduced": "0"}, {"fixed": "1.0.1"}]
    return {
        "id": f"PYSEC-2024-{number}", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
        "schema_version": "1.6.0", "aliases": [f"CVE-2024-{number}"], "details": "What happens, at some length. " * 40,
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}],
        "references": [{"type": "WEB", "url": f"https://example.invalid/{number}/{n}"} for n in range(6)],
        "affected": [{"package": {"ecosystem": "PyPI", "name": name}, "versions": versions,
                      "ranges": [{"type": "ECOSYSTEM", "events": events},
                                 {"type": "GIT", "repo": "https://example.invalid", "events": [{"introduced": "0"}]}]}],
    }  # fmt: skip


def export(path: Path, count: int) -> Path:
    """An export of *count* records in OSV's layout."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"PYSEC-2024-{number}.json", json.dumps(record(number)))
    return path


def locks(folder: Path) -> list[Path]:
    """Ten locks that pin 400 packages between them."""
    made = []
    for number in range(LOCKS):
        chosen = sorted((number * 40 + step * (1 if step < 60 else 3)) % PACKAGES for step in range(PINS))
        path = folder / f"app-{number}.txt"
        pins = [f"package-{pin}==3.{pin % 9} --hash=sha256:{'ab' * 32}\n" for pin in dict.fromkeys(chosen)]
        path.write_text("".join(pins), encoding="utf-8")
        made.append(path)
    return made


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds that *run* took, by the clock and of processors, its programs' too: the second is the same on a busy machine."""
    begun, spent = time.perf_counter(), processors()
    run()
    return time.perf_counter() - begun, processors() - spent


def processors() -> float:
    """Seconds of processors that this program and those it waited for have taken."""
    taken = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in taken)


def told(seconds: tuple[float, float]) -> str:
    """Both, in words."""
    return f"{seconds[0]:.1f} s, {seconds[1]:.1f} s of processors"


def best(turns: list[tuple[float, float]]) -> tuple[float, float]:
    """The least of each."""
    return min(clock for clock, _ in turns), min(spent for _, spent in turns)


def whole(paths: list[Path], out: Path, home: Path) -> None:
    """Audit the locks as `nox -s audit -- LOCK...` does."""
    command = [sys.executable, "-m", "sealrun", "stage", "audit", *map(str, paths), f"--out={out}", "--fresh", f"--root={home}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def plain(paths: list[Path], program: Path, url: str) -> None:
    """Run pip-audit on one lock after the other."""
    command = [str(program), "--progress-spinner", "off", "--disable-pip", "--require-hashes", "-s", "osv", "--osv-url", url]
    for path in paths:
        subprocess.run([*command, "-r", str(path)], check=True, capture_output=True)


def home(folder: Path) -> Path:
    """A checkout with this one's policy, example and environments, and an index of its own."""
    for name in ("policy", "examples", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".nox").mkdir(parents=True)
    (folder / ".nox" / "venvs").symlink_to(ROOT / ".nox" / "venvs")
    return folder


def main() -> int:
    """Measure and print."""
    environment = venvs.existing(ROOT, "audit")
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        (tmp / "locks").mkdir()
        (tmp / "home").mkdir()
        paths, checkout = locks(tmp / "locks"), home(tmp / "home")
        pins = [line.split()[0] for path in paths for line in path.read_text("utf-8").splitlines()]
        with contextlib.redirect_stderr(io.StringIO()):
            assert sealrun(["advisories", f"--from={export(tmp / 'small.zip', 2000)}", f"--root={checkout}"]) == 0
        (tmp / "facts.json").write_text(json.dumps({"advisories": []}), encoding="utf-8")
        service = subprocess.Popen(
            [str(environment.python), "-c", SERVE, str(ROOT / "scripts" / "sealrun" / "inside"), str(tmp / "facts.json"),
             str(tmp / "log")], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert service.stdout
            url = service.stdout.readline().strip()
            ours, theirs = [], []
            for turn in range(TURNS):
                ours.append(timed(lambda: whole(paths, tmp / "out", checkout)))
                theirs.append(timed(lambda: plain(paths, environment.program("pip-audit"), url)))
                print(f"turn {turn}: Sealrun {told(ours[-1])}; plain pip-audit {told(theirs[-1])}", file=sys.stderr)
        finally:
            service.kill()
            service.wait()
        seen = f"{told(best(ours))}; plain pip-audit, with nothing to find, {told(best(theirs))}"
        print(f"| {LOCKS} locks of {PINS} pins, {len(set(pins))} distinct | `docs/measure_audit.py` | {seen} |")
        large = export(tmp / "large.zip", RECORDS)
        seconds = timed(lambda: advisories.refresh(checkout, str(large)))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"| {RECORDS:,} advisories imported under 15 s, memory bounded | `docs/measure_audit.py` "
              f"| {told(seconds)} for {large.stat().st_size // 1024**2} MiB, at most {memory} MiB in memory |")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
