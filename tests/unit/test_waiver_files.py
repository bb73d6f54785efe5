"""The exceptions of a policy as they are read: what is refused, whatever kind it is."""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from sealrun.errors import UsageError
from sealrun.policy.model import WaiverGate, Waivers
from sealrun.policy.waivers import KINDS, State, load_waivers, state
from tests.locked_project import TODAY

GATE = WaiverGate(max_days=90, warn_days=14)
SHA = "ab" * 32
FIELDS = {
    "control": '"audit.clean"', "rule": '"CVE-2026-0001"', "target": '"forms-kit"', "version": '"1.9"',
    "environment": '"app"', "reason": '"The form parser is not called."', "owner": '"a"', "approver": '"b"',
    "granted": "2026-03-01", "expires": "2026-03-20", "status": '"not_affected"',
    "justification": '"vulnerable_code_not_in_execute_path"', "link": '"https://example.invalid/1"',
}  # fmt: skip
SECRET = {name: text for name, text in FIELDS.items() if name not in ("version", "environment", "status", "justification")} | {
    "control": '"secrets.clean"', "rule": '"entropy"', "target": '"scrypt:0123"',
}  # fmt: skip
BASELINE = """format = "sealrun/baseline-v1"
reason = "found when the gate was switched on"
owner = "a"
approver = "b"
granted = 2026-03-01
expires = 2026-05-01
link = "https://example.invalid/2"

[[finding]]
control = "audit.clean"
rule = "PYSEC-2026-1"
target = "forms-kit"
version = "1.9"
environment = "app"

[[finding]]
control = "secrets.clean"
rule = "entropy"
target = "scrypt:0123"
"""


def text(*waivers: dict[str, str]) -> str:
    """A waivers.toml."""
    blocks = ("[[waiver]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items()) for fields in waivers)
    return 'format = "sealrun/waivers-v1"\n' + "\n".join(blocks)


def load(folder: Path, waivers: str = text(), baseline: str = "", today: date = TODAY) -> Waivers:
    """Load a policy folder that holds these files."""
    (folder / "waivers.toml").write_text(waivers, encoding="utf-8")
    if baseline:
        (folder / "baseline.toml").write_text(baseline, encoding="utf-8")
    return load_waivers(folder, GATE, today)


def without(name: str) -> dict[str, str]:
    return {field: value for field, value in FIELDS.items() if field != name}


def test_one_loader_reads_every_kind(tmp_path: Path) -> None:
    """Advisories, secrets, formats and code are one value."""
    model = {**SECRET, "control": '"model.code"', "rule": '"code"', "target": f'"{SHA}"'}
    read = load(tmp_path, text(FIELDS, SECRET, model, {**model, "control": '"model.formats"', "rule": '"pickle"'}))
    assert [waiver.control for waiver in read.waiver] == ["audit.clean", "secrets.clean", "model.code", "model.formats"]
    assert {waiver.control for waiver in read.waiver} == set(KINDS)
    assert read.waiver[0].expires == date(2026, 3, 20) and read.baseline == ()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_missing_field_is_refused(tmp_path: Path, name: str) -> None:
    """Every field of an accepted vulnerability is asked for."""
    with pytest.raises(UsageError, match=name):
        load(tmp_path, text(without(name)))


@pytest.mark.parametrize("name", sorted(set(SECRET) - {"link"}))
def test_a_missing_field_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    """Every field of an allowlisted fingerprint is asked for."""
    with pytest.raises(UsageError, match=name):
        load(tmp_path, text({field: value for field, value in SECRET.items() if field != name}))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"severity": '"low"'}, "severity"),
        ({"control": '"audit.coverage"'}, "which no waiver can excuse"),
        ({"control": '"no.such"'}, "which no waiver can excuse"),
        ({"rule": '"*"'}, "no wildcard"),
        ({"rule": '"PYSEC-2026-?"'}, "no wildcard"),
        ({"target": '"forms-*"'}, "no wildcard"),
        ({"target": '"any"'}, "no wildcard"),
        ({"version": '"1.*"'}, "no wildcard"),
        ({"environment": '"All"'}, "no wildcard"),
        ({"environment": '"[a-z]"'}, "no wildcard"),
        ({"reason": '""'}, "reason"),
        ({"approver": '""'}, "approver"),
        ({"owner": '"  "'}, "owner"),
        ({"expires": '"never"'}, "expires"),
        ({"expires": '"2026-03-20"'}, "expires"),
        ({"expires": "2026-03-20T00:00:00Z"}, "expires"),
        ({"expires": "20260320"}, "expires"),
        ({"expires": "true"}, "expires"),
        ({"granted": '"2026-03-01"'}, "granted"),
        ({"expires": "2026-05-31"}, "91 days after it was granted; policy allows 90"),
        ({"expires": "9999-12-31"}, "policy allows 90"),
        ({"expires": "2026-02-28"}, "before it was granted"),
        ({"granted": "2026-03-11"}, "after the day of judgement"),
        ({"status": '"harmless"'}, "status"),
        ({"status": '"affected"'}, "justification"),
        ({"justification": '"it is fine"'}, "justification"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, str], why: str) -> None:
    """Unknown fields, wildcards, ends that are none, too long, dated ahead: wrong configuration, by name."""
    with pytest.raises(UsageError, match=re.escape(why)):
        load(tmp_path, text({**FIELDS, **change}))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({**SECRET, "version": '"1"'}, "means nothing for secrets.clean"),
        ({**SECRET, "status": '"fixed"'}, "means nothing for secrets.clean"),
        ({**SECRET, "control": '"model.code"'}, "expected a sha256"),
        ({**SECRET, "control": '"model.formats"', "target": '"model/weights.bin"'}, "expected a sha256"),
    ],
)
def test_fields_of_another_kind_are_refused(tmp_path: Path, fields: dict[str, str], why: str) -> None:
    """What a kind does not know would be read as something that it is not."""
    with pytest.raises(UsageError, match=why):
        load(tmp_path, text(fields))


