"""Laws of judging another repository: its own policy, its organisation's above that, ours below both."""

import hashlib
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace

from sealrun.errors import InputMissing, UsageError
from sealrun.policy.model import Plan, Posture
from sealrun.policy.repository import load_foreign_plan
from sealrun.policy.tighten import loosenings

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'format = "sealrun/gates-v1"\n'


def plan(tree: Path, **policy: str) -> Plan:
    """The plan for *tree* with these files in its policy folder."""
    (tree / "policy").mkdir(exist_ok=True)
    for name, text in policy.items():
        (tree / "policy" / f"{name}.toml").write_text(text)
    return load_foreign_plan(ROOT, tree, date(2026, 3, 1))


def organisation(tree: Path, gates: str) -> str:
    """A `repository.toml` that names *gates* as the organisation's, in a file beside it."""
    (tree / "org.toml").write_text(HEAD + gates)
    sha256 = hashlib.sha256((tree / "org.toml").read_bytes()).hexdigest()
    return f'format = "sealrun/repository-v1"\n[gates]\nsource = "org.toml"\nsha256 = "{sha256}"\n'


def test_a_repository_without_a_policy_gets_ours_without_our_exceptions(tmp_path: Path) -> None:
    """Defaults, research posture, no waiver of ours, no place of ours left out of the scan."""
    found = load_foreign_plan(ROOT, tmp_path, date(2026, 3, 1))
    assert found.gates.audit == plan(tmp_path).gates.audit
    assert found.release.posture is Posture.RESEARCH
    assert found.gates.secrets.excluded == {} and found.waivers.waiver == ()


def test_its_own_gates_are_over_ours(tmp_path: Path) -> None:
    """One line changes one gate; the posture is the repository's to say."""
    said = plan(
        tmp_path,
        gates=HEAD + '[audit]\nfail_on = "critical"\n',
        repository='format = "sealrun/repository-v1"\nposture = "production"\n',
    )
    assert said.gates.audit.fail_on == "critical" and said.release.posture is Posture.PRODUCTION
    assert said.gates.audit.unknown_is == load_foreign_plan(ROOT, ROOT / "docs", date(2026, 3, 1)).gates.audit.unknown_is


def test_its_own_gates_may_be_tighter_than_its_organisations(tmp_path: Path) -> None:
    """Over the organisation's gates each tighter line counts."""
    central = organisation(tmp_path, '[audit]\nfail_on = "high"\nmax_snapshot_age_days = 5\n')
    assert plan(tmp_path, repository=central).gates.audit.fail_on == "high"
    said = plan(tmp_path, repository=central, gates=HEAD + '[audit]\nfail_on = "low"\nmax_snapshot_age_days = 2\n')
    assert (said.gates.audit.fail_on, said.gates.audit.max_snapshot_age_days) == ("low", 2)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('[audit]\nfail_on = "critical"\n', "audit.fail_on"),
        ("[audit]\nmax_snapshot_age_days = 365\n", "audit.max_snapshot_age_days"),
        ("[waivers]\nmax_days = 1000\n", "waivers.max_days"),
        ("[waivers]\nwarn_days = 0\n", "waivers.warn_days"),
        ("[secrets]\npragmas = true\n", "secrets.pragmas"),
        ('[secrets.excluded]\n"src" = "too loud"\n', "secrets.excluded.src"),
        ('[model]\ntrusted_repositories = ["a/b"]\n', "model.trusted_repositories"),
        ("[profile.release]\nmin_cases = 1\n", "profile.release.min_cases"),
        ("[profile.release]\nmax_ratio = 9.0\n", "profile.release.max_ratio"),
        ("[limits]\nmemory_mib = 100000\n", "limits.memory_mib"),
        ("[limits.stage]\naudit = 1000000.0\n", "limits.stage.audit"),
    ],
)
def test_a_loosening_is_refused_and_named(tmp_path: Path, line: str, name: str) -> None:
    """Whatever the gate, a looser line than the organisation's is exit 2, with its name, what it is and what it may be."""
    central = organisation(tmp_path, '[audit]\nfail_on = "high"\n')
    with pytest.raises(UsageError, match=rf"{name}: got .* expected no looser than") as refused:
        plan(tmp_path, repository=central, gates=HEAD + line)
    assert refused.value.exit_code == 2


