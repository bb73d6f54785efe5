"""A production release, from its fixture to the store, by the real pipeline: promoted, kept, made again, and made otherwise."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, git
from tests.e2e.conftest import Clone, Done, set_up

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]

OPENED = {"INVARLOCK_ALLOW_NETWORK": "1"}


def epoch() -> str:
    """Now, which a release is judged at: promotion knows the real day alone."""
    return str(int(datetime.now(UTC).timestamp()))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that may release for production: a snapshot of today, a trusted key, a retention class, a clean commit."""
    clone = set_up(tmp_path_factory.mktemp("production") / "sealrun", tmp_path_factory.mktemp("keys of production") / "keys")
    (clone.path / ".nox").mkdir(exist_ok=True)
    if not (clone.path / ".nox" / "venvs").exists():  # those of the checkout: each goes by its lock
        (clone.path / ".nox" / "venvs").symlink_to(ROOT / ".nox" / "venvs")
    record = {
        "schema_version": "1.6.0", "id": "PYSEC-2026-1", "modified": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "nobody-needs-this"},
                      "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}],
    }  # fmt: skip
    with zipfile.ZipFile(clone.path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-2026-1.json", json.dumps(record))
    assert clone.nox("-s", "advisories", "--", "--from", "all.zip").code == 0
    (clone.path / "all.zip").unlink()
    made = clone.run(clone.path / ".venv" / "bin" / "python", "-c", "from sealrun.evidence import keys; keys.release()")
    assert made.code == 0, made.err
    shutil.copy(clone.keys / "release.pub", clone.path / "policy" / "trust")
    config = clone.path / "examples" / "tiny-lm" / "release.toml"
    text = config.read_text().replace('posture = "research"', 'posture = "production"')
    config.write_text(text.replace('retention = "research"', 'retention = "release"'))
    git(clone.path, "add", "--all")
    git(clone.path, "commit", "--quiet", "--message=for production")
    done = clone.invoke("release", **OPENED, SOURCE_DATE_EPOCH=epoch())
    assert done.code == 0, done.err
    return clone


def ended(done: Done, code: int = 0) -> str:
    """What it said; it must end with *code*."""
    assert done.code == code, done.err
    return done.err


def test_it_is_promoted_once_and_kept(production: Clone) -> None:
    """promote, again, ledger.verify, and every command of the store, as docs/promotion.md writes them."""
    clone, bundle = production, production.bundle
    assert "promoted to staging" in ended(clone.invoke("promote", bundle, "--to", "staging"))
    assert "already promoted" in ended(clone.invoke("promote", bundle, "--to", "staging"))
    assert "1 promotions" in ended(clone.invoke("ledger.verify"))
    assert "kept, sha256:" in ended(clone.invoke("store.add", bundle, "--store", "kept"))
    assert "tiny-lm-0.1.0" in ended(clone.invoke("store.list", "--store", "kept"))
    assert "0 of them wrong" in ended(clone.invoke("store.check", "--store", "kept"))
    said = ended(clone.invoke("store.prune", "--store", "kept"))
    assert "kept until" in said and "the last promoted to staging" in said


def test_what_was_promoted_is_audited_again(production: Clone, tmp_path: Path) -> None:
    """The step of the scheduled workflow, as shell: out of the store, by newer advisories; what the store lacks is an error."""
    clone = production
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "scheduled.yml").read_text("utf-8"))["jobs"]
    (step,) = [step["run"] for step in jobs["audit"]["steps"] if step.get("name") == "Audit what was promoted"]

    def run(**variables: str) -> Done:
        return clone.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step, **variables)

    ended(clone.invoke("promote", clone.bundle, "--to", "staging"))
    ended(clone.invoke("store.add", clone.bundle, "--store", "kept"))
    assert "1 promoted bundles audited again" in ended(run(SEALRUN_STORE="kept"))
    assert "keeps no tiny-lm-0.1.0, which was promoted" in ended(run(SEALRUN_STORE="empty"), 3)
    lock = (clone.path / "requirements" / "audit.txt").read_text()
    package, version = re.findall(r"^(pip-audit)==(\S+)", lock, re.MULTILINE)[0]
    record = {
        "schema_version": "1.6.0", "id": "PYSEC-2026-2", "modified": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "versions": [version]}],
    }  # fmt: skip
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "PYSEC-2026-2.json").write_text(json.dumps(record))
    said = clone.invoke("store.reaudit", "--store", "kept", "--advisories", tmp_path / "newer", "--json")
    assert ended(said, 1).count("since: ") and said.json["findings"]