def test_two_waivers_for_one_finding_are_refused(tmp_path: Path) -> None:
    """Which of them holds would be a guess."""
    with pytest.raises(UsageError, match="stands 2 times"):
        load(tmp_path, text(FIELDS, {**FIELDS, "expires": "2026-03-21"}))


def test_the_longest_waiver_and_one_granted_today_are_read(tmp_path: Path) -> None:
    """90 days are allowed, and so is today."""
    assert load(tmp_path, text({**FIELDS, "expires": "2026-05-30"})).waiver
    assert load(tmp_path, text({**FIELDS, "granted": "2026-03-10"})).waiver


def test_a_lapsed_waiver_is_read_and_its_state_is_known(tmp_path: Path) -> None:
    """Lapsing is a finding, not wrong configuration."""
    (waiver,) = load(tmp_path, text(FIELDS), today=TODAY + timedelta(days=400)).waiver
    days = {-15: State.ACTIVE, -14: State.EXPIRING, 0: State.EXPIRING, 1: State.EXPIRED}
    assert {offset: state(waiver, GATE, waiver.expires + timedelta(days=offset)) for offset in days} == days


def test_a_baseline_is_one_owner_and_one_end_for_many(tmp_path: Path) -> None:
    """Each finding becomes an exception of its kind under the common words."""
    read = load(tmp_path, baseline=BASELINE).baseline
    assert [(w.control, w.target, w.status, w.owner) for w in read] == [
        ("audit.clean", "forms-kit", "affected", "a"), ("secrets.clean", "scrypt:0123", "", "a"),
    ]  # fmt: skip
    assert {w.expires for w in read} == {date(2026, 5, 1)}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("expires = 2026-05-01", "expires = 2026-09-01", "policy allows 90"),
        ("granted = 2026-03-01", "granted = 2026-03-30", "after the day of judgement"),
        ('owner = "a"\n', "", "owner"),
        ('target = "forms-kit"', 'target = "*"', "no wildcard"),
        ('environment = "app"', "", "environment"),
        ('control = "secrets.clean"', 'control = "lock.hashed"', "which no waiver can excuse"),
        ('rule = "entropy"', 'rule = "entropy"\nowner = "c"', "owner"),
    ],
)
def test_a_baseline_obeys_the_same_rules(tmp_path: Path, old: str, new: str, why: str) -> None:
    """It is no way around them."""
    assert old in BASELINE
    with pytest.raises(UsageError, match=why):
        load(tmp_path, baseline=BASELINE.replace(old, new))


def test_a_baseline_inside_waivers_is_refused(tmp_path: Path) -> None:
    """What a waiver would have to say may not be left out by another door."""
    with pytest.raises(UsageError, match="baseline"):
        load(tmp_path, text(FIELDS).replace("[[waiver]]", "[[baseline]]"))
