"""Laws of retention: the policy that ships is one a verifier can read, and the last day follows from class and day."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import verify_bundle
from sealrun import files
from sealrun.errors import UsageError
from sealrun.evidence import retention
from sealrun.policy.model import Retention
from tests.bundles import RETENTION
from tests.conftest import ROOT


def test_the_policy_that_ships_is_in_the_plain_form() -> None:
    """Both readers and TOML's own agree on every class."""
    path = ROOT / "policy" / "retention.toml"
    loaded = files.load_toml(path, Retention).retention
    ours, theirs = retention.parse(path.read_bytes(), UsageError), verify_bundle.parse_retention(path.read_bytes())
    assert {name: (kept.days, kept.reason, kept.production) for name, kept in loaded.items()} == {
        name: (kept.days, kept.reason, kept.production) for name, kept in ours.items()
    }
    assert {name: (table["days"], table["reason"]) for name, table in theirs.items()} == {
        name: (str(kept.days), kept.reason) for name, kept in loaded.items()
    }


def test_a_release_under_another_form_is_refused_before_it_is_made() -> None:
    """TOML that a recipient's verifier could not read is wrong configuration, with its line."""
    with pytest.raises(UsageError, match=r"policy/retention\.toml, line 5: .*expected \[retention\.NAME\]"):
        retention.parse(RETENTION.replace(b"days = 90", b"days = 9_0"), UsageError)


@given(st.dates(), st.integers(-(10**12), 10**12))
def test_the_last_day_is_so_many_days_later(day: date, days: int) -> None:
    """Exactly, or nothing where the calendar ends."""
    found = retention.last_day(day.isoformat(), days)
    if found:
        assert date.fromisoformat(found) - day == timedelta(days=days)
    else:
        assert not date.min.toordinal() <= day.toordinal() + days <= date.max.toordinal()
