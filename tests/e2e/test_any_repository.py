"""Another repository, by each door: the import, the composite action, GitLab's template; and the matrix, as its CI would run it."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sealrun import files
from tests.conftest import ROOT, checkout, git
from tests.e2e.conftest import Clone, Done

pytestmark = pytest.mark.e2e

A = "sha256:" + "ab" * 32
LOCK = f"""version = 1
requires-python = ">=3.12"

[[package]]
name = "tiny"
version = "0.1"
source = {{ editable = "." }}
dependencies = [{{ name = "requests" }}, {{ name = "idna" }}]

[[package]]
name = "requests"
version = "2.30.0"
source = {{ registry = "https://example.invalid/simple" }}
wheels = [{{ url = "https://example.invalid/requests-2.30.0-py3-none-any.whl", hash = "{A}" }}]

[[package]]
name = "idna"
version = "3.7"
source = {{ registry = "https://example.invalid/simple" }}
wheels = [{{ url = "https://example.invalid/idna-3.7-py3-none-any.whl", hash = "{A}" }}]
"""
PROJECT = '[project]\nname = "tiny"\nversion = "0.1"\ndependencies = ["requests==2.30.0", "idna"]\n'
ADVISORY = {
    "id": "PYSEC-2023-74", "modified": "2025-12-30T00:00:00Z", "aliases": ["CVE-2023-32681"],
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:H/I:N/A:N"}],
    "affected": [{"package": {"ecosystem": "PyPI", "name": "requests"},
                  "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2.3.0"}, {"fixed": "2.31.0"}]}]}],
}  # fmt: skip
OWN_STAGE = '''
"""A stage of the repository's own: is there a licence?"""
from sealrun import digest, files
from sealrun.outcome import Judgement, check
from sealrun.stage import Stage


def inputs(context):
    return {name: digest.of_file(context.root / name) for name in ("pyproject.toml", "LICENSE") if (context.root / name).is_file()}


def gather(context, work):
    files.write_json(work.out / "licence.json", (context.root / "LICENSE").is_file())


def judge(context):
    there = files.parse_json(files.read_bytes(context.evidence("licence") / "licence.json", "report"), "report")
    return Judgement(outcomes=(check("licence.there", there, seen=str(there), expected="a LICENSE", remedy="add one"),))


