"""Half a year later: what a clone of today ships is still audited clean, by advisories on everything that an upstream froze."""

import json
import os
import re
import time
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sealrun import venvs
from sealrun.errors import InputMissing
from sealrun.reports.lockfiles import read_lock
from tests.conftest import sealrun

ROOT = Path(__file__).resolve().parents[2]
DAYS = 200
# What keeps these back is not an exact pin but an upper bound, or the one line that InvarLock 0.3.7 works with. Nobody could
# override them; a release by another engine uses nothing of their environment.
HELD_BACK = ("transformers", "huggingface-hub", "tokenizers", "fsspec", "dill", "multiprocess")
# Parts of one project, released together: whoever mends one releases the other.
TOGETHER = {("pydantic", "pydantic-core"), ("httpx2", "httpcore2"), ("sigstore", "sigstore-models"), ("sigstore", "sigstore-rekor-types"),
            ("torch", "cuda-toolkit"), ("torch", "triton")}  # fmt: skip


def installed(name: str) -> list[Distribution]:
    """The distributions of environment *name*. Skips the test where it is not installed."""
    try:
        folder = venvs.existing(ROOT, name).path
    except InputMissing as error:
        pytest.skip(str(error))
    return list(distributions(path=[str(path) for path in folder.glob("lib/python3*/site-packages")]))


def frozen(found: list[Distribution]) -> dict[tuple[str, str], str]:
    """What each distribution pins exactly: (who, whom) to the version."""
    pins = {}
    for distribution in found:
        for text in distribution.requires or ():
            requirement = Requirement(text)
            exact = [
                specifier.version
                for specifier in requirement.specifier
                if specifier.operator == "==" and "*" not in specifier.version
            ]
            if exact and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                pins[canonicalize_name(distribution.name), canonicalize_name(requirement.name)] = exact[0]
    return {pair: version for pair, version in pins.items() if pair not in TOGETHER and not pair[1].startswith("nvidia-")}


def advisory(number: int, package: str, version: str, day: str) -> dict[str, Any]:
    """A critical advisory on everything up to the frozen version."""
    events = [{"introduced": "0"}, {"last_affected": version}]
    return {
        "id": f"PYSEC-2099-{number}", "modified": f"{day}T00:00:00Z", "database_specific": {"severity": "CRITICAL"},
        "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
    }  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize(
    "name", ["secrets", "audit", "sbom", "model", "certify", "runtime-onnx", "lock", "fetch", "fleet", "example", "test"]
)
def test_what_an_upstream_froze_is_replaced(name: str) -> None:
    """Where a tool pins another project exactly, our lock holds something newer: otherwise its first advisory would stop us."""
    found = installed(name)
    held = {canonicalize_name(distribution.name): distribution.version for distribution in found}
    stuck = {pair: version for pair, version in frozen(found).items() if held.get(pair[1]) == version}
    assert not stuck, "override them: requirements/NAME.overrides, as requirements/secrets.overrides does"


def held_back() -> dict[tuple[str, str], str]:
    """What the environment of engine invarlock-0.3 cannot have newer: (who, whom) to the version in its lock."""
    lock = read_lock(ROOT / "requirements" / "certify-0.3.txt", "certify-0.3", "certify-0.3.txt")
    return {("certify-0.3", pin.name): pin.version for pin in lock.pins if pin.name in HELD_BACK}


@pytest.mark.e2e
def test_a_fresh_clone_passes_the_production_audit_half_a_year_later(repository: Path, tmp_path: Path) -> None:
    """A newer snapshot with a critical advisory on every frozen pin, the clock 200 days ahead, and no waiver."""
    installed("audit")
    pins = frozen(installed("secrets")) | held_back()
    assert ("trufflehog3", "pyyaml") in pins and len(held_back()) == len(HELD_BACK)
    now = int(time.time()) + DAYS * 86400
    day = time.strftime("%Y-%m-%d", time.gmtime(now - 86400))
    records = [advisory(number, package, version, day) for number, ((_, package), version) in enumerate(sorted(pins.items()))]
    export = tmp_path / "all.zip"
    with zipfile.ZipFile(export, "w") as archive:
        if corpus := os.environ.get("SEALRUN_ADVISORY_CORPUS"):
            with zipfile.ZipFile(corpus) as real:
                for member in real.namelist():
                    archive.writestr(member, real.read(member))
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    config = repository / "examples" / "tiny-lm" / "production.toml"
    text = (repository / "examples" / "tiny-lm" / "release.toml").read_text("utf-8")
    config.write_text(re.sub(r'posture = "\w+"', 'posture = "production"', text), encoding="utf-8")
    assert (
        not (repository / "policy" / "baseline.toml").exists()
        and "[[waiver]]" not in (repository / "policy" / "waivers.toml").read_text()
    )

    done = sealrun(repository, "advisories", f"--from={export}")
    assert done.returncode == 0, done.stderr
    later = {"SOURCE_DATE_EPOCH": str(now)}
    done = sealrun(repository, "stage", "audit", f"--config={config}", "--json", **later)
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {control["control"]: control["outcome"] for control in result["controls"]} == {
        "audit.coverage": "passed", "audit.clean": "passed", "audit.fresh": "passed",
    }  # fmt: skip

    spared = {finding["package"]: finding["outcome"] for finding in result["findings"]}
    assert spared == dict.fromkeys(HELD_BACK, "passed")  # seen all the same
    config.write_text(text.replace('engine = "invarlock-0.17"', 'engine = "invarlock-0.3"'), encoding="utf-8")
    done = sealrun(repository, "stage", "audit", f"--config={config}", "--json", **later)
    failed = {finding["package"] for finding in json.loads(done.stdout)["findings"] if finding["outcome"] == "failed"}
    assert done.returncode == 1 and failed == set(HELD_BACK)  # and held against a release that uses them
    config.write_text(re.sub(r'posture = "\w+"', 'posture = "production"', text), encoding="utf-8")

    lock = repository / "requirements" / "secrets.txt"  # the advisories do bite: with the pins as upstream has them it fails
    name, version = "jinja2", pins["trufflehog3", "jinja2"]
    lock.write_text(
        re.sub(rf"^{name}==\S+", f"{name}=={version}", lock.read_text("utf-8"), flags=re.MULTILINE), encoding="utf-8"
    )
    done = sealrun(repository, "stage", "audit", f"--config={config}", "--json", **later)
    assert done.returncode == 1 and "PYSEC-2099" in done.stderr and name in done.stderr
