"""The audit stage: what it must find, what it must not miss, and how each way of failing ends."""

import dataclasses
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import UNSET

import sealrun.stage
from sealrun import advisories, pipeline, venvs
from sealrun.errors import InputMissing, ToolFailed, UsageError
from sealrun.outcome import OutcomeKind, Severity, Verdict
from sealrun.reports import index, pip_audit
from sealrun.reports.lockfiles import read_locks
from sealrun.stages import audit
from tests import locked_project as project
from tests.locked_project import FORMS, HASH, MINOR, ROOT, TODAY

RECORDED = ROOT / "tests" / "recorded" / "pip-audit"
VULNERABLE = f"forms-kit==1.9 {HASH}\nsix==1.17.0 {HASH}\n"
WAIVER = """
[[waiver]]
control = "audit.clean"
rule = "CVE-2026-0001"
target = "forms-kit"
version = "1.9"
environment = "app"
reason = "The form parser is not called."
owner = "a"
approver = "b"
granted = 2026-03-01
expires = 2026-03-20
status = "not_affected"
justification = "vulnerable_code_not_in_execute_path"
link = "https://example.invalid/forms"
"""


def vulnerable(path: Path) -> Path:
    """A project with one vulnerable pin and an honest stand-in for pip-audit."""
    root = project.make(path, locks={"app": VULNERABLE})
    project.install(root, "audit", {"pip-audit": project.tool()})
    return root


# What is found


def test_a_clean_lock_passes_with_its_coverage_counted(tmp_path: Path) -> None:
    """Every pin asked and answered, nothing found: passed, and research is told that the advisories are old."""
    root = project.make(tmp_path)
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert (said.verdict, said.network) == (Verdict.PASSED, "denied"), said.error
    assert "2 locks, 2 pins, 2 packages" in project.outcome(said, "audit.coverage").seen
    assert project.outcome(said, "audit.clean").outcome is OutcomeKind.PASSED
    assert "openvex.json" not in said.gathered


def test_a_vulnerable_pin_fails_with_the_advisory_and_the_fix(tmp_path: Path) -> None:
    """One finding per advisory, twins merged, with package, line, level and what to do."""
    root = vulnerable(tmp_path / "p")
    ctx = project.context(root)
    said = project.run(audit.STAGE, ctx)
    outcome = project.outcome(said, "audit.clean")
    assert said.verdict is Verdict.FAILED and outcome.outcome is OutcomeKind.FAILED
    assert "forms-kit 1.9 in requirements/app.txt" in outcome.seen and "fixed in 2.0" in outcome.seen and outcome.remedy
    found = project.findings(said, "audit.clean")
    assert [f.rule for f in found] == ["PYSEC-2026-1"]  # the stand-in reports both twins
    assert "CVE-2026-0001" in found[0].message and "GHSA-aaaa-bbbb-cccc" in found[0].message
    assert {(f.package, f.version, f.line, f.severity, f.environment) for f in found} == {
        ("forms-kit", "1.9", 1, Severity.HIGH, "app")
    }
    vex = json.loads((ctx.evidence("audit") / "openvex.json").read_bytes())
    assert {s["status"] for s in vex["statements"]} == {"under_investigation"} and vex["timestamp"] == "2026-03-10T00:00:00Z"


