"""The pipeline as people use it: fresh clones, real tools, one bundle, and its ways to fail."""

import hashlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.e2e.conftest import Clone, set_up

pytestmark = pytest.mark.e2e

STAGES = ("lock", "sbom", "audit", "secrets", "model", "certify", "verify", "bundle")


def fingerprint(clone: Clone) -> str:
    """The release key's fingerprint, as one learns it from the key itself."""
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", clone.keys / "release.pub", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def copy_of(clone: Clone, place: Path) -> Path:
    """A copy of the bundle with what lies beside it; returns the tar."""
    place.mkdir(parents=True, exist_ok=True)
    for name in (clone.bundle.name, "tiny-lm-0.1.0.intoto.jsonl", "report.html"):
        shutil.copy2(clone.out / name, place / name)
    return place / clone.bundle.name


def test_a_release_leaves_what_it_promises(clone: Clone) -> None:
    """Evidence and statement of every stage, the bundle, its envelopes, the report and run.json."""
    for stage in STAGES:
        assert (clone.out / "statements" / f"{stage}.json").is_file()
        assert any((clone.out / "evidence" / stage).iterdir())
    for name in (clone.bundle.name, "tiny-lm-0.1.0.intoto.jsonl", "report.html", "run.json"):
        assert (clone.out / name).stat().st_size > 0


def test_every_stage_had_no_network(clone: Clone) -> None:
    """Each statement says denied, from its probe, or that no program ran; never opened, though installing was."""
    for stage in STAGES:
        statement = json.loads((clone.out / "statements" / f"{stage}.json").read_text())
        assert statement["predicate"]["network"] == ("unused" if stage == "lock" else "denied"), stage


def test_unchanged_is_quick_and_changes_nothing(clone: Clone) -> None:
    """A second release reuses everything and leaves the same bundle; its time is measured in docs/figures.md."""
    before = clone.bundle.read_bytes()
    done = clone.invoke("release", "--json")
    assert done.code == 0, done.err
    assert done.json["verdict"] == "passed"
    assert clone.bundle.read_bytes() == before
    run = json.loads((clone.out / "run.json").read_text())
    assert all(stage["reused"] for stage in run["stages"])
    assert run["network_opened"] == []
    assert "reused   audit, lock, sbom, secrets, model, certify, verify, bundle: same inputs" in done.err
    assert run["seconds"] < 20  # generous: a loaded machine; the figure is in docs/figures.md


def test_json_is_one_object_of_the_published_shape(clone: Clone) -> None:
    """Standard output of --json is the object alone; every control of the checklist is in it."""
    value = clone.invoke("release", "--json").json
    assert value["schema"] == "urn:sealrun:result:v1"
    checklist = tomllib.loads((clone.path / "policy" / "checklist.toml").read_text())
    controls = value["controls"]
    assert isinstance(controls, list)
    assert {control["control"] for control in controls} == {control["id"] for control in checklist["control"]}


def test_a_stranger_verifies_with_the_fingerprint_alone(clone: Clone, tmp_path: Path) -> None:
    """Bundle, envelopes, report and a fingerprint are enough, for both verifiers; without trust both refuse and name it."""
    bundle = copy_of(clone, tmp_path / "mail")
    known = fingerprint(clone)
    script = tmp_path / "verify_bundle.py"
    shutil.copy2(clone.path / "scripts" / "verify_bundle.py", script)
    assert clone.invoke("verify", bundle, "--fingerprint", known).code == 0
    assert clone.run("python3", script, bundle, "--fingerprint", known, cwd=tmp_path).code == 0
    for done in (clone.invoke("verify", bundle), clone.run("python3", script, bundle, cwd=tmp_path)):
        assert done.code == 2
        assert known in done.err
    other = "sha256:" + "0" * 64
    assert clone.invoke("verify", bundle, "--fingerprint", other).code == 5
    assert clone.run("python3", script, bundle, "--fingerprint", other, cwd=tmp_path).code == 5


@pytest.mark.parametrize("victim", ["tiny-lm-0.1.0.evidence.tar", "tiny-lm-0.1.0.intoto.jsonl", "report.html"])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_flipped_byte_is_refused(clone: Clone, tmp_path: Path, victim: str, place: int) -> None:
    """One changed bit in the bundle, the envelopes or the report ends in exit 5 with both verifiers."""
    bundle = copy_of(clone, tmp_path / "mail")
    data = bytearray((bundle.parent / victim).read_bytes())
    data[place] ^= 1
    (bundle.parent / victim).write_bytes(data)
    known = fingerprint(clone)
    assert clone.invoke("verify", bundle, "--fingerprint", known).code == 5
    assert clone.run("python3", clone.path / "scripts" / "verify_bundle.py", bundle, "--fingerprint", known).code == 5


