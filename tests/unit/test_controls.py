"""Controls that a sound run never fails: shown to fail when what they look at is changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sealrun import digest, files, pipeline, venvs
from sealrun.errors import InputMissing
from sealrun.evidence import statement as statements
from sealrun.evidence.manifest import BASELINE_REPORT, CERTIFICATE
from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.stage import Context, Work, context_of
from tests.conftest import ROOT, git
from tests.unit.test_html import COMPARISON

REPORT = "certificate/reports/evaluation.report.json"


class Judged:
    """A release whose other stages all passed, to be judged by the stage bundle; fields are changed before `outcomes`."""

    def __init__(self, repository: Path, tmp: Path) -> None:
        self.repository, self.tmp = repository, tmp
        self.network, self.lock, self.certified = "denied", "", {CERTIFICATE, BASELINE_REPORT, REPORT}
        self.stray = self.leaked = ""

    def production(self) -> None:
        """Let the release be one for production, committed."""
        release = self.repository / "examples" / "tiny-lm" / "release.toml"
        release.write_text(release.read_text("utf-8").replace('posture = "research"', 'posture = "production"'), "utf-8")
        git(self.repository, "commit", "--quiet", "--all", "--message=for production")

    def outcomes(self) -> dict[str, Outcome]:
        """Judge, and return the outcome of each control."""
        context, stage = context_of(self.repository, None, Path("build")), pipeline.stage_named("bundle")
        for name in self.certified:
            path = context.evidence("certify") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, COMPARISON)
        if self.leaked:
            context.evidence("audit").mkdir(parents=True)
            files.write_bytes(context.evidence("audit") / "notes.txt", self.leaked.encode())
        for required in stage.requires:
            statements.write(context.statement_path(required), self._statement(context, required))
        if self.stray:
            (context.out / self.stray).write_text("who wrote me?", "utf-8")
        work = self.tmp / "work"
        for folder in (context.evidence("bundle"), context.logs("bundle"), work):
            folder.mkdir(parents=True)
        stage.gather(
            context, Work(stage=stage, context=context, out=context.evidence("bundle"), tmp=work, shown=work, networks=[])
        )
        return {outcome.control: outcome for outcome in stage.judge(context).outcomes}

    def _statement(self, context: Context, stage: str) -> statements.StageStatement:
        requirements = self.repository / "requirements"
        locks = digest.describe_files(requirements, [path.name for path in requirements.glob("*.txt")])
        audit = next(entry.sha256 for entry in locks if entry.path == "audit.txt")
        judged = statements.resources(tuple(replace(entry, path=f"requirements/{entry.path}") for entry in locks))
        tool = statements.Tool(name="pip-audit", version="1", environment="audit", lock=self.lock or audit)
        folder = context.evidence(stage)
        controls = [control.id for control in context.plan.checklist.control if control.stage == stage]
        return statements.StageStatement(
            subject=statements.resources(digest.describe_files(folder, files.walk_files(folder)) if folder.is_dir() else ()),
            predicate=statements.StagePredicate(
                stage=stage, sealrun="0.1.0", python="3.12.1", plan=context.plan.digest,
                judged_at=context.plan.judged_at.isoformat(), reuse_key="0" * 64,
                inputs=judged if stage == "lock" else (),
                tools=(tool,) if stage == "audit" else (),
                network=self.network if stage == "audit" else "denied", verdict=Verdict.PASSED,  # type: ignore[arg-type]
                outcomes=tuple(
                    Outcome(control=name, outcome=OutcomeKind.PASSED, seen="so", expected="so") for name in controls
                ),
            ),
        )  # fmt: skip


@pytest.fixture
def judged(repository: Path, tmp_path: Path) -> Judged:
    try:
        venvs.existing(ROOT, "secrets")
    except InputMissing as error:
        pytest.skip(str(error))
    return Judged(repository, tmp_path)


def failed(outcomes: dict[str, Outcome]) -> list[str]:
    return sorted(control for control, outcome in outcomes.items() if outcome.outcome is OutcomeKind.FAILED)


def test_a_sound_release_passes(judged: Judged) -> None:
    """Unchanged, nothing fails; what production would refuse is a warning in research."""
    outcomes = judged.outcomes()
    assert failed(outcomes) == []
    assert sorted(control for control, outcome in outcomes.items() if outcome.warning) == ["evidence.retained", "release.key"]


@pytest.mark.parametrize(
    ("change", "control"),
    [
        (lambda judged: setattr(judged, "network", "opened"), "network.denied"),
        (lambda judged: setattr(judged, "lock", "f" * 64), "runtime.isolated"),
        (lambda judged: setattr(judged, "stray", "notes.txt"), "runtime.writes"),
        (lambda judged: judged.certified.remove(BASELINE_REPORT), "evidence.archived"),
        (lambda judged: judged.certified.remove(CERTIFICATE), "evidence.archived"),
        (lambda judged: setattr(judged, "leaked", "key = " + "AKIA" + "Q7ZP3MW5XK2VBN4T"), "secrets.evidence"),
        (lambda judged: (judged.repository / ("AKIA" + "Q7ZP3MW5XK2VBN4T")).write_text("x"), "secrets.evidence"),
    ],
)
def test_each_mutation_fails_its_control(judged: Judged, change: Callable[[Judged], object], control: str) -> None:
    """One thing wrong is one control failed, with something to do."""
    change(judged)
    outcomes = judged.outcomes()
    assert failed(outcomes) == [control]
    assert outcomes[control].remedy


def test_the_report_and_what_the_bundle_writes_itself_are_scanned(judged: Judged) -> None:
    """A name in the list of changes is in the files of this stage, its statement and the report: each is found."""
    (judged.repository / ("AKIA" + "Q7ZP3MW5XK2VBN4T")).write_text("x")
    judged.outcomes()
    folder = context_of(judged.repository, None, Path("build")).evidence("bundle")
    scan = json.loads((folder / "secrets.json").read_bytes())
    scanned = {entry["path"] for entry in scan["scanned"]}
    assert {"report.html", "statements/bundle.json", "evidence/bundle/ml-bom.cdx.json", "plan.json"} <= scanned
    assert {finding["path"] for finding in scan["findings"]} == {
        "evidence/bundle/changes.json", "evidence/bundle/checklist.json", "report.html", "statements/bundle.json",
    }  # fmt: skip


def test_production_fails_where_research_warns(judged: Judged) -> None:
    """In production an unlisted key and a research retention class fail; the commit is clean and passes."""
    judged.production()
    assert failed(judged.outcomes()) == ["evidence.retained", "release.key"]


def test_a_changed_tree_is_a_warning_in_research(judged: Judged) -> None:
    """A file that is not what the commit says is named."""
    (judged.repository / "noxfile.py").write_text("# changed\n", "utf-8")
    outcome = judged.outcomes()["source.commit"]
    assert outcome.outcome is OutcomeKind.PASSED
    assert "noxfile.py" in outcome.warning


def test_a_changed_tree_fails_in_production(judged: Judged) -> None:
    """The same in production is a failure."""
    judged.production()
    (judged.repository / "noxfile.py").write_text("# changed\n", "utf-8")
    outcomes = judged.outcomes()
    assert "source.commit" in failed(outcomes)
    assert "noxfile.py" in outcomes["source.commit"].seen


def test_an_old_python_fails(repository: Path) -> None:
    """The lock stage refuses a run on a Python before 3.12."""
    context, stage = context_of(repository, None, Path("build")), pipeline.stage_named("lock")
    pipeline.execute(stage, context)
    report = context.evidence("lock") / "locks.json"
    files.write_bytes(report, report.read_bytes().replace(b'"python": "3.', b'"python": "2.'))
    outcomes = {outcome.control: outcome.outcome for outcome in stage.judge(context).outcomes}
    assert outcomes["python.version"] is OutcomeKind.FAILED
    assert outcomes["lock.hashed"] is OutcomeKind.PASSED
