"""The SBOM stage: complete, valid, rebuilt to the same bytes, and how each way of failing ends."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import sealrun.stage
from sealrun import pipeline, venvs
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stage import Context
from sealrun.stages import sbom
from tests import locked_project as project
from tests.locked_project import HASH, ROOT

WRITES_INSTEAD = "        Path(arguments[arguments.index('-o') + 1]).write_text('{}')\n        continue\n        try:"
OTHERS = ("audit", "certify", "model", "runtime-onnx", "secrets")


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A project with this checkout's own sbom environment; its other environments hold one package each."""
    try:
        tools = venvs.existing(ROOT, "sbom").path
    except InputMissing as error:
        pytest.skip(str(error))
    root = project.make(tmp_path / "real", locks={"app": f"six==1.17.0 {HASH}\nForms_Kit==1.9 {HASH}\n"})
    shutil.copy2(ROOT / "requirements" / "sbom.txt", root / "requirements")
    for name in OTHERS:
        project.write_locks(root, {name: f"{name}-tool==1.0 {HASH}\n"})
        project.install(root, name, {}, packages={f"{name}_tool".replace("-", "_"): "1.0"})
    venvs.locate(root, "sbom").path.symlink_to(tools)
    return root


def rewritten(ctx: Context, name: str, change: str, to: str) -> None:
    """Change a document that was gathered, as somebody with access to the folder would."""
    project.edit(ctx.evidence("sbom") / name, change, to)


@pytest.mark.e2e
def test_every_lock_gets_a_valid_complete_document(real: Path) -> None:
    """Installed environments as installed, other locks as written, one document over all."""
    ctx = project.context(real)
    said = project.run(sbom.STAGE, ctx)
    assert (said.verdict, said.network) == (Verdict.PASSED, "denied"), (said.error, said.outcomes)
    app = json.loads((ctx.evidence("sbom") / "app.cdx.json").read_bytes())
    assert [c["purl"] for c in app["components"]] == ["pkg:pypi/forms-kit@1.9", "pkg:pypi/six@1.17.0"]
    tool = json.loads((ctx.evidence("sbom") / "sbom.cdx.json").read_bytes())
    assert {"name": "sealrun:mode", "value": "environment"} in tool["metadata"]["properties"]
    assert any(component.get("licenses") for component in tool["components"])
    merged = json.loads((ctx.evidence("sbom") / "sbom.json").read_bytes())
    documents = [json.loads(path.read_bytes()) for path in ctx.evidence("sbom").glob("*.cdx.json")]
    assert len(documents) == 7
    assert {c["purl"] for c in merged["components"]} == {c["purl"] for d in documents for c in d["components"]}


