"""Laws of the day of judgement and of switches."""

from datetime import UTC, date, datetime

import pytest

from sealrun import clock, settings
from sealrun.errors import UsageError


def test_the_day_comes_from_source_date_epoch() -> None:
    """Any second of a day gives that UTC day."""
    assert clock.judged_at("0") == date(1970, 1, 1)
    assert clock.judged_at("86399") == date(1970, 1, 1)
    assert clock.judged_at("86400") == date(1970, 1, 2)


def test_without_an_epoch_it_is_today() -> None:
    """Unset and empty mean now."""
    assert clock.judged_at(None) in {datetime.now(UTC).date(), clock.judged_at("")}


@pytest.mark.parametrize("value", ["yesterday", "1e9", "99999999999999999999", "1.5"])
def test_a_malformed_epoch_is_wrong_use(value: str) -> None:
    """What is no whole number of seconds is refused with the next command."""
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        clock.judged_at(value)


@pytest.mark.parametrize(("value", "on"), [("1", True), ("true", True), ("YES", True), ("on", True), ("", False), (" ", False)])
def test_switch_values(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    """The documented words switch on and off."""
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", value)
    assert settings.network_allowed() is on


@pytest.mark.parametrize("value", ["0", "off", "2", "enable", "y", "ja", "1 0"])
def test_an_unknown_switch_value_is_wrong_use(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A value that is neither on nor off is an error, never a silent off or on."""
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", value)
    with pytest.raises(UsageError, match="INVARLOCK_ALLOW_NETWORK"):
        settings.network_allowed()