def test_a_waiver_is_honoured_until_it_expires(tmp_path: Path) -> None:
    """The same evidence, two days: waived, then failed by the waiver's name; the finding stays visible in both."""
    root = vulnerable(tmp_path / "p")
    with (root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(WAIVER)
    before = project.run(audit.STAGE, project.context(root))
    assert before.verdict is Verdict.PASSED, project.outcome(before, "audit.clean").seen
    assert project.outcome(before, "audit.clean").outcome is OutcomeKind.WAIVED
    assert {f.outcome for f in project.findings(before, "audit.clean")} == {OutcomeKind.WAIVED}
    ctx = project.context(root)
    vex = json.loads((ctx.evidence("audit") / "openvex.json").read_bytes())
    assert {(s["status"], s["justification"]) for s in vex["statements"]} == {
        ("not_affected", "vulnerable_code_not_in_execute_path")
    }
    later = pipeline.execute(audit.STAGE, project.context(root, today=TODAY + timedelta(days=11))).predicate
    assert later.verdict is Verdict.FAILED and later.reuse_key == before.reuse_key
    assert "waiver CVE-2026-0001 on forms-kit: expired" in project.outcome(later, "audit.clean").seen
    assert {f.outcome for f in project.findings(later, "audit.clean")} == {OutcomeKind.FAILED}


def test_an_unused_waiver_fails_the_audit(tmp_path: Path) -> None:
    """An exception that excuses nothing is named."""
    root = project.make(tmp_path)
    project.install(root, "audit", {"pip-audit": project.tool()})
    with (root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(WAIVER)
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.FAILED and "unused" in project.outcome(said, "audit.clean").seen


def test_below_the_threshold_is_visible_and_does_not_fail(tmp_path: Path) -> None:
    """A low advisory under a medium gate passes; the same under a low gate, or without a level, fails."""
    root = project.make(tmp_path, locks={"app": f"six==1.16.0 {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.PASSED
    assert [(f.rule, f.outcome) for f in project.findings(said, "audit.clean")] == [("PYSEC-2026-2", OutcomeKind.PASSED)]
    project.edit(root / "policy" / "gates.toml", 'fail_on = "medium"', 'fail_on = "low"')
    assert project.run(audit.STAGE, project.context(root)).verdict is Verdict.FAILED
    project.edit(root / "policy" / "gates.toml", 'fail_on = "low"', 'fail_on = "medium"')
    project.import_records(root, (FORMS, {key: value for key, value in MINOR.items() if key != "database_specific"}))
    assert project.run(audit.STAGE, project.context(root)).verdict is Verdict.FAILED


def test_a_marker_that_is_false_here_hides_nothing(tmp_path: Path) -> None:
    """A pin for another platform is audited all the same."""
    root = project.make(tmp_path, locks={"app": f"forms-kit==1.9 ; sys_platform == 'win32' {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert {f.package for f in project.findings(said, "audit.clean")} == {"forms-kit"}


def test_one_package_in_two_versions_is_audited_in_both(tmp_path: Path) -> None:
    """Locks that disagree on a version are each judged by their own."""
    root = project.make(tmp_path, locks={"app": VULNERABLE, "new": f"Forms_Kit==2.0 {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert {f.environment for f in project.findings(said, "audit.clean")} == {"app"}
    assert project.outcome(said, "audit.coverage").outcome is OutcomeKind.PASSED


def test_locks_given_are_audited_instead(tmp_path: Path) -> None:
    """`nox -s audit -- LOCK` judges that lock, leaves the release's waivers alone, and names no absolute path."""
    root = vulnerable(tmp_path / "p")
    other = tmp_path / "other.txt"
    other.write_text(f"six==1.17.0 {HASH}\n", encoding="utf-8")
    with (root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(WAIVER)
    ctx = project.context(root, targets=(other,))
    said = project.run(audit.STAGE, ctx)
    assert said.verdict is Verdict.PASSED, said.error
    assert "1 locks, 1 pins" in project.outcome(said, "audit.coverage").seen
    assert all(str(tmp_path) not in path.read_text("utf-8") for path in ctx.evidence("audit").iterdir())


def test_a_lock_outside_the_scope_is_unknown_not_clean(tmp_path: Path) -> None:
    """It fails coverage and names the session to run; a package that no record is about needs none."""
    root = project.make(tmp_path / "p")
    project.install(root, "audit", {"pip-audit": project.tool()})
    other = tmp_path / "other.txt"
    other.write_text(f"forms-kit==3.0 {HASH}\nnumpy==1.0 {HASH}\n", encoding="utf-8")
    said = project.run(audit.STAGE, project.context(root, targets=(other,)))
    outcome = project.outcome(said, "audit.coverage")
    assert outcome.outcome is OutcomeKind.FAILED and "nox -s advisories" in outcome.remedy
    assert [(f.rule, f.package) for f in project.findings(said, "audit.coverage")] == [("left-out", "forms-kit")]


def test_the_snapshot_ages(tmp_path: Path) -> None:
    """Old or future-dated advisories: a loud warning in research, a failure in production; seven days are fine in both."""
    root = project.make(tmp_path)
    project.install(root, "audit", {"pip-audit": project.tool()})
    config = root / "examples" / "tiny-lm" / "release.toml"
    for posture, kind in (("research", OutcomeKind.PASSED), ("production", OutcomeKind.FAILED)):
        project.edit(config, 'posture = "research"', f'posture = "{posture}"')
        for days, fresh in ((5, True), (6, False), (-5, False)):
            outcome = project.outcome(
                project.run(audit.STAGE, project.context(root, today=TODAY + timedelta(days=days))), "audit.fresh"
            )
            assert outcome.outcome is (OutcomeKind.PASSED if fresh else kind), (posture, days)
            assert ("NOT FOR PRODUCTION" in outcome.warning) == (not fresh and posture == "research")


@pytest.mark.parametrize(
    ("lock", "rule"),
    [
        ("six==1.17.0\n", "flaw"),
        (f"six>=1 {HASH}\n", "flaw"),
        (f"six @ https://example.invalid/six.whl {HASH}\n", "flaw"),
        ("-e ./six\n", "flaw"),
        ("-r other.txt\n", "flaw"),
        (f"six==1.17.0 {HASH}\nSIX==1.17.0 {HASH}\n", "flaw"),
        ("# nothing\n", "empty"),
    ],
)
def test_a_lock_that_is_not_one_fails_coverage(tmp_path: Path, lock: str, rule: str) -> None:
    """Missing hash, version, name or pin: said with file and line, exit 1, not a crash and not a pass."""
    root = project.make(tmp_path)
    project.write_locks(root, {"app": lock})
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.FAILED and said.error_code == 0, said.error
    assert rule in {f.rule for f in project.findings(said, "audit.coverage")}
    assert "requirements/app.txt" in project.outcome(said, "audit.coverage").seen


def test_a_rejected_record_about_a_locked_package_fails_coverage(tmp_path: Path) -> None:
    """What could not be evaluated might have been the finding."""
    root = project.make(tmp_path)
    project.install(root, "audit", {"pip-audit": project.tool()})
    wrong = {**MINOR, "id": "PYSEC-2026-9", "modified": "yesterday"}
    project.import_records(root, (FORMS, wrong))
    said = project.run(audit.STAGE, project.context(root))
    assert "PYSEC-2026-9.json cannot be evaluated" in project.outcome(said, "audit.coverage").seen
    project.write_locks(root, {"app": f"wheel==1 {HASH}\n"})
    project.import_records(root, (FORMS, wrong))
    assert project.run(audit.STAGE, project.context(root)).verdict is Verdict.PASSED


def test_an_environment_may_have_its_own_threshold(tmp_path: Path) -> None:
    """What ships is held to more than what builds; an environment that has no lock is named."""
    root = project.make(tmp_path, locks={"app": f"six==1.16.0 {HASH}\n", "runtime-onnx": f"six==1.16.0 {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    said = project.run(audit.STAGE, project.context(root))
    assert {f.environment: f.outcome for f in project.findings(said, "audit.clean")} == {
        "app": OutcomeKind.PASSED, "runtime-onnx": OutcomeKind.FAILED,
    }  # fmt: skip
    (root / "requirements" / "runtime-onnx.txt").unlink()
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.PASSED
    assert "runtime-onnx, which no lock is for" in project.outcome(said, "audit.clean").warning


def test_what_the_release_uses_nothing_of_is_shown_and_held_against_nothing(tmp_path: Path) -> None:
    """Another engine's environment: its findings stand in every format; they fail as soon as the release names that engine."""
    bad = f"forms-kit==1.9 {HASH}\n"
    root = project.make(tmp_path, locks={"app": f"six==1.17.0 {HASH}\n", "certify-0.3": bad, "runtime-transformers": bad})
    project.install(root, "audit", {"pip-audit": project.tool()})
    ctx = project.context(root)
    said = project.run(audit.STAGE, ctx)
    assert said.verdict is Verdict.PASSED
    assert "that the release uses nothing of (certify-0.3, runtime-transformers)" in project.outcome(said, "audit.clean").seen
    found = project.findings(said, "audit.clean")
    assert [(f.environment, f.outcome) for f in found] == [
        ("certify-0.3", OutcomeKind.PASSED), ("runtime-transformers", OutcomeKind.PASSED),
    ]  # fmt: skip
    assert all("not counted: the release uses nothing of this environment" in f.message for f in found)
    assert "uses nothing of this environment" in (ctx.evidence("audit") / "audit.sarif").read_text("utf-8")
    project.edit(root / "examples" / "tiny-lm" / "release.toml", 'engine = "invarlock-0.17"', 'engine = "invarlock-0.3"')
    said = project.run(audit.STAGE, project.context(root))
    assert {f.environment: f.outcome for f in project.findings(said, "audit.clean")} == {
        "certify-0.3": OutcomeKind.FAILED, "runtime-transformers": OutcomeKind.PASSED,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["certify-0.3", "runtime-transformers", "verify-0.3"])
def test_another_repositorys_lock_is_used_whatever_its_name(tmp_path: Path, name: str) -> None:
    """Only our own engines are known not to be used: elsewhere, and named on the command line, a lock of that name counts."""
    root = project.make(tmp_path / "p", locks={name: f"forms-kit==1.9 {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    assert project.run(audit.STAGE, project.context(root)).verdict is Verdict.PASSED
    named = project.context(root, targets=(root / "requirements" / f"{name}.txt",))
    assert project.run(audit.STAGE, named).verdict is Verdict.FAILED
    foreign = dataclasses.replace(project.context(root), home=root, out=tmp_path / "out")
    assert project.run(audit.STAGE, foreign).verdict is Verdict.FAILED


def test_vex_of_a_trusted_author_excuses_and_of_another_does_not(tmp_path: Path) -> None:
    """The finding stays visible in both, with whose word it was, or why that did not count."""
    root = vulnerable(tmp_path / "p")
    (root / "policy" / "vex").mkdir()
    statement = {
        "vulnerability": {"name": "CVE-2026-0001"}, "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path", "products": [{"@id": "pkg:pypi/forms-kit@1.9"}],
    }  # fmt: skip
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:x", "author": "Forms Project", "version": 1,
                "timestamp": "2026-03-01T00:00:00Z", "statements": [statement]}  # fmt: skip
    (root / "policy" / "vex" / "forms.json").write_text(json.dumps(document), encoding="utf-8")
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.FAILED and "expected one of vex.trusted" in project.outcome(said, "audit.clean").seen
    project.edit(root / "policy" / "gates.toml", "trusted = []", 'trusted = ["Forms Project"]')
    ctx = project.context(root)
    said = project.run(audit.STAGE, ctx)
    assert project.outcome(said, "audit.clean").outcome is OutcomeKind.WAIVED
    assert "VEX of Forms Project, 2026-03-01" in project.outcome(said, "audit.clean").seen
    assert [f.outcome for f in project.findings(said, "audit.clean")] == [OutcomeKind.WAIVED]
    (ours,) = json.loads((ctx.evidence("audit") / "openvex.json").read_bytes())["statements"]
    assert (ours["status"], ours["justification"]) == ("not_affected", "vulnerable_code_not_in_execute_path")


def test_a_report_that_nobody_enforces_says_so_and_is_not_taken_further(tmp_path: Path) -> None:
    """Exit 0 with the findings in it; every file is stamped; the next stage refuses it until it is enforced."""
    root = vulnerable(tmp_path / "p")
    ctx = project.context(root)
    report = dataclasses.replace(ctx, report_only=True)
    said = project.run(audit.STAGE, report)
    assert said.verdict is Verdict.FAILED and said.report_only is True
    for name in ("audit.json", "audit.sarif", "junit.xml", "gl-dependency-scanning-report.json", "audit.md", "audit.txt",
                 "openvex.json", "not-enforced.txt"):  # fmt: skip
        text = (ctx.evidence("audit") / name).read_text("utf-8")
        assert "NOT ENFORCED" in text or "no gate was enforced" in text or '"enforced": false' in text, name
    with pytest.raises(InputMissing, match="without --report-only"):
        ctx.upstream("audit")
    enforced = pipeline.execute(audit.STAGE, ctx).predicate
    assert enforced.report_only is UNSET and enforced.gathered == said.gathered
    assert not (ctx.evidence("audit") / "not-enforced.txt").exists()
    assert ctx.upstream("audit").predicate.verdict is Verdict.FAILED


# How a tool fails

CRASHES = {
    "missing": None,
    "crashes": "import sys; sys.exit(3)",
    "raises": "raise RuntimeError",
    "says nothing": "pass",
    "says vulnerable, writes nothing": "import sys; sys.exit(1)",
    "writes an empty file": project.tool(lie="Path(option('--output')).write_text(''); sys.exit(0)"),
    "writes junk": project.tool(lie="Path(option('--output')).write_text('No known vulnerabilities found'); sys.exit(0)"),
    "writes half": project.tool(lie="Path(option('--output')).write_text('{\"dependencies\": [{'); sys.exit(0)"),
    "writes other JSON": project.tool(lie="Path(option('--output')).write_text('{}'); sys.exit(0)"),
    "misses the canary": project.tool(lie="dependencies = [{**d, 'vulns': []} for d in dependencies]"),
    "drops the canary": project.tool(lie="dependencies = [d for d in dependencies if 'canary' not in d['name']]"),
    "hides a finding": project.tool(lie="[d['vulns'].clear() for d in dependencies if d['name'] == 'forms-kit']"),
    "hides one of two": project.tool(lie="dependencies = [{**d, 'vulns': d['vulns'][:1]} for d in dependencies]"),
    "invents a finding": project.tool(lie="dependencies[-1]['vulns'] = [{'id': 'CVE-1-1', 'fix_versions': [], 'aliases': []}]"),
    "asks for nonsense": project.tool(lie="ask('No Such Name', '1')"),
    "asks for no version": project.tool(lie="ask('six', 'junk')"),
    "adds unknown fields": project.tool(lie="dependencies[0]['safe'] = True"),
}  # fmt: skip


@pytest.mark.parametrize("how", CRASHES)
def test_a_tool_that_fails_is_an_error_of_its_own(tmp_path: Path, how: str) -> None:
    """Missing, crashing, silent, garbled or lying: exit code 4, never a pass and never a finding."""
    root = project.make(tmp_path, locks={"app": VULNERABLE})
    source = CRASHES[how]
    project.install(root, "audit", {"pip-audit": source} if source is not None else {})
    said = project.run(audit.STAGE, project.context(root))
    assert (said.verdict, said.error_code) == (Verdict.ERROR, 4)
    assert said.error and not said.outcomes and not said.findings


@pytest.mark.parametrize(
    ("lie", "rule"),
    [
        ("dependencies = [d for d in dependencies if d['name'] != 'six']", "not-audited"),
        (
            "dependencies = [{'name': d['name'], 'skip_reason': 'x'} if d['name'] == 'six' else d for d in dependencies]",
            "skipped",
        ),
        ("ask('wheel', '1')", "not-locked"),
    ],
)
def test_a_package_that_was_not_audited_fails_coverage(tmp_path: Path, lie: str, rule: str) -> None:
    """Audited, asked and locked must be one set."""
    root = project.make(tmp_path, locks={"app": VULNERABLE})
    project.install(root, "audit", {"pip-audit": project.tool(lie=lie)})
    said = project.run(audit.STAGE, project.context(root))
    assert said.verdict is Verdict.FAILED and rule in {f.rule for f in project.findings(said, "audit.coverage")}


def test_a_package_that_was_never_asked_about_fails_coverage(tmp_path: Path) -> None:
    """A tool that answers from its own head is seen through: the service was not asked."""
    root = project.make(tmp_path)
    blind = project.tool(first="honest = ask\nask = lambda n, v: [] if n == 'six' else honest(n, v)")
    project.install(root, "audit", {"pip-audit": blind})
    said = project.run(audit.STAGE, project.context(root))
    assert {f.rule for f in project.findings(said, "audit.coverage")} == {"not-asked"}


def test_a_tool_that_hangs_is_ended(tmp_path: Path) -> None:
    """Past its time the whole process tree is gone and the stage says so."""
    root = project.make(tmp_path)
    project.install(root, "audit", {"pip-audit": "import time; time.sleep(60)"})
    project.edit(root / "policy" / "gates.toml", "[limits.stage]", "[limits.stage]\naudit = 1.5")
    said = project.run(audit.STAGE, project.context(root))
    assert (said.verdict, said.error_code) == (Verdict.ERROR, 4) and "still running" in said.error


def test_facts_that_do_not_belong_to_the_snapshot_are_refused(tmp_path: Path) -> None:
    """Somebody edited the advisories: wrong configuration, exit 2."""
    root = vulnerable(tmp_path / "p")
    project.edit(root / "policy" / "advisories" / "facts.json", '"fixed": "2.0"', '"fixed": "1.0"')
    with pytest.raises(UsageError, match="expected"):
        project.run(audit.STAGE, project.context(root))


def test_a_local_index_is_used_where_it_is_newer_and_refused_where_it_is_torn(tmp_path: Path) -> None:
    """A refreshed snapshot needs no commit; its package that no lock of the policy knew is judged; half of it is wrong input."""
    root = vulnerable(tmp_path / "p")
    other = tmp_path / "other.txt"
    other.write_text(f"spare-part==1.0 {HASH}\n", encoding="utf-8")
    part = {"package": {"ecosystem": "PyPI", "name": "spare-part"}, "versions": ["1.0"]}
    source = tmp_path / "records"
    source.mkdir()
    (source / "PYSEC-2026-5.json").write_text(
        json.dumps({"id": "PYSEC-2026-5", "modified": "2026-03-09T00:00:00Z", "affected": [part]}), encoding="utf-8"
    )
    advisories.refresh(root, str(source))
    ctx = project.context(root, targets=(other,))
    said = project.run(audit.STAGE, ctx)
    assert [finding.rule for finding in project.findings(said, "audit.clean")] == ["PYSEC-2026-5"]
    assert "2026-03-09" in project.outcome(said, "audit.fresh").seen
    (path,) = (root / index.FOLDER).glob("*.sqlite")
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(UsageError, match="torn"):
        project.run(audit.STAGE, ctx)


def test_no_snapshot_is_an_input_that_is_missing(tmp_path: Path) -> None:
    """Without advisories there is nothing to ask."""
    root = vulnerable(tmp_path / "p")
    shutil.rmtree(root / "policy" / "advisories")
    with pytest.raises(InputMissing):
        project.run(audit.STAGE, project.context(root))


def test_evidence_is_the_same_bytes_again(tmp_path: Path) -> None:
    """Two projects in two folders leave the same evidence."""
    trees = []
    for name in ("one", "two with a space"):
        root = vulnerable(tmp_path / name)
        ctx = project.context(root)
        project.run(audit.STAGE, ctx)
        trees.append({path.name: path.read_bytes() for path in ctx.evidence("audit").iterdir()})
    assert trees[0] == trees[1]
    gathered = {"facts.json", "locks.json", "pip-audit.json", "questions.json", "snapshot.json"}
    derived = {"audit.json", "audit.md", "audit.sarif", "audit.txt", "gl-dependency-scanning-report.json", "junit.xml"}
    assert set(trees[0]) == gathered | derived | {"openvex.json"}


# The real tool's words


def test_recorded_reports_are_read(tmp_path: Path) -> None:
    """pip-audit's own JSON becomes values: found with twins merged, clean, and skipped."""
    found = pip_audit.parse_report((RECORDED / "found.json").read_bytes(), "found")
    assert [(d.name, d.version, [v.id for v in d.vulns]) for d in pip_audit.merge([found]).dependencies] == [
        ("jinja2", "2.4", ["PYSEC-2014-8", "PYSEC-2019-217"]), ("six", "1.16.0", []),
    ]  # fmt: skip
    assert found.dependencies[0].vulns[1].names == {"PYSEC-2019-217", "GHSA-fqh9-2qgg-h84h", "CVE-2014-0012"}
    assert pip_audit.parse_report((RECORDED / "clean.json").read_bytes(), "clean").dependencies[0].vulns == ()
    assert pip_audit.parse_report((RECORDED / "skipped.json").read_bytes(), "skipped").dependencies[0].skip_reason
    assert len(pip_audit.parse_questions((RECORDED / "questions.jsonl").read_bytes(), "questions")) == 3


def test_a_recorded_report_torn_anywhere_is_an_error() -> None:
    """No prefix of a report is a report."""
    data = (RECORDED / "found.json").read_bytes().strip()
    for length in range(0, len(data), 17):
        with pytest.raises(ToolFailed):
            pip_audit.parse_report(data[:length], "torn")


# The real tool, in its real environment


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A project with a vulnerable pin and this checkout's own audit environment."""
    try:
        venvs.existing(ROOT, "audit")
    except InputMissing as error:
        pytest.skip(str(error))
    root = project.make(tmp_path / "real", locks={"app": VULNERABLE})
    shutil.copy2(ROOT / "requirements" / "audit.txt", root / "requirements" / "audit.txt")
    project.import_records(root, (FORMS, project.FORMS_TWIN, MINOR))
    (root / ".nox").mkdir()
    (root / ".nox" / "venvs").symlink_to(ROOT / ".nox" / "venvs")
    return root


@pytest.mark.e2e
def test_the_real_tool_finds_the_planted_vulnerability(real: Path) -> None:
    """pip-audit itself, over the loopback, with the network denied: one finding, twins merged, every pin covered."""
    said = project.run(audit.STAGE, project.context(real))
    assert said.verdict is Verdict.FAILED and said.network == "denied", said.error
    assert project.outcome(said, "audit.coverage").outcome is OutcomeKind.PASSED
    (finding,) = project.findings(said, "audit.clean")
    assert (finding.rule, finding.package, finding.severity) == ("PYSEC-2026-1", "forms-kit", Severity.HIGH)
    assert "CVE-2026-0001" in finding.message and "GHSA-aaaa-bbbb-cccc" in finding.message


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("honest", "mutated"),
    [
        ('self.reply(200, {"vulns": records} if records else {})', "self.reply(200, {})"),
        ('self.reply(200, {"vulns": records} if records else {})', "self.reply(404, {})"),
        ('self.reply(200, {"vulns": records} if records else {})', "self.reply(503, {})"),
        ("body = json.dumps(answer).encode()", 'body = b"<html>junk"'),
        ("body = json.dumps(answer).encode()", "import time; time.sleep(60); body = b''"),
        ("body = json.dumps(answer).encode()", "raise SystemExit"),
        ('"affected": [],', '"affected": [], "withdrawn": "2026-01-01T00:00:00Z",'),
        ('"schema_version": "1.6.0"', '"schema_version": "2.0.0"'),
        ("not advisory.get", "advisory['id'] != 'PYSEC-2026-1' and not advisory.get"),
    ],
    ids=["empty", "404", "503", "junk", "hangs", "dies", "withdrawn", "schema 2", "forgets one"],
)
def test_a_service_that_fails_never_makes_a_pass(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: str, mutated: str
) -> None:
    """Whatever the service says instead of the truth, real pip-audit behind it ends in exit code 4."""
    inside = shutil.copytree(sealrun.stage.INSIDE, tmp_path / "inside")
    project.edit(inside / "osv_service.py", honest, mutated)
    monkeypatch.setattr(sealrun.stage, "INSIDE", inside)
    project.edit(real / "policy" / "gates.toml", "[limits.stage]", "[limits.stage]\naudit = 4")
    said = project.run(audit.STAGE, project.context(real))
    assert (said.verdict, said.error_code) == (Verdict.ERROR, 4), said


@pytest.mark.e2e
def test_the_locks_of_this_project_are_covered(tmp_path: Path) -> None:
    """Every pin of every lock that ships is asked about and answered."""
    try:
        venvs.existing(ROOT, "audit")
    except InputMissing as error:
        pytest.skip(str(error))
    ctx = sealrun.stage.Context(plan=project.context(ROOT).plan, root=ROOT, out=tmp_path / "out")
    said = project.run(audit.STAGE, ctx)
    pins = sum(len(lock.pins) for lock in read_locks(ROOT))
    assert f"{pins} pins" in project.outcome(said, "audit.coverage").seen and pins > 100
    assert project.outcome(said, "audit.coverage").outcome is OutcomeKind.PASSED
