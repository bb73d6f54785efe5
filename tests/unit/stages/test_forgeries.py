"""The forgery catalogue: every edit of the evidence is refused, by the check that the catalogue names."""

import json
from pathlib import Path

import pytest

from sealrun.stage import Context
from sealrun.stages import verify
from tests.certification import PROFILE, release
from tests.forgeries import CATALOGUE, FIGURES, Forgery, both, broken, commit, elsewhere, line, removed


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Context]:
    """Where forgeries begin: honest evidence, a regression's, and evidence made for another plan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEALRUN_KEYS", str(tmp_path_factory.getbasetemp() / "keys"))
        stricter = PROFILE.replace("max_ratio = 1.02", "max_ratio = 1.01")
        return {
            ("candidate", ""): release(tmp_path_factory.mktemp("candidate") / "x"),
            ("damaged", ""): release(tmp_path_factory.mktemp("damaged") / "x", "damaged"),
            ("candidate", "ci"): release(tmp_path_factory.mktemp("ci") / "x", name="ci"),
            ("candidate", "stricter"): release(tmp_path_factory.mktemp("stricter") / "x", profile=stricter),
        }


@pytest.mark.parametrize("forgery", CATALOGUE, ids=lambda forgery: forgery.name)
def test_every_forgery_is_refused_by_name(bases: dict[tuple[str, str], Context], tmp_path: Path, forgery: Forgery) -> None:
    """The control fails, and the check named is one that does not hold."""
    context = elsewhere(bases[forgery.base, forgery.plan], tmp_path / "forged")
    commit(forgery, context)
    failed, checks = broken(context)
    assert forgery.control in failed
    assert any(control == forgery.control and name.startswith(forgery.rung) for control, name in checks), checks


def test_the_catalogue_is_long_enough_and_covers_every_control() -> None:
    """At least forty forgeries, each named once, at least one for every control of the stage."""
    assert len({forgery.name for forgery in CATALOGUE}) == len(CATALOGUE) >= 40
    assert {forgery.control for forgery in CATALOGUE} == set(verify.STAGE.controls)


def test_figures_that_could_not_be_reached_say_why(bases: dict[tuple[str, str], Context], tmp_path: Path) -> None:
    """Where a case has no number, `verify` keeps no figures, and what is said is the case, not the file that is missing."""
    context = elsewhere(bases["candidate", ""], tmp_path / "uncounted")
    uncounted = line(3, lambda record: record.update(logprob_sum=None, error="too long"))
    commit(Forgery(target="", what="", edit=both(removed(FIGURES), uncounted), control="", rung=""), context)
    rungs = json.loads(verify.STAGE.judge(context).reports["ladder.json"])
    assert any("cannot be counted (too long)" in rung["got"] for rung in rungs if rung["control"] == "verify.recomputed")


@pytest.mark.parametrize("base", ["candidate", "damaged"])
def test_unforged_evidence_breaks_nothing(bases: dict[tuple[str, str], Context], tmp_path: Path, base: str) -> None:
    """To state the stages anew is no forgery: honest evidence passes, a regression's says regression and nothing else."""
    context = elsewhere(bases[base, ""], tmp_path / "stated")
    commit(Forgery(target="", what="", edit=lambda _: None, control="", rung=""), context)
    failed, _ = broken(context)
    assert failed == (set() if base == "candidate" else {"verify.invarlock"})
