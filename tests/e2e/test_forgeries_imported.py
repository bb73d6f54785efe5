"""The forgery catalogue on a certificate of imported observations: what holds for any pack of InvarLock 0.17 holds for theirs."""

from pathlib import Path

import pytest

from tests.e2e.test_engines import imported, samples
from tests.engine_releases import refused, run
from tests.forgeries import CATALOGUE, broken, commit, elsewhere

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]
# Records, the second look, kept figures and what stands in a run are those of captured runs alone; imported ones have no ratio.
_OTHERS = {"records", "witness", "its runs", "reports", "model gate", "our own figures"}
_RATIOS = {"the ratio moved by 2e-9", "ratio taken away", "a bare NaN for the ratio", "of another candidate, whole"}
APPLICABLE = [
    forgery
    for forgery in CATALOGUE
    if forgery.base == "candidate" and not forgery.plan and forgery.target not in _OTHERS and forgery.what not in _RATIOS
]


def test_every_forgery_is_refused_by_name(tmp_path: Path) -> None:
    """At least forty edits of certificate, receipt, trust inputs and statement, each refused by the check that names it."""
    base = imported(tmp_path / "release", samples({3, 9}, choice=False), samples({3, 11}, choice=False))
    assert refused(run(base)) == set()
    assert len(APPLICABLE) >= 40
    for number, forgery in enumerate(APPLICABLE):
        context = elsewhere(base, tmp_path / str(number))
        commit(forgery, context)
        failed, checks = broken(context)
        assert forgery.control in failed, forgery.name
        assert any(c == forgery.control and name.startswith(forgery.rung) for c, name in checks), (forgery.name, checks)


def test_an_edited_export_is_refused(tmp_path: Path) -> None:
    """An export with a better score is not the pinned one, nor what the certificate's runs hold."""
    base = imported(tmp_path / "release", samples({3, 9}, choice=False), samples({3, 11}, choice=False))
    run(base)
    folder = base.evidence("certify") / "exports"
    for path in folder.iterdir():
        if path.name.startswith("candidate"):
            path.write_bytes(samples({3}, choice=False))
    failed, checks = broken(base)
    assert {"verify.binding", "verify.recomputed"} <= failed
    assert ("verify.binding", "candidate export") in checks
