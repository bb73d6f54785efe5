"""Findings meet waivers, deployment lines meet the posture."""

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from sealrun.outcome import Finding, OutcomeKind, Severity
from sealrun.policy.judge import counts, deployment_check, judge_findings, listed, worst
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan, Posture, Waiver, Waivers
from tests.locked_project import ROOT, TODAY

CONTROL = "audit.clean"
WAIVER = Waiver(
    control=CONTROL, rule="CVE-2026-0001", target="forms-kit", reason="not reachable", owner="a", approver="b",
    granted=TODAY - timedelta(days=10), expires=TODAY + timedelta(days=20),
)  # fmt: skip
FINDING = Finding(
    control=CONTROL, rule="PYSEC-2026-1", outcome=OutcomeKind.FAILED, message="forms-kit 1.0: PYSEC-2026-1",
    package="forms-kit", version="1.0", environment="app", severity=Severity.HIGH,
)  # fmt: skip
ALIASES = {"PYSEC-2026-1": frozenset({"PYSEC-2026-1", "CVE-2026-0001"})}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of the shipped example, in a folder of its own."""
    shutil.copytree(ROOT / "policy", tmp_path / "policy")
    shutil.copy2(ROOT / "examples" / "tiny-lm" / "release.toml", tmp_path / "release.toml")
    return load_plan(tmp_path, tmp_path / "release.toml", TODAY)


def with_waivers(plan: Plan, *waivers: Waiver) -> Plan:
    return msgspec.structs.replace(plan, waivers=Waivers(format="sealrun/waivers-v1", waiver=waivers))


def changed(**fields: object) -> Waiver:
    return msgspec.structs.replace(WAIVER, **fields)


def test_a_waiver_holds_by_alias_and_the_finding_stays_visible(plan: Plan) -> None:
    """A waived finding is waived, not gone, and the outcome says until when; who approved it stands in the waiver alone."""
    judged = judge_findings(with_waivers(plan, WAIVER), CONTROL, [FINDING], aliases=ALIASES)
    assert [finding.outcome for finding in judged.findings] == [OutcomeKind.WAIVED]
    assert judged.problems == () and judged.waived[0][1] == WAIVER
    outcome = judged.outcome(CONTROL, seen="1 package", expected="none", remedy="upgrade")
    assert outcome.outcome is OutcomeKind.WAIVED and outcome.seen.endswith("until 2026-03-30")


def test_without_a_waiver_the_finding_fails_with_what_to_do(plan: Plan) -> None:
    """A finding that nothing excuses fails its control."""
    judged = judge_findings(plan, CONTROL, [FINDING], aliases=ALIASES)
    outcome = judged.outcome(CONTROL, seen="1 package", expected="none", remedy="upgrade")
    assert (outcome.outcome, outcome.remedy) == (OutcomeKind.FAILED, "upgrade") and FINDING.message in outcome.seen


@pytest.mark.parametrize("days", [0, 1])
def test_a_waiver_lapses_the_day_after_it_expires(plan: Plan, days: int) -> None:
    """It holds on its last day, and fails by name on the next."""
    judged = judge_findings(
        with_waivers(plan, changed(expires=TODAY - timedelta(days=days))), CONTROL, [FINDING], aliases=ALIASES
    )
    assert bool(judged.failed) == bool(days)
    assert bool(judged.problems) == bool(days)
    assert not days or "waiver CVE-2026-0001 on forms-kit: expired" in judged.problems[0]


def test_a_waiver_that_nothing_is_about_is_itself_a_failure(plan: Plan) -> None:
    """Whoever keeps one open that excuses nothing is told so."""
    judged = judge_findings(with_waivers(plan, changed(target="another")), CONTROL, [FINDING], aliases=ALIASES)
    assert judged.failed and "unused" in judged.problems[0]
    outcome = judged.outcome(CONTROL, seen="1 package", expected="none", remedy="upgrade")
    assert outcome.outcome is OutcomeKind.FAILED


@pytest.mark.parametrize(("days", "warns"), [(15, False), (14, True), (0, True)])
def test_within_two_weeks_of_its_end_a_waiver_warns(plan: Plan, days: int, warns: bool) -> None:
    """It still holds, and its outcome says for how long."""
    judged = judge_findings(
        with_waivers(plan, changed(expires=TODAY + timedelta(days=days))), CONTROL, [FINDING], aliases=ALIASES
    )
    outcome = judged.outcome(CONTROL, seen="1 package", expected="none", remedy="upgrade")
    assert outcome.outcome is OutcomeKind.WAIVED
    assert (f"{days} days from the day of judgement" in outcome.warning) is warns


def test_a_baseline_excuses_what_was_there_and_nothing_new(plan: Plan) -> None:
    """Its findings are waived until its end; another finding fails; a finding that is gone is no failure."""
    recorded = msgspec.structs.replace(plan, waivers=Waivers(format="sealrun/waivers-v1", baseline=(WAIVER,)))
    new = msgspec.structs.replace(FINDING, rule="PYSEC-2026-9")
    judged = judge_findings(recorded, CONTROL, [FINDING, new], aliases=ALIASES)
    assert [finding.outcome for finding in judged.findings] == [OutcomeKind.WAIVED, OutcomeKind.FAILED]
    assert judge_findings(recorded, CONTROL, []).problems == ()
    later = msgspec.structs.replace(recorded, judged_at=WAIVER.expires + timedelta(days=1))
    assert judge_findings(later, CONTROL, [FINDING], aliases=ALIASES).failed
    assert judge_findings(later, CONTROL, []).problems == ()


def test_version_and_environment_narrow_a_waiver(plan: Plan) -> None:
    """A waiver for one environment leaves the same finding elsewhere alone."""
    elsewhere = msgspec.structs.replace(FINDING, environment="runner")
    narrow = changed(version="1.0", environment="app")
    judged = judge_findings(with_waivers(plan, narrow), CONTROL, [FINDING, elsewhere], aliases=ALIASES)
    assert [finding.outcome for finding in judged.findings] == [OutcomeKind.WAIVED, OutcomeKind.FAILED]


def test_waivers_of_other_controls_are_not_looked_at(plan: Plan) -> None:
    """A waiver belongs to one control, used or not."""
    judged = judge_findings(with_waivers(plan, changed(control="secrets.clean")), CONTROL, [FINDING], aliases=ALIASES)
    assert len(judged.failed) == 1 and judged.problems == ()


def test_unused_waivers_are_left_alone_when_something_else_is_judged(plan: Plan) -> None:
    """Auditing another lock does not make the release's own waivers wrong; an expired one stays wrong."""
    unused, expired = changed(target="another"), changed(target="third", expires=TODAY - timedelta(days=1))
    judged = judge_findings(with_waivers(plan, unused, expired), CONTROL, [], unused_fails=False)
    assert len(judged.problems) == 1 and "third" in judged.problems[0]