@pytest.mark.e2e
def test_documents_are_the_same_bytes_from_another_folder(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither folder nor SOURCE_DATE_EPOCH leaves a trace."""
    trees = []
    other = shutil.copytree(real, tmp_path / "another folder", symlinks=True)
    for root, epoch in ((real, "1700000000"), (other, "1800000000")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        ctx = project.context(root)
        assert project.run(sbom.STAGE, ctx).verdict is Verdict.PASSED
        trees.append({path.name: path.read_bytes() for path in ctx.evidence("sbom").iterdir()})
    assert trees[0] == trees[1]
    assert all(str(tmp_path).encode() not in data for data in trees[0].values())


@pytest.mark.e2e
def test_a_missing_foreign_or_unhashed_component_fails_completeness(real: Path) -> None:
    """The lock and the environment must hold the same, each with a hash: three mutations, three findings."""
    installed = venvs.locate(real, "model").path
    project.write_locks(real, {"model": f"model-tool==1.1 {HASH}\nforms-kit==1.9 {HASH}\n", "app": "six==1.17.0\n"})
    installed.rename(venvs.locate(real, "model").path)
    said = project.run(sbom.STAGE, project.context(real))
    assert said.verdict is Verdict.FAILED, said.error
    found = {(f.rule, f.package, f.version) for f in project.findings(said, "sbom.complete")}
    assert found == {
        ("missing", "model-tool", "1.1"), ("missing", "forms-kit", "1.9"),
        ("not-pinned", "model-tool", "1.0"), ("no-hash", "six", "1.17.0"),
    }  # fmt: skip
    assert project.outcome(said, "sbom.complete").remedy


@pytest.mark.e2e
def test_locks_given_are_read_as_written(real: Path, tmp_path: Path) -> None:
    """`nox -s sbom -- LOCK...` describes those locks, whatever is installed."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text(f"six==1.17.0 {HASH}\n", encoding="utf-8")
    targets = tuple(tmp_path / folder / "requirements.txt" for folder in ("one", "two"))
    ctx = project.context(real, targets=targets)
    said = project.run(sbom.STAGE, ctx)
    assert said.verdict is Verdict.PASSED, said.error
    assert {path.name for path in ctx.evidence("sbom").glob("*.cdx.json")} == {
        "one--requirements.txt.cdx.json", "two--requirements.txt.cdx.json",
    }  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("lock", ["six>=1\n", f"six @ https://example.invalid/six-1.whl {HASH}\n", "-e ./six\n", "# nothing\n"])
def test_a_lock_that_is_not_one_fails(real: Path, lock: str) -> None:
    """What is not pinned cannot be complete."""
    project.write_locks(real, {"app": lock})
    said = project.run(sbom.STAGE, project.context(real))
    assert said.verdict is not Verdict.PASSED
    if said.verdict is Verdict.FAILED:
        assert project.outcome(said, "sbom.complete").outcome is OutcomeKind.FAILED


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("change", "to"),
    [
        ('"bomFormat": "CycloneDX"', '"bomFormat": "Other"'),
        ('"type": "library"', '"type": "book"'),
        ('"version": 1,', '"version": "1",'),
    ],
)
def test_a_document_that_breaks_the_schema_fails(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, to: str
) -> None:
    """The strict validator really looks: a document that is wrong in one word is invalid, not an error and not a pass."""
    inside = shutil.copytree(sealrun.stage.INSIDE, tmp_path / "inside")
    monkeypatch.setattr(sealrun.stage, "INSIDE", inside)
    key, _, value = to.partition(": ")
    spoil = (
        "import re\n"
        "def spoilt(text):\n"
        f"    return re.sub(r'{change.partition(': ')[0]}: [^,\\n]+', {key + ': ' + value.rstrip(',')!r}, text)\n"
    )
    project.edit(inside / "validate_sbom.py", "def main(", spoil + "\n\ndef main(")
    project.edit(inside / "validate_sbom.py", 'Path(document).read_text("utf-8")', 'spoilt(Path(document).read_text("utf-8"))')
    said = project.run(sbom.STAGE, project.context(real))
    assert said.verdict is Verdict.FAILED, said.error
    assert {f.rule for f in project.findings(said, "sbom.generated")} == {"invalid"}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("script", "old", "new"),
    [
        ("write_sboms.py", 'runpy.run_module("cyclonedx_py"', 'runpy.run_module("no_such_module"'),
        ("write_sboms.py", "runpy.run_module(", "sys.exit(0) or runpy.run_module("),
        ("write_sboms.py", "        try:", WRITES_INSTEAD.format("{}")),
        ("write_sboms.py", "        try:", WRITES_INSTEAD.format("")),
        ("write_sboms.py", "        try:", "        import time; time.sleep(60)\n        try:"),
        ("validate_sbom.py", "json.dumps(said)", "'all valid'"),
        ("validate_sbom.py", "Path(report).write_text(", "print("),
        ("validate_sbom.py", "def main(", "raise SystemExit(3)\ndef main("),
    ],
    ids=["no tool", "silent", "other JSON", "empty", "hangs", "garbled verdict", "no verdict", "validator crashes"],
)  # fmt: skip
def test_a_tool_that_fails_is_an_error_of_its_own(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, old: str, new: str
) -> None:
    """Missing, crashing, silent, garbled or hanging: exit code 4, never a pass."""
    inside = shutil.copytree(sealrun.stage.INSIDE, tmp_path / "inside")
    project.edit(inside / script, old, new)
    monkeypatch.setattr(sealrun.stage, "INSIDE", inside)
    project.edit(real / "policy" / "gates.toml", "[limits.stage]", "[limits.stage]\nsbom = 4")
    said = project.run(sbom.STAGE, project.context(real))
    assert (said.verdict, said.error_code) == (Verdict.ERROR, 4), said


@pytest.mark.e2e
def test_a_document_left_out_of_validation_fails(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator that looked at fewer files than there are proves nothing about the rest."""
    inside = shutil.copytree(sealrun.stage.INSIDE, tmp_path / "inside")
    project.edit(inside / "validate_sbom.py", "for document in documents}", "for document in documents[1:]}")
    monkeypatch.setattr(sealrun.stage, "INSIDE", inside)
    said = project.run(sbom.STAGE, project.context(real))
    assert {f.rule for f in project.findings(said, "sbom.generated")} == {"not-validated"}


@pytest.mark.e2e
def test_publish_copies_what_was_stated_and_nothing_else(real: Path, tmp_path: Path) -> None:
    """The file handed out is the stated one; a changed one is refused."""
    ctx = project.context(real)
    pipeline.execute(sbom.STAGE, ctx)
    sbom.publish(ctx, tmp_path / "sbom.json")
    assert (tmp_path / "sbom.json").read_bytes() == (ctx.evidence("sbom") / "sbom.json").read_bytes()
    rewritten(ctx, "sbom.json", '"specVersion": "1.6"', '"specVersion": "1.5"')
    with pytest.raises(VerificationFailed, match=r"sbom\.json"):
        sbom.publish(ctx, tmp_path / "sbom.json")


def test_an_environment_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """The mode never falls back to what happens to be there: an environment of a release must be installed."""
    root = project.make(tmp_path / "p", locks=dict.fromkeys((*OTHERS, "sbom"), f"six==1.17.0 {HASH}\n"))
    with pytest.raises(InputMissing, match="environment audit"):
        pipeline.execute(sbom.STAGE, project.context(root))


def test_environments_are_the_ones_that_the_other_stages_declare() -> None:
    """Each environment a release installs is described as installed, with the smoke run its own stage asks for."""
    declared = {e.name: e for stage in pipeline.stages().values() if stage.name != "sbom" for e in stage.environments}
    own = {environment.name: environment for environment in sbom._ALWAYS}
    assert {name: own.get(name) for name in declared} == declared
    assert set(own) == {*declared, "sbom"}


def test_the_script_says_what_to_do_without_an_environment(tmp_path: Path) -> None:
    """`generate_sbom.sh` in a clone that was not set up ends with 3 and the next command."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy2(ROOT / "scripts" / "generate_sbom.sh", tmp_path / "scripts")
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, cwd="/")
    assert done.returncode == 3 and "bootstrap.py" in done.stderr and done.stdout == ""
