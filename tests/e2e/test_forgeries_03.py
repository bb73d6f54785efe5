"""The forgery catalogue of engine invarlock-0.3, from evidence that 0.3.7 itself left moments ago."""

from pathlib import Path

import pytest

from sealrun import venvs
from tests.certification import CHECKOUT
from tests.forgeries import broken, commit, elsewhere
from tests.forgeries_03 import CATALOGUE, certified

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]


def test_every_forgery_is_refused_by_name(tmp_path: Path) -> None:
    """At least forty edits; for each the control fails, and the check named is one that does not hold."""
    for name in ("certify-0.3", "verify-0.3"):
        if not (venvs.locate(CHECKOUT, name).path / "sealrun-venv.json").is_file():
            pytest.skip(f"run `INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install {name}` first")
    base = certified(tmp_path / "build")
    assert broken(base) == (set(), [])
    assert len({forgery.name for forgery in CATALOGUE}) == len(CATALOGUE) >= 40
    for number, forgery in enumerate(CATALOGUE):
        context = elsewhere(base, tmp_path / str(number))
        commit(forgery, context)
        failed, checks = broken(context)
        assert forgery.control in failed, forgery.name
        assert any(c == forgery.control and name.startswith(forgery.rung) for c, name in checks), (forgery.name, checks)