def test_findings_by_path_and_fingerprint_are_waived_too(plan: Plan) -> None:
    """Every kind of finding meets waivers the same way."""
    finding = Finding(
        control="secrets.clean", rule="entropy", outcome=OutcomeKind.FAILED, message="m", path="a/b", fingerprint="f" * 16
    )
    for target in ("a/b", "f" * 16):
        waiver = changed(control="secrets.clean", rule="entropy", target=target)
        assert not judge_findings(with_waivers(plan, waiver), "secrets.clean", [finding]).failed


def test_a_deployment_line_warns_in_research_and_fails_in_production(plan: Plan) -> None:
    """The same facts, two postures; what is fine is fine in both."""
    production = msgspec.structs.replace(plan, release=msgspec.structs.replace(plan.release, posture=Posture.PRODUCTION))
    assert plan.release.posture is Posture.RESEARCH
    for chosen, kind in ((plan, OutcomeKind.PASSED), (production, OutcomeKind.FAILED)):
        outcome = deployment_check(chosen, "audit.fresh", False, seen="old", expected="new", remedy="renew")
        assert outcome.outcome is kind
        assert ("NOT FOR PRODUCTION" in outcome.warning) == (kind is OutcomeKind.PASSED)
        assert deployment_check(chosen, "audit.fresh", True, seen="n", expected="n", remedy="").warning == ""


def test_levels_are_ordered_and_unknown_counts_as_policy_says() -> None:
    """Low below medium below high below critical; an unknown level never slips through unnamed."""
    order = [Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL]
    for index, level in enumerate(order):
        for gate, floor in enumerate(order):
            assert counts(level, fail_on=floor, unknown_is=Severity.LOW) is (index >= gate)
            assert counts(Severity.UNKNOWN, fail_on=floor, unknown_is=level) is (index >= gate)
    assert counts(Severity.UNKNOWN, fail_on=Severity.CRITICAL, unknown_is=Severity.UNKNOWN)
    assert worst([Severity.LOW, Severity.UNKNOWN, Severity.HIGH]) is Severity.HIGH
    assert worst([]) is Severity.UNKNOWN


def test_a_long_list_says_how_much_more_there_is() -> None:
    """What does not fit is counted."""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