def test_a_gate_without_a_direction_may_not_change(tmp_path: Path) -> None:
    """What nobody has said a direction for is strict."""
    gates = plan(tmp_path).gates
    assert loosenings(gates, gates) == ()
    changed = replace(gates, format="sealrun/gates-v2")  # type: ignore[arg-type]
    assert loosenings(gates, changed) == ("format: got 'sealrun/gates-v2', expected no looser than 'sealrun/gates-v1'",)


def test_the_organisations_file_is_believed_by_digest_alone(tmp_path: Path) -> None:
    """Changed: refused. Missing: the message names the session that fetches it. By address: read from where it was fetched."""
    central = organisation(tmp_path, '[audit]\nfail_on = "high"\n')
    (tmp_path / "org.toml").write_text(HEAD)
    with pytest.raises(UsageError, match="got sha256"):
        plan(tmp_path, repository=central)
    (tmp_path / "org.toml").unlink()
    with pytest.raises(InputMissing, match="nox -s policy"):
        plan(tmp_path, repository=central)
    by_address = central.replace("org.toml", "https://example.invalid/org.toml")
    with pytest.raises(InputMissing, match="nox -s policy"):
        plan(tmp_path, repository=by_address)


@pytest.mark.parametrize(
    "text", ["format = 1", 'format = "sealrun/repository-v1"\nextra = 1', "\x00", "[gates]\nsource = 'x'\n"]
)
def test_a_malformed_repository_file_is_wrong_use(tmp_path: Path, text: str) -> None:
    """Unknown keys, wrong types and no TOML are exit 2."""
    with pytest.raises(UsageError):
        plan(tmp_path, repository=text)


def test_everything_read_is_in_the_plans_digest(tmp_path: Path) -> None:
    """Another gate, posture or organisation's file is another plan."""
    seen = {plan(tmp_path).digest}
    seen.add(plan(tmp_path, gates=HEAD + '[audit]\nfail_on = "low"\n').digest)
    seen.add(plan(tmp_path, gates=HEAD, repository='format = "sealrun/repository-v1"\nposture = "production"\n').digest)
    seen.add(plan(tmp_path, gates=HEAD, repository=organisation(tmp_path, '[audit]\nfail_on = "high"\n')).digest)
    assert len(seen) == 4


@pytest.mark.parametrize(("level", "looser"), [("critical", True), ("high", False), ("low", False)])
def test_an_environment_of_its_own_is_no_way_around_the_threshold(tmp_path: Path, level: str, looser: bool) -> None:
    """What held for it was the organisation's `fail_on`."""
    central = organisation(tmp_path, '[audit]\nfail_on = "high"\n')
    gates = HEAD + f'[audit.environment]\napp = "{level}"\n'
    if looser:
        with pytest.raises(UsageError, match=r"audit\.environment\.app"):
            plan(tmp_path, repository=central, gates=gates)
    else:
        assert plan(tmp_path, repository=central, gates=gates).gates.audit.threshold("app") == level


def test_trusted_authors_are_the_organisations_to_name(tmp_path: Path) -> None:
    """Fewer is tighter; another author's VEX would excuse what the organisation does not."""
    central = organisation(tmp_path, '[vex]\ntrusted = ["a", "b"]\n')
    assert plan(tmp_path, repository=central, gates=HEAD + '[vex]\ntrusted = ["a"]\n').gates.vex.trusted == ("a",)
    with pytest.raises(UsageError, match=r"vex\.trusted"):
        plan(tmp_path, repository=central, gates=HEAD + '[vex]\ntrusted = ["a", "c"]\n')