def test_another_clone_user_zone_and_umask_reproduce_it(production: Clone, tmp_path: Path) -> None:
    """Identical, without the maker's keys, in another clone, by another user, in another time zone and umask."""
    elsewhere = tmp_path / "elsewhere"
    git(tmp_path, "clone", "--quiet", str(production.path), str(elsewhere))
    (elsewhere / ".nox").mkdir()
    (elsewhere / ".nox" / "venvs").symlink_to((production.path / ".nox" / "venvs").resolve())
    (tmp_path / "keys").mkdir(mode=0o700)
    somebody = ("unshare", "--user", "--map-user=4321", "--map-group=4321") if shutil.which("unshare") else ()
    stranger = Clone(path=elsewhere, keys=tmp_path / "keys")
    ended(stranger.invoke("--list", **OPENED))
    shell = 'umask 077; exec python3 "$0/scripts/bootstrap.py" reproduce "$1"'
    done = stranger.run(
        *somebody, "sh", "-c", shell, elsewhere, production.bundle, **OPENED, TZ="Asia/Kathmandu", LC_ALL="C",
        SOURCE_DATE_EPOCH="0",
    )  # fmt: skip
    assert "reproduced" in ended(done)
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_customer_sees_no_evaluation_text(production: Clone) -> None:
    """Neither a text of the evaluation data nor its digest is left in a customer edition, its envelopes or its report."""
    ended(production.invoke("disclose", production.bundle, "--out", "customer"))
    data = production.path / "examples" / "tiny-lm" / "data" / "eval.jsonl"
    texts = [json.loads(line)["text"] for line in data.read_text("utf-8").splitlines()]
    wanted = {json.dumps(text, ensure_ascii=False).encode() for text in texts}
    wanted |= {hashlib.sha256(text.encode()).hexdigest().encode() for text in texts}

    def found(*blobs: bytes) -> int:
        return sum(text in blob for text in wanted for blob in blobs)

    made = production.path / "customer" / "tiny-lm-0.1.0.customer.evidence.tar"
    lines = made.with_name("tiny-lm-0.1.0.customer.intoto.jsonl").read_text().splitlines()
    payloads = [base64.b64decode(json.loads(line)["payload"]) for line in lines]
    assert found(production.bundle.read_bytes()) >= 2 * len(texts)
    assert found(made.read_bytes(), made.with_name("report.html").read_bytes(), *payloads) == 0


def _policy_line(tree: Path) -> None:
    path = tree / "policy" / "gates.toml"
    path.write_text(path.read_text().replace("max_ratio = 1.02", "max_ratio = 1.03"))


def _weight(tree: Path) -> None:
    path = tree / "examples" / "tiny-lm" / "candidate" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _dependency(tree: Path) -> None:
    """Another version of a package that no stage of the release installs, so that nothing has to be fetched for it."""
    path = tree / "requirements" / "example.txt"
    first = next(line for line in path.read_text().splitlines() if line.startswith("fsspec=="))
    path.write_text(path.read_text().replace(first, "fsspec==2026.8.0 \\"))


def _tool(tree: Path) -> None:
    """Another version of the scanner, locked with its real hashes and installed from the index."""
    path = tree / "requirements" / "audit.txt"
    version = "2.10.0"
    uv = tree / ".venv" / "bin" / "uv"
    argv = [str(uv), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "-"]
    done = subprocess.run(argv, input=f"pip-audit=={version}\n", capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no other pip-audit to be had here: {done.stderr[-200:]}")
    blocks = path.read_text().split("\npip-audit==")
    rest = blocks[1].split("\n")
    end = next(at for at, line in enumerate(rest) if at and not line.startswith("    "))
    path.write_text("\n".join([blocks[0], done.stdout.rstrip(), *rest[end:]]))


@pytest.mark.parametrize(
    "changes",
    [
        {"candidate/model.safetensors": (_weight, "sha256")},
        {
            "policy/gates.toml": (_policy_line, "max_ratio = 1.02 became max_ratio = 1.03"),
            "requirements/audit.txt": (_tool, "became 2.10.0"),
            "requirements/example.txt": (_dependency, "became 2026.8.0"),
        },
    ],
    ids=["a weight", "a policy line, a tool, a dependency"],
)
def test_what_changed_is_named_and_nothing_else(
    production: Clone, tmp_path: Path, changes: dict[str, tuple[Callable[[Path], None], str]]
) -> None:
    """With a weight, a policy line, a tool's version or a dependency changed, the report names exactly that."""
    tree = tmp_path / "tree"
    git(tmp_path, "clone", "--quiet", str(production.path), str(tree))
    (tree / ".venv").symlink_to(production.path / ".venv")
    for change, _ in changes.values():
        change(tree)
    (tree / ".venv").unlink()
    done = production.invoke("reproduce", production.bundle, "--tree", tree, "--json", **OPENED)
    said = ended(done, 1)
    causes = [line.split()[1].removesuffix(":") for line in said.splitlines() if line.startswith("cause")]
    assert causes == sorted(changes), said
    assert all(named in said for _, named in changes.values()), said
    findings = done.json["findings"]
    assert isinstance(findings, list)
    assert {cause for finding in findings for cause in finding["rule"].split(", ")} == set(changes)
