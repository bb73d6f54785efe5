"""Commands about exceptions: what they propose is refused until a person filled it in."""

import calendar
import re
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from sealrun import exceptions
from sealrun.__main__ import main
from sealrun.errors import InputMissing, UsageError
from sealrun.exceptions import Words
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.policy.waivers import State
from sealrun.stage import Context
from sealrun.stages import audit
from tests import locked_project as project
from tests.locked_project import HASH, ROOT, TODAY

WORDS = Words(reason="not reached", owner="a", approver="b", link="https://example.invalid/1")


@pytest.fixture
def found(tmp_path: Path) -> Context:
    """A project whose audit found two vulnerabilities."""
    root = project.make(
        tmp_path, locks={"app": f"forms-kit==1.9 {HASH}\nsix==1.16.0 {HASH}\n", "new": f"forms-kit==1.0 {HASH}\n"}
    )
    project.install(root, "audit", {"pip-audit": project.tool()})
    ctx = project.context(root)
    assert project.run(audit.STAGE, ctx).verdict is Verdict.FAILED
    return ctx


def test_a_proposal_is_refused_until_it_is_filled_in(found: Context) -> None:
    """As it is printed it grants nothing; with the words of a person it is read, and waives exactly that finding."""
    open_ = exceptions.open_findings(found.out.parent)
    assert [(finding.environment, finding.version) for finding in open_] == [("app", "1.9"), ("new", "1.0")]
    path = found.root / "policy" / "waivers.toml"
    before = path.read_text("utf-8")
    path.write_text(before + exceptions.propose(open_, found.plan, Words()), encoding="utf-8")
    with pytest.raises(UsageError, match="reason"):
        project.context(found.root)
    path.write_text(before + exceptions.propose(open_[:1], found.plan, WORDS), encoding="utf-8")
    said = project.run(audit.STAGE, project.context(found.root))
    assert [f.outcome for f in said.findings if f.package == "forms-kit"] == [OutcomeKind.WAIVED, OutcomeKind.FAILED]


def test_a_proposal_lasts_as_long_as_policy_allows_at_most(found: Context) -> None:
    """90 days from the day of judgement, or fewer."""
    open_ = exceptions.open_findings(found.out.parent)
    assert f"expires = {TODAY + timedelta(days=90)}" in exceptions.propose(open_, found.plan, WORDS)
    assert f"expires = {TODAY + timedelta(days=7)}" in exceptions.propose(open_, found.plan, WORDS, days=7)
    with pytest.raises(UsageError, match="at most 90"):
        exceptions.propose(open_, found.plan, WORDS, days=91)


def test_a_baseline_takes_what_is_open_and_a_new_finding_fails(found: Context) -> None:
    """Recorded once, under one owner and one end; the next vulnerable pin is not in it."""
    open_ = exceptions.open_findings(found.out.parent)
    path = exceptions.record(found.root, open_, found.plan, WORDS, TODAY + timedelta(days=30))
    assert project.run(audit.STAGE, project.context(found.root)).verdict is Verdict.PASSED
    with pytest.raises(UsageError, match="is there already"):
        exceptions.record(found.root, open_, found.plan, WORDS, TODAY)
    project.write_locks(found.root, {"third": f"forms-kit==0.1 {HASH}\n"})
    said = project.run(audit.STAGE, project.context(found.root))
    assert [f.environment for f in said.findings if f.outcome is OutcomeKind.FAILED] == ["third"]
    after = project.run(audit.STAGE, project.context(found.root, today=TODAY + timedelta(days=31)))
    assert len([f for f in after.findings if f.outcome is OutcomeKind.FAILED]) == 3
    path.unlink()


