"""The commands of README and docs work as they are written.

Each command of a `sh` block stands below: in RUN with the exit code it ends with, or in NOT_RUN with the reason, which
`tests/unit/test_docs.py` holds. What a reader has to put in (NAME-VERSION, sha256:...) is put in here as well.
"""

import json
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundles import Draft, public_key
from tests.e2e.conftest import Clone, Done, set_up

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
RECORD = {
    "schema_version": "1.6.0", "id": "PYSEC-2023-74", "modified": "2026-01-01T00:00:00Z", "aliases": ["CVE-2023-32681"],
    "affected": [{"package": {"ecosystem": "PyPI", "name": "requests"},
                  "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2.3.0"}, {"fixed": "2.31.0"}]}]}],
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A command as it is written, the part it is run in, and the exit code it ends with."""

    command: str
    part: str
    code: int = 0


_WITHOUT_US = (  # DSSE's encoding of a line, and OpenSSL
    "python3 -c \"import base64,json,sys; e=json.loads(sys.stdin.readline()); p=base64.b64decode(e['payload']); "
    "t=e['payloadType'].encode(); open('pae','wb').write(b'DSSEv1 %d %b %d %b' % (len(t),t,len(p),p)); "
    "open('sig','wb').write(base64.b64decode(e['signatures'][0]['sig']))\" < NAME-VERSION.intoto.jsonl",
    "openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in pae -sigfile sig",
)
RUN = (
    Run("INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py release", "release"),
    Run("python3 scripts/bootstrap.py release --config examples/tiny-lm/damaged.toml", "release", code=1),
    Run("python3 scripts/bootstrap.py release --json result.json", "release"),
    Run("python3 scripts/bootstrap.py explain", "release"),
    Run("python3 -I verify_bundle.py NAME-VERSION.evidence.tar --fingerprint sha256:...", "recipient"),
    Run("python3 -I verify_bundle.py NAME-VERSION.evidence.tar --trust release.pub --files path/to/model", "recipient"),
    Run("python3 scripts/bootstrap.py disclose NAME-VERSION.evidence.tar --fingerprint sha256:... --out customer", "maker"),
    Run(
        "python3 scripts/bootstrap.py init --baseline models/old --candidate models/new --data eval.jsonl --name my-model",
        "own model",
    ),
    Run("python3 scripts/bootstrap.py release --config release.toml", "own model"),
    Run("INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py --list", "sessions"),
    Run("INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install sbom audit secrets model certify", "sessions"),
    Run(".venv/bin/nox -t release -j auto", "sessions"),
    Run(".venv/bin/nox -s audit -- --json audit.json", "sessions"),
    Run(".venv/bin/nox -s lock", "sessions"),
    Run(".venv/bin/python docs/measure.py", "release"),
    Run(".venv/bin/nox -s advisories -- --from all.zip", "audit"),
    Run("INVARLOCK_ALLOW_NETWORK=1 .venv/bin/nox -s audit -- path/to/requirements.txt", "audit", code=1),
    Run(".venv/bin/invoke policy.waive", "audit"),
    Run(".venv/bin/invoke policy.lapsing", "audit"),
    Run(".venv/bin/invoke policy.allowlist", "audit"),
)
NOT_RUN = {
    ".venv/bin/python -m sealrun secrets.staged": "tests/unit/test_staged.py runs it, in a repository with something staged",
    '.venv/bin/python -m sealrun secrets.import .secrets.baseline --owner=me --approver=security --reason="known test data" >> policy/waivers.toml': "needs another scanner's file; tests/unit/test_known_secrets.py reads both kinds",
    "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python docs/bench_secrets.py": "installs other scanners; minutes",
    "python3 scripts/bootstrap.py promote NAME-VERSION.evidence.tar --to staging": "needs a production release of today: run by "
    "tests/e2e/test_promotion.py",
    "INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py reproduce NAME-VERSION.evidence.tar --fingerprint sha256:...": "the "
    "same",
    "python3 scripts/bootstrap.py ledger.verify": "the same",
    "python3 scripts/bootstrap.py store.add NAME-VERSION.evidence.tar --store path/to/store": "the same",
    "python3 scripts/bootstrap.py store.list --store path/to/store": "the same",
    "python3 scripts/bootstrap.py store.check --store path/to/store": "the same",
    "python3 scripts/bootstrap.py store.prune --store path/to/store": "the same",
    **dict.fromkeys(
        (
            "invoke keys.use hsm:1?label=sealrun",
            "invoke keys.cosign build/NAME-VERSION/NAME-VERSION.evidence.tar --fingerprint sha256:...",
            "invoke keys.rotate --since 2027-01-01 --out handover",
            "invoke keys.revoke --reason compromised --out revoked",
            'invoke keys.revoke --bundle NAME-VERSION.evidence.tar --reason withdrawn --note "Wrong evaluation text." --out revoked',
        ),
        "changes this user's keys: run by tests/unit/evidence/test_rotation.py and test_signers.py",
    ),
    **dict.fromkeys(_WITHOUT_US, "a shell pipeline: run by tests/e2e/test_docs.py::test_nothing_of_ours_is_needed"),
    **dict.fromkeys(
        (
            "python3 scripts/bootstrap.py ci.matrix --json matrix.json",
            "python3 scripts/bootstrap.py ci.join parts/one parts/two --for certify",
            "python3 scripts/bootstrap.py ci.matrix --json matrix.json --shards secrets=2 --shards certify=4",
            ".venv/bin/nox --no-dependencies -s secrets -- --shard 1/2",
            ".venv/bin/nox --no-dependencies -s secrets -- --shard 2/2",
            "python3 scripts/bootstrap.py ci.join parts/one parts/two --for secrets --shard all/2",
            ".venv/bin/nox --no-dependencies -s secrets -- --shard all/2",
            "INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py ci.kit path/to/kit",
            "git clone path/to/kit/sealrun.bundle sealrun && cd sealrun",
            "SEALRUN_WHEELHOUSE=path/to/kit/wheels python3 scripts/bootstrap.py ci.kit --check path/to/kit --fingerprint sha256:...",
            "SEALRUN_WHEELHOUSE=path/to/kit/wheels python3 scripts/bootstrap.py release",
        ),
        "run by tests/e2e/test_any_repository.py, several of them only with the heavy tests",
    ),
    **dict.fromkeys(
        (
            ".venv/bin/python -m sealrun ci.fleet 'releases/*.toml'",
            "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install fleet",
            ".nox/venvs/fleet-*/bin/dask scheduler --host 127.0.0.1 --port 8786",
            ".nox/venvs/fleet-*/bin/dask worker tcp://127.0.0.1:8786 --nworkers 2 --nthreads 1",
            ".venv/bin/python -m sealrun ci.fleet 'releases/*.toml' --on dask://127.0.0.1:8786",
        ),
        "minutes of releases: run by tests/e2e/test_fleet.py with the heavy tests",
    ),
    ".venv/bin/python docs/catalogues.py": "takes ten minutes and rewrites the page; the tests of both catalogues hold its lines",
    "git clone https://example.com/sealrun.git && cd sealrun": "stands for the repository's own address",
    "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/nox -s advisories": "fetches from the public network; the tests take a small export "
    "in the same layout",
    ".venv/bin/invoke reaudit NAME-VERSION.evidence.tar --advisories all.zip": "run on bundles of its own by "
    "tests/unit/test_reaudit.py",
    "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/nox -s lock -- --check": "depends on what an index offers today",
    "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/nox -s lock -- --upgrade": "depends on what an index offers today",
    "INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py test": "is what runs this test",
    "INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py lint": "judges the whole working tree, so it is run there",
    "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install audit": "run by test_the_contrast_is_real",
    ".venv/bin/python docs/contrast.py": "run by test_the_contrast_is_real",
}


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Clone:
    """A clone with what a reader of the docs has: a model of their own, a lock, an advisory export, docs."""
    if os.environ.get("INVARLOCK_ALLOW_NETWORK") != "1":
        pytest.skip("installs environments: run with INVARLOCK_ALLOW_NETWORK=1")
    clone = set_up(tmp_path_factory.mktemp("documented") / "sealrun", keys)
    example = clone.path / "examples" / "tiny-lm"
    for source, target in (("baseline", "models/old"), ("candidate", "models/new")):
        shutil.copytree(example / source, clone.path / target)
    shutil.copy(example / "data" / "eval.jsonl", clone.path)
    lock = clone.path / "path" / "to" / "requirements.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"requests==2.30.0 \\\n    --hash=sha256:{'0' * 64}\n", "utf-8")
    with zipfile.ZipFile(clone.path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-2023-74.json", json.dumps(RECORD))
    return clone


def run_part(clone: Clone, part: str, cwd: Path | None = None, **replaced: str) -> list[Done]:
    """Run the commands of *part* one after the other, and return how each ended."""
    ended = []
    for run in (run for run in RUN if run.part == part):
        command = run.command
        for name, value in replaced.items():
            command = command.replace({"title": "NAME-VERSION", "fingerprint": "sha256:..."}[name], value)
        done = clone.run("sh", "-c", command, cwd=cwd)
        assert done.code == run.code, f"{command}\n{done.out}\n{done.err}"
        ended.append(done)
    return ended


def test_a_release_reaches_its_recipient(documented: Clone, tmp_path: Path) -> None:
    """The release commands end as they say; what they leave verifies with the recipient's commands, in another folder."""
    _, damaged, *_ = run_part(documented, "release")
    assert "certify.regression: failed" in damaged.err
    assert json.loads((documented.path / "result.json").read_text("utf-8"))["exit_code"] == 0
    for path in documented.out.glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    shutil.copy(documented.path / "scripts" / "verify_bundle.py", tmp_path)
    shutil.copy(documented.out / "evidence" / "bundle" / "release.pub", tmp_path)
    shutil.copytree(documented.path / "models" / "new", tmp_path / "path" / "to" / "model")
    page = (documented.out / "report.html").read_text("utf-8")
    fingerprint = re.search(r"--fingerprint (sha256:[0-9a-f]{64})", page)
    assert fingerprint
    for done in run_part(documented, "recipient", cwd=tmp_path, title="tiny-lm-0.1.0", fingerprint=fingerprint[1]):
        assert "PASSED" in done.out + done.err

    shutil.copy(documented.out / "tiny-lm-0.1.0.evidence.tar", documented.path)
    shutil.copy(documented.out / "tiny-lm-0.1.0.intoto.jsonl", documented.path)
    shutil.copy(documented.out / "report.html", documented.path)
    run_part(documented, "maker", title="tiny-lm-0.1.0", fingerprint=fingerprint[1])
    edition = documented.path / "customer" / "tiny-lm-0.1.0.customer.evidence.tar"
    done = documented.run("python3", tmp_path / "verify_bundle.py", edition, "--fingerprint", fingerprint[1], cwd=tmp_path)
    assert done.code == 0 and "CUSTOMER EDITION" in done.err, done.err


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl on PATH")
def test_nothing_of_ours_is_needed(tmp_path: Path) -> None:
    """The signature over the first line is verified by Python's own library and OpenSSL, as the page says."""
    path = Draft().write(tmp_path)
    (tmp_path / "release.pub").write_bytes(public_key().pem)
    for command in _WITHOUT_US:
        written = command.replace("NAME-VERSION", path.name.removesuffix(".evidence.tar"))
        done = subprocess.run(["bash", "-c", written], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "Verified Successfully" in done.stdout


def test_a_model_of_ones_own_is_released(documented: Clone) -> None:
    """`init` writes a release file that releases as it is."""
    shutil.rmtree(documented.path / "customer", ignore_errors=True)  # bundles are no source of this release
    for path in documented.path.glob("tiny-lm-*"):
        path.unlink()
    run_part(documented, "own model")
    assert (documented.path / "build" / "my-model-0.1.0" / "report.html").is_file()


def test_sessions_run_alone(documented: Clone) -> None:
    """The commands for a CI work one after the other."""
    run_part(documented, "sessions")
    assert json.loads((documented.path / "audit.json").read_text("utf-8"))["verdict"] == "passed"


def test_any_lock_is_audited(documented: Clone) -> None:
    """With a snapshot imported for it, a lock of another repository is judged; the vulnerable package in it is named."""
    kept = documented.path / "policy" / "advisories"
    before = {path: path.read_bytes() for path in kept.iterdir()}
    try:
        _, audited, *_ = run_part(documented, "audit")
    finally:
        for path, data in before.items():
            path.write_bytes(data)
    assert "PYSEC-2023-74" in audited.out + audited.err
    assert "audit.coverage: failed" not in audited.out + audited.err


def test_the_contrast_is_real(documented: Clone) -> None:
    """pip-audit that gets 404 for everything says clean; Sealrun with it ends in an error, and by itself finds it."""
    command = "INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install audit && .venv/bin/python docs/contrast.py"
    done = documented.run("sh", "-c", command)
    assert done.code == 0, done.err
    plain, deaf, own = re.split(r"^(?=Sealrun)", done.out, flags=re.MULTILINE)
    assert plain == "pip-audit, every request answered with 404: exit code 0\n    No known vulnerabilities found\n"
    assert deaf.startswith("Sealrun, the same pip-audit, the same 404: exit code 4\n")
    assert "SEALRUN-CANARY-1 was not found" in deaf
    assert own.startswith("Sealrun as it is: exit code 1\n")
    assert "PYSEC-2023-74" in own


def test_readme_quotes_the_contrast(documented: Clone) -> None:
    """The answers in README are those that docs/contrast.py prints: same headings, same exit codes."""
    headings = r"^(?:pip-audit|Sealrun).*: exit code \d$"
    done = documented.run("sh", "-c", ".venv/bin/python docs/contrast.py")
    quoted = re.findall(headings, (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert quoted == re.findall(headings, done.out, re.MULTILINE)
