"""A small project with locks, policy and advisories of its own, and tool environments whose tool a test chooses."""

import json
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from sealrun import advisories, files, pipeline, venvs
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import Finding, Outcome
from sealrun.policy.load import load_plan
from sealrun.stage import Context, Stage

ROOT = Path(__file__).resolve().parents[1]
TODAY = date(2026, 3, 10)
HASH = "--hash=sha256:" + "ab" * 32

FORMS = {
    "id": "PYSEC-2026-1", "modified": "2026-03-08T10:00:00Z", "aliases": ["CVE-2026-0001"],
    "database_specific": {"severity": "HIGH"},
    "affected": [
        {"package": {"ecosystem": "PyPI", "name": "Forms_Kit"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]},
    ],
}  # fmt: skip
FORMS_TWIN = {**FORMS, "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-0001"]}
MINOR = {
    "id": "PYSEC-2026-2", "modified": "2026-03-01T00:00:00Z", "database_specific": {"severity": "LOW"},
    "affected": [{"package": {"ecosystem": "PyPI", "name": "six"}, "versions": ["1.16.0"]}],
}  # fmt: skip

# A stand-in for pip-audit that really asks the service about each line; `LIE` then spoils what it tells.
ASKING_TOOL = """
import json, sys, urllib.request
from pathlib import Path
option = lambda name: sys.argv[sys.argv.index(name) + 1]
def ask(name, version):
    question = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": version}).encode()
    with urllib.request.urlopen(option("--osv-url"), question) as answer:
        return json.load(answer).get("vulns", [])
lines = Path(option("--requirement")).read_text().split()
LIE_FIRST = None
dependencies = []
for name, version in (line.split("==") for line in lines):
    vulns = [{"id": v["id"], "fix_versions": [], "aliases": v["aliases"]} for v in ask(name, version)]
    dependencies.append({"name": name, "version": version, "vulns": vulns})
LIE
Path(option("--output")).write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
sys.exit(int(any(d.get("vulns") for d in dependencies)))
"""


def tool(*, lie: str = "", first: str = "") -> str:
    """Return a stand-in for pip-audit that tells *lie* (a statement on `dependencies`)."""
    return ASKING_TOOL.replace("LIE_FIRST = None", first).replace("LIE", lie, 1)


def make(path: Path, *, locks: Mapping[str, str] | None = None, records: tuple[Any, ...] = (FORMS, FORMS_TWIN, MINOR)) -> Path:
    """Make the project at *path*: today's policy and release file, the *locks*, and the advisories *records*."""
    shutil.copytree(ROOT / "policy", path / "policy", ignore=shutil.ignore_patterns("advisories"))
    (path / "examples" / "tiny-lm").mkdir(parents=True)
    shutil.copy2(ROOT / "examples" / "tiny-lm" / "release.toml", path / "examples" / "tiny-lm")
    (path / "requirements").mkdir()
    write_locks(path, {"audit": f"pip-audit==2.10.1 {HASH}\n", **(locks or {"app": f"six==1.17.0 {HASH}\n"})})
    import_records(path, records)
    return path


def write_locks(path: Path, locks: Mapping[str, str]) -> None:
    """Write *locks*, text by environment."""
    for name, text in locks.items():
        (path / "requirements" / f"{name}.txt").write_text(text, encoding="utf-8")


def import_records(path: Path, records: tuple[Any, ...]) -> None:
    """Import the advisories *records* into the policy of the project."""
    source = files.empty_folder(path / "records")
    for record in records:
        (source / f"{record['id']}.json").write_text(json.dumps(record), encoding="utf-8")
    advisories.embed(path, source, origin="written for a test", licence="Apache-2.0")
    shutil.rmtree(source)


def install(path: Path, name: str, programs: Mapping[str, str], packages: Mapping[str, str] | None = None) -> Path:
    """Make environment *name* with *programs* by their Python source. Return its folder.

    It holds the packages of this interpreter, or else only the metadata of *packages*, version by name.
    """
    folder = venvs.locate(path, name).path
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    site.mkdir(parents=True)
    if packages is None:
        (site / "site-packages").symlink_to(sysconfig.get_path("purelib"))
    for package, version in (packages or {}).items():
        (site / "site-packages" / f"{package}-{version}.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nLicense-Expression: MIT\n"
        (site / "site-packages" / f"{package}-{version}.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
    home = Path(sys.executable).resolve().parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n", encoding="utf-8")
    for program, source in programs.items():
        script = folder / "bin" / program
        start = f"""#!/bin/sh\n'''exec' "{folder}/bin/python" "$0" "$@"\n' '''\n"""  # a shebang cannot hold a space
        script.write_text(start + source, encoding="utf-8")
        script.chmod(0o755)
    files.write_json(folder / "sealrun-venv.json", {"made": "for a test"})
    return folder


def context(path: Path, *, today: date = TODAY, targets: tuple[Path, ...] = ()) -> Context:
    """Return a context for the project, judged on *today*."""
    return Context(plan=load_plan(path, None, today), root=path, out=path / "build", targets=targets)


def run(stage: Stage, ctx: Context) -> StagePredicate:
    """Run *stage* afresh and return what it states."""
    return pipeline.execute(stage, ctx, fresh=True).predicate


def outcome(predicate: StagePredicate, control: str) -> Outcome:
    """Return the outcome of *control*."""
    return next(each for each in predicate.outcomes if each.control == control)


def findings(predicate: StagePredicate, control: str) -> list[Finding]:
    """Return the findings of *control*."""
    return [each for each in predicate.findings if each.control == control]


def edit(path: Path, old: str, new: str) -> None:
    """Replace *old*, which must stand in the file *path*, with *new*."""
    text = path.read_text("utf-8")
    assert old in text, f"{path}: {old!r} is not there to be edited"
    path.write_text(text.replace(old, new), encoding="utf-8")