@pytest.mark.parametrize(
    ("words", "until", "why"),
    [
        (WORDS, TODAY + timedelta(days=91), "policy allows 90"),
        (WORDS, TODAY - timedelta(days=1), "before it was granted"),
        (msgspec.structs.replace(WORDS, owner=""), TODAY, "owner"),
    ],
)
def test_a_baseline_that_would_be_refused_is_not_written(found: Context, words: Words, until: date, why: str) -> None:
    """Neither too long nor without an owner."""
    with pytest.raises(UsageError, match=why):
        exceptions.record(found.root, exceptions.open_findings(found.out.parent), found.plan, words, until)
    assert not (found.root / "policy" / "baseline.toml").exists()


def test_without_statements_there_is_nothing_to_propose(tmp_path: Path) -> None:
    """The message names the session to run."""
    with pytest.raises(InputMissing, match="nox -t supply-chain"):
        exceptions.open_findings(tmp_path)


def test_what_lapses_when_is_listed_next_first(found: Context) -> None:
    """With the state on that day and the days left."""
    open_ = exceptions.open_findings(found.out.parent)
    late, soon = (exceptions.propose(open_[n : n + 1], found.plan, WORDS, days=days) for n, days in ((0, 60), (1, 10)))
    with (found.root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(late + "\n" + soon)
    rows = list(exceptions.lapsing(project.context(found.root).plan))
    assert [(state, days) for _, state, days in rows] == [(State.EXPIRING, 10), (State.ACTIVE, 60)]
    rows = list(exceptions.lapsing(project.context(found.root, today=TODAY + timedelta(days=11)).plan))
    assert [state for _, state, _ in rows] == [State.EXPIRED, State.ACTIVE]


def test_the_allowlist_has_every_accepted_advisory_and_no_markup_of_theirs(found: Context) -> None:
    """Generated from the waivers, the same on every day."""
    words = msgspec.structs.replace(WORDS, reason="a | <b> row")
    with (found.root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(exceptions.propose(exceptions.open_findings(found.out.parent), found.plan, words))
    page = exceptions.allowlist(project.context(found.root).plan)
    assert page == exceptions.allowlist(project.context(found.root, today=TODAY + timedelta(days=50)).plan)
    rows = [line for line in page.splitlines() if line.startswith("| PYSEC")]
    assert len(rows) == 2 and "a \\| &lt;b> row" in rows[0] and "forms-kit 1.9" in rows[0]


def test_the_page_of_this_project_is_what_its_waivers_say() -> None:
    """docs/pip-audit-allowlist.md was generated from the policy as it is."""
    page = exceptions.allowlist(project.context(ROOT).plan)
    assert (ROOT / exceptions.ALLOWLIST).read_text("utf-8") == page, "run `invoke policy.allowlist`"


def test_the_commands_print_write_and_check(
    found: Context, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line: propose, record, list, and say when the page is another."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(calendar.timegm(TODAY.timetuple())))
    root, out = f"--root={found.root}", f"--out={found.root}"
    assert main(["policy.waive", "--rule=PYSEC-2026-1", "--owner=a", out, root]) == 0
    assert len(re.findall(r"^\[\[waiver\]\]$", capsys.readouterr().out, re.MULTILINE)) == 2
    assert main(["policy.waive", "--rule=PYSEC-9", out, root]) == 2
    words = ["--reason=r", "--owner=a", "--approver=b", "--link=l"]
    assert main(["policy.baseline", "--until=soon", *words, out, root]) == 2
    assert main(["policy.baseline", f"--until={TODAY + timedelta(days=20)}", *words, out, root]) == 0
    capsys.readouterr()
    assert main(["policy.lapsing", root]) == 0
    assert capsys.readouterr().out.count(" 20 days  audit.clean  PYSEC-2026-1 on forms-kit") == 2
    (found.root / "docs").mkdir()
    assert main(["policy.allowlist", "--check", root]) == 1
    assert main(["policy.allowlist", root]) == 0
    assert main(["policy.allowlist", "--check", root]) == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(calendar.timegm(TODAY.timetuple()) + 30 * 86400))
    assert main(["policy.lapsing", root]) == 1