def test_the_delivery_is_bound_to_the_bundle(clone: Clone, tmp_path: Path) -> None:
    """--files accepts the candidate that was certified and no other."""
    delivery = tmp_path / "delivery"
    shutil.copytree(clone.path / "examples" / "tiny-lm" / "candidate", delivery)
    known = fingerprint(clone)
    assert clone.invoke("verify", clone.bundle, "--fingerprint", known, "--files", delivery).code == 0
    model = bytearray((delivery / "model.onnx").read_bytes())
    model[5000] ^= 1
    (delivery / "model.onnx").write_bytes(model)
    done = clone.invoke("verify", clone.bundle, "--fingerprint", known, "--files", delivery)
    assert done.code == 5
    assert "model.onnx" in done.err


def test_two_clones_make_the_same_bytes(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another folder, umask, time zone, language and user: the same bundle, envelopes and report."""
    place = tmp_path_factory.mktemp("second") / "elsewhere"
    second = set_up(place, clone.keys)
    shell = 'umask 077; exec python3 "$0/scripts/bootstrap.py" release'
    somebody = ("unshare", "--user", "--map-user=4321", "--map-group=4321") if shutil.which("unshare") else ()
    argv = [*somebody, "sh", "-c", shell, str(second.path)]
    done = second.run(*argv, INVARLOCK_ALLOW_NETWORK="1", TZ="Asia/Kathmandu", LANG="de_DE.UTF-8", LC_ALL="C")
    assert done.code == 0, done.err
    for name in ("tiny-lm-0.1.0.evidence.tar", "tiny-lm-0.1.0.intoto.jsonl", "report.html"):
        assert (second.out / name).read_bytes() == (clone.out / name).read_bytes(), name


def test_a_real_bundle_is_audited_again(clone: Clone, tmp_path: Path) -> None:
    """Half a year later, elsewhere, from the tar alone: nothing new passes, what became known since fails by name, and an
    advisory about an environment that the release used nothing of is shown."""
    bundle = copy_of(clone, tmp_path / "kept")

    def again(name: str, *records: dict[str, object]) -> tuple[int, dict[str, object], str]:
        folder = tmp_path / name
        folder.mkdir()
        for record in records:
            (folder / f"{record['id']}.json").write_text(json.dumps(record))
        done = clone.invoke("reaudit", bundle, "--advisories", folder, "--fingerprint", fingerprint(clone), "--json")
        return done.code, done.json, done.err

    def advisory(name: str, package: str, last: str) -> dict[str, object]:
        events = [{"introduced": "0"}, {"last_affected": last}]
        return {
            "id": name, "modified": "2026-06-01T00:00:00Z", "database_specific": {"severity": "CRITICAL"},
            "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
        }  # fmt: skip

    code, value, said = again("nothing", advisory("PYSEC-2026-1", "nobody-needs-this", "9"))
    assert (code, value["verdict"], value["findings"]) == (0, "passed", []), said
    code, value, said = again("onnx", advisory("PYSEC-2026-2", "onnxruntime", "999"))
    assert (code, value["verdict"]) == (1, "failed") and "since: onnxruntime" in said
    findings = value["findings"]
    assert isinstance(findings, list)
    assert {(found["environment"], found["outcome"]) for found in findings} >= {("runtime-onnx", "failed")}
    code, value, said = again("unused", advisory("PYSEC-2026-3", "transformers", "999"))
    assert code == 0 and "since: transformers" in said and "uses nothing of this environment" in said
    flipped = bytearray(bundle.read_bytes())
    flipped[2000] ^= 1
    bundle.write_bytes(flipped)
    assert clone.invoke("reaudit", bundle, "--fingerprint", fingerprint(clone)).code == 5


def test_no_bundle_takes_an_audit_that_nobody_enforced(clone: Clone) -> None:
    """--report-only ends with 0 and is stamped; the bundle stage refuses it, and the next release audits again."""
    before = clone.bundle.read_bytes()
    assert clone.nox("-s", "audit", "--", "--report-only").code == 0
    assert (clone.out / "evidence" / "audit" / "not-enforced.txt").is_file()
    done = clone.nox("--no-dependencies", "-s", "bundle")
    assert done.code != 0 and "left a report that is not enforced; run `nox -s audit` without --report-only" in done.out
    assert clone.invoke("release").code == 0
    assert not (clone.out / "evidence" / "audit" / "not-enforced.txt").exists()
    assert clone.bundle.read_bytes() == before


def test_the_damaged_candidate_is_refused_with_all_evidence(clone: Clone) -> None:
    """Exit 1, the certify control named with its remedy, evidence, bundle and report complete, and verify says so too."""
    done = clone.invoke("release", "--config", "examples/tiny-lm/damaged.toml", "--json")
    assert done.code == 1, done.err
    assert done.json["verdict"] == "failed"
    controls = done.json["controls"]
    assert isinstance(controls, list)
    said_no = {control["control"] for control in controls if control["outcome"] == "failed"}
    assert said_no == {"certify.regression", "verify.invarlock"}
    assert "certify.regression: failed" in done.err
    out = clone.path / "build" / "tiny-lm-damaged-0.1.0"
    assert "certify.regression" in (out / "report.html").read_text()
    for stage in STAGES:
        assert (out / "statements" / f"{stage}.json").is_file()
    bundle = out / "tiny-lm-damaged-0.1.0.evidence.tar"
    verified = clone.invoke("verify", bundle, "--fingerprint", fingerprint(clone))
    assert verified.code == 1, verified.err


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_a_session(clone: Clone, stage: str) -> None:
    """`nox -s STAGE` runs alone, with what it requires."""
    done = clone.nox("-s", stage)
    assert done.code == 0, done.out + done.err


def test_the_tag_runs_them_all_side_by_side(clone: Clone) -> None:
    """`nox -t release -j auto` passes; a shared --json is refused."""
    done = clone.nox("-t", "release", "-j", "auto")
    assert done.code == 0, done.out + done.err
    assert clone.nox("-t", "release", "--", "--json").code != 0


def test_the_lists_read_like_tables_of_contents(clone: Clone) -> None:
    """Every session and task has one line that says what it does."""
    listed = clone.nox("-l", "--json", "-t", "release")
    sessions = {session["name"]: session["description"] for session in json.loads(listed.out)}
    assert set(STAGES) <= set(sessions)
    assert all(sessions.values())
    tasks = clone.invoke("--list")
    for task in ("init", "lint", "release", "test", "verify"):
        assert task in tasks.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("release", "--nonsense"), 2),
        (("nonsense",), 2),
        (("release", "--config", "none.toml"), 3),
        (("verify",), 2),
        (("verify", "none.evidence.tar", "--fingerprint", "sha256:" + "0" * 64), 3),
        (("verify", "README.md", "--fingerprint", "sha256:" + "0" * 64), 2),
        (("verify", "README.md", "--fingerprint", "nonsense"), 2),
    ],
)
def test_wrong_use_has_its_exit_code(clone: Clone, arguments: tuple[str, ...], code: int) -> None:
    """Unknown options and tasks end with 2, a missing input with 3, what is no bundle with 5; never a traceback."""
    done = clone.invoke(*arguments)
    assert done.code == code, done.err
    assert "Traceback" not in done.err


def test_init_writes_a_release_that_releases(clone: Clone, tmp_path: Path) -> None:
    """Somebody's own folders, one command, and the release goes through at once."""
    own = tmp_path / "own"
    shutil.copytree(clone.path / "examples" / "tiny-lm" / "baseline", own / "before")
    shutil.copytree(clone.path / "examples" / "tiny-lm" / "candidate", own / "after")
    shutil.copy2(clone.path / "examples" / "tiny-lm" / "data" / "eval.jsonl", own / "text.jsonl")
    given = ("--baseline", own / "before", "--candidate", own / "after", "--data", own / "text.jsonl", "--name", "mine")
    done = clone.invoke("init", *given)
    assert done.code == 0, done.err
    released = clone.invoke("release", "--config", own / "release.toml", "--out", tmp_path / "out")
    assert released.code == 0, released.err
    assert clone.invoke("init", *given).code == 2  # it does not overwrite


def test_an_outer_nox_of_another_python_hands_over(clone: Clone, tmp_path: Path) -> None:
    """Any nox can be used: the noxfile continues in the clone's own environment."""
    outer = tmp_path / "outer"
    subprocess.run(["python3", "-m", "venv", outer], check=True, capture_output=True)
    installed = subprocess.run([outer / "bin" / "pip", "install", "--quiet", "nox"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"no other nox to be had here: {installed.stderr[-200:]}")
    done = clone.run(outer / "bin" / "nox", "-s", "lock")
    assert done.code == 0, done.out + done.err