STAGE = Stage(name="licence", summary="Is there a licence?", controls=("licence.there",), inputs=inputs, gather=gather, judge=judge)
'''


def noxfile(home: Path) -> str:
    """The noxfile of five lines, with the checkout where docs/ci.md clones it."""
    return f'import sys\nsys.path.insert(0, {str(home / "scripts")!r})\nfrom sealrun.sessions import register\nregister(extra=["ci/licence.py"])\n'


@pytest.fixture
def second(clone: Clone, tmp_path: Path) -> Path:
    """A small repository with a lock, one vulnerable pin, one secret, and a module that must never be imported."""
    tree = tmp_path / "second"
    (tree / "ci").mkdir(parents=True)
    (tree / "uv.lock").write_text(LOCK)
    (tree / "pyproject.toml").write_text(PROJECT)
    (tree / "noxfile.py").write_text(noxfile(clone.path))
    (tree / "ci" / "licence.py").write_text(OWN_STAGE)
    (tree / "json.py").write_text("raise SystemExit('what is judged was imported')\n")
    (tree / "settings.py").write_text(f"aws_access_key_id = '{'AKIA'}{'Q3EGRZ7WNB4KXT2M'}'\n")
    (tree / ".gitignore").write_text("build/\n.nox/\n")
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "-c", "user.name=n", "-c", "user.email=n@example.invalid", "commit", "--quiet", "--message", "first")
    records = tmp_path / "records"
    records.mkdir()
    (records / "PYSEC-2023-74.json").write_text(json.dumps(ADVISORY))
    return tree


def found(clone: Clone, tree: Path, stage: str) -> tuple[Done, Any]:
    """Run one session of the door; return how it ended and its JSON."""
    done = clone.run(clone.path / ".venv" / "bin" / "nox", "-s", stage, "--", f"--json={stage}.json", cwd=tree)
    return done, json.loads((tree / f"{stage}.json").read_text("utf-8"))


def check_findings(results: Mapping[str, Any]) -> None:
    """Exactly the planted findings, each in its place."""
    assert {stage: value["verdict"] for stage, value in results.items()} == {
        "lock": "passed", "sbom": "passed", "audit": "failed", "secrets": "failed",
    }  # fmt: skip
    (vulnerable,) = results["audit"]["findings"]
    assert (vulnerable["package"], vulnerable["version"], vulnerable["advisory"]) == ("requests", "2.30.0", "PYSEC-2023-74")
    (secret,) = results["secrets"]["findings"]
    assert (secret["path"], secret["line"]) == ("settings.py", 1)
    assert "Q3EGRZ7WNB4KXT2M" not in json.dumps(results)


def test_the_import_door_gives_exactly_the_planted_findings(clone: Clone, second: Path) -> None:
    """Five lines of noxfile: four verdicts, one vulnerable pin, one secret, a stage of its own; nothing judged is imported."""
    nox = clone.path / ".venv" / "bin" / "nox"
    listed = clone.run(nox, "--list", cwd=second)
    assert all(f"* {name} " in listed.out for name in ("lock", "sbom", "audit", "secrets", "licence")), listed.out + listed.err
    assert clone.run(nox, "-s", "advisories", "--", "--from", "../records", cwd=second).code == 0
    results = {stage: found(clone, second, stage) for stage in ("lock", "sbom", "audit", "secrets")}
    check_findings({stage: value for stage, (_, value) in results.items()})
    assert [done.code == 0 for done, _ in results.values()] == [True, True, False, False]
    own, said = found(clone, second, "licence")
    assert own.code != 0 and said["controls"][0]["control"] == "licence.there"
    (second / "LICENSE").write_text("do what you like\n")
    assert found(clone, second, "licence")[0].code == 0
    assert json.loads((second / "build" / "supply-chain" / "evidence" / "sbom" / "sbom.json").read_text())["components"]


@pytest.mark.heavy
def test_the_five_lines_of_the_page_give_a_new_user_four_verdicts(clone: Clone) -> None:
    """As docs/ci.md has them, with nothing installed: the measurement ends only where every verdict is the one planted."""
    done = clone.run(
        clone.path / ".venv" / "bin" / "python", clone.path / "docs" / "measure_door.py", INVARLOCK_ALLOW_NETWORK="1",
        PATH=f"{clone.path / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    assert done.code in (0, 1), done.err  # 1: slower than promised, as a busy machine may be
    assert done.out.count("supply-chain") == 3


def test_a_lock_without_hashes_is_a_finding_not_a_crash(clone: Clone, second: Path) -> None:
    """Requirements as people write them: each flaw is named with its line; the audit still asks about what is pinned."""
    (second / "uv.lock").unlink()
    (second / "requirements.txt").write_text("requests==2.30.0\nidna>=3\n")
    assert (
        clone.run(clone.path / ".venv" / "bin" / "nox", "-s", "advisories", "--", "--from", "../records", cwd=second).code == 0
    )
    _, said = found(clone, second, "lock")
    assert [(f["path"], f["line"]) for f in said["findings"]] == [("requirements.txt", 1), ("requirements.txt", 2)]
    _, audited = found(clone, second, "audit")
    assert {finding["package"] for finding in audited["findings"]} == {"requests", "idna"}
    assert audited["verdict"] == "failed"


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of a composite action that run a shell."""
    return [step for step in yaml.safe_load(path.read_text("utf-8"))["runs"]["steps"] if "run" in step]


def shell(clone: Clone, script: str, cwd: Path, **variables: str) -> Done:
    """Run a step as GitHub does."""
    return clone.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script, cwd=cwd, **variables)


def filled(step: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step, its expressions replaced by *inputs*."""
    environment = {}
    for name, value in step.get("env", {}).items():
        for key, text in inputs.items():
            value = value.replace(f"${{{{ {key} }}}}", text)
        environment[name] = value
    return environment


def test_the_composite_action_runs_its_steps_as_written(clone: Clone, second: Path, tmp_path: Path) -> None:
    """Install with the network, run without: the same findings, a summary for the job, exit 1."""
    output, told = tmp_path / "output", tmp_path / "summary.md"
    surroundings = {
        "GITHUB_ACTION_PATH": str(clone.path), "GITHUB_WORKSPACE": str(second), "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(told),
    }  # fmt: skip
    inputs = {"inputs.stages": "lock sbom audit secrets", "inputs.advisories": "../records"}
    install, run = steps(ROOT / "action.yml")
    done = shell(clone, install["run"], second, **surroundings, **filled(install, inputs))
    assert done.code == 0, done.err
    done = shell(clone, run["run"], second, **surroundings, **filled(run, inputs))
    assert done.code == 1, done.err
    reports = Path(output.read_text().strip().removeprefix("reports="))
    check_findings(
        {
            stage: json.loads((reports / "results" / f"{stage}.json").read_text())
            for stage in ("lock", "sbom", "audit", "secrets")
        }
    )
    assert "audit.clean" in told.read_text() and "secrets.clean" in told.read_text()


def test_gitlabs_template_runs_as_written(clone: Clone, second: Path) -> None:
    """The job's shell with the variables that GitLab sets; its reports lie where the template says."""
    job = yaml.safe_load((ROOT / "ci" / "sealrun.gitlab-ci.yml").read_text("utf-8"))["sealrun"]
    commit = git(clone.path, "rev-parse", "HEAD").strip()
    variables = {"STAGE": "secrets", "SEALRUN_URL": str(clone.path), "SEALRUN_COMMIT": commit, "SEALRUN_HOME": ".nox/sealrun"}
    script = "\n".join([*job["before_script"], *job["script"]])
    done = shell(clone, script, second, **variables)
    assert done.code == 1 and "settings.py:1" in done.err, done.err
    assert (second / job["artifacts"]["reports"]["secret_detection"]).is_file()


# The matrix -----------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_matrix_run_makes_the_bundle_of_a_local_run(clone: Clone, tmp_path: Path) -> None:
    """Each job in a fresh clone, given only the parts of earlier jobs, two at a time in any order within a wave, the secret scan
    and the scoring split: the same bytes."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    parts = tmp_path / "parts"
    parts.mkdir()
    for wave in planned(clone, workflow["plan"]["steps"], tmp_path / "output"):
        jobs = random.Random(7).sample(wave, len(wave))
        with ThreadPoolExecutor(2) as pool:
            left = list(pool.map(lambda job: run_job(clone, tmp_path / job["part"], job, parts), jobs))
        for job, folder in zip(jobs, left, strict=True):
            folder.rename(parts / f"part-{job['part']}")
    last = fresh(clone, tmp_path / "bundle")
    shutil.copytree(parts, last.path / "parts")
    told = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "RUNNER_TEMP": str(tmp_path)}
    keys = {f"secrets.{name}-key": (clone.keys / f"{name}.pem").read_text() for name in ("release", "models")}
    for step in workflow["bundle"]["steps"]:
        if "run" in step:
            done = shell(last, step["run"], last.path, **told, SEALRUN_CONFIG="", **filled(step, keys))
            assert done.code == 0, f"{step['name']}: {done.err}"
    for other in (last, in_gitlab(clone, tmp_path / "gitlab", parts)):
        for suffix in (".evidence.tar", ".intoto.jsonl"):
            assert (other.out / f"tiny-lm-0.1.0{suffix}").read_bytes() == (clone.out / f"tiny-lm-0.1.0{suffix}").read_bytes()
    assert "bundle" in (tmp_path / "summary.md").read_text()


def in_gitlab(clone: Clone, path: Path, parts: Path) -> Clone:
    """Run three jobs of GitLab's pipeline as its runner does: a stage and a shard, whose parts must be those of *parts*, and the
    bundle, whose clone is returned."""
    path.mkdir()
    planned = fresh(clone, path / "plan")
    done = shell(planned, gitlab("release", "plan"), planned.path, SEALRUN_SHARDS="secrets=2 certify=2")
    assert done.code == 0, done.err
    pipeline = yaml.safe_load((planned.path / "pipeline.yml").read_text("utf-8"))
    for variables in pipeline["wave0"]["parallel"]["matrix"]:
        if variables["PART"] in ("lock", "secrets-1-of-2"):
            job = fresh(clone, path / variables["PART"])
            done = shell(job, gitlab("jobs", ".sealrun-stage"), job.path, **variables)
            assert done.code == 0, done.err
            left, there = job.path / "parts" / variables["PART"], parts / f"part-{variables['PART']}" / "tiny-lm-0.1.0"
            assert {name: (left / name).read_bytes() for name in files.walk_files(left)} == {
                name: (there / name).read_bytes() for name in files.walk_files(there)
            }
    last = fresh(clone, path / "bundle")
    shutil.copytree(parts, last.path / "parts")
    keys = {f"{name.upper()}_KEY": str(clone.keys / f"{name}.pem") for name in ("release", "models")}
    done = shell(last, gitlab("jobs", ".sealrun-bundle"), last.path, **keys)
    assert done.code == 0, done.err
    return last


def gitlab(file: str, name: str) -> str:
    """The script of a job in one of GitLab's files."""
    job = yaml.safe_load((ROOT / "ci" / f"{file}.gitlab-ci.yml").read_text("utf-8"))[name]
    return "\n".join([*job.get("before_script", []), *job["script"]])


def fresh(clone: Clone, path: Path) -> Clone:
    """A clone at *path* in which nothing was made; the tools' environments, which are nobody's input, are those of *clone*."""
    job = Clone(path=checkout(path), keys=clone.keys)
    (path / ".nox").mkdir()
    (path / ".nox" / "venvs").symlink_to(clone.path / ".nox" / "venvs")
    return job


def planned(clone: Clone, steps: list[dict[str, Any]], output: Path) -> list[list[dict[str, str]]]:
    """The waves of jobs that the steps of the plan hand on."""
    for step in steps:
        if "run" in step:
            variables = filled(step, {"inputs.shards": "secrets=2 certify=2"})
            done = shell(clone, step["run"], clone.path, GITHUB_OUTPUT=str(output), **variables)
            assert done.code == 0, f"{step['name']}: {done.err}"
    said = dict(line.split("=", 1) for line in output.read_text().splitlines())
    waves = [json.loads(said[f"wave{number}"])["include"] for number in range(len(said) - 1)]
    assert [len(wave) for wave in waves] == [6, 3, 1, 1] and int(said["day"]) % 86400 == 0
    return waves


def run_job(clone: Clone, path: Path, job: Mapping[str, str], parts: Path) -> Path:
    """Run the steps of one job in a fresh clone at *path*; return the folder of what it uploads."""
    made = fresh(clone, path)
    shutil.copytree(parts, path / "parts")
    inputs = {f"inputs.{name}": value for name, value in {**job, "config": ""}.items()}
    for step in steps(ROOT / ".github" / "actions" / "stage" / "action.yml"):
        done = shell(made, step["run"], path, GITHUB_STEP_SUMMARY=str(path / "summary.md"), **filled(step, inputs))
        assert done.code == 0, f"{job['part']}: {step['name']}: {done.err}"
    uploaded = path.with_name(f"{path.name}-uploaded")
    for pattern in job["paths"].splitlines():
        for found in path.glob(pattern.rstrip("/")):
            target = uploaded / found.relative_to(path / "build")
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if found.is_dir() else shutil.copy)(found, target)
    shutil.rmtree(path)
    return uploaded


@pytest.mark.heavy
def test_the_kit_releases_and_tests_without_any_network(clone: Clone, tmp_path: Path) -> None:
    """Made where there is a network, checked by its fingerprint, used in a namespace that has only the loopback."""
    if os.environ.get("INVARLOCK_ALLOW_NETWORK") != "1":
        pytest.skip("downloads wheels: run with INVARLOCK_ALLOW_NETWORK=1")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces")
    kit = tmp_path / "kit"
    done = clone.invoke("ci.kit", kit, INVARLOCK_ALLOW_NETWORK="1")
    assert done.code == 0, done.err
    there = tmp_path / "air gap" / "sealrun"
    there.parent.mkdir()
    git(tmp_path, "clone", "--quiet", str(kit / "sealrun.bundle"), str(there))
    closed = Clone(path=there, keys=clone.keys)
    offline = {"SEALRUN_WHEELHOUSE": str(kit / "wheels"), "UV_CACHE_DIR": str(tmp_path / "cache"), "PIP_NO_CACHE_DIR": "1"}

    def run(*arguments: str) -> Done:
        return closed.run("unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null; exec python3 scripts/bootstrap.py "$@"',
                          "sh", *arguments, **offline)  # fmt: skip

    released = run("release")
    assert released.code == 0, released.err
    assert closed.bundle.read_bytes() == clone.bundle.read_bytes()
    assert run("ci.kit", "--check", str(kit), "--trust", str(kit / "release.pub")).code == 0
    shutil.copytree(ROOT / "tests", there / "tests")  # which the checkouts of the tests leave out
    tested = run("test", "--only", "tests/unit/test_layers.py tests/unit/test_requirements.py")
    assert tested.code == 0, tested.out + tested.err
    (kit / "wheels" / "extra.whl").write_bytes(b"")
    assert run("ci.kit", "--check", str(kit), "--trust", str(kit / "release.pub")).code == 5
