"""Laws of the doctor: each lack has its remedy, and production is ready only without one."""

import re
from datetime import date
from pathlib import Path

import pytest

from sealrun import doctor


def found(diagnosis: doctor.Diagnosis, name: str) -> doctor.Check:
    """The check *name*."""
    return next(check for check in diagnosis.checks if check.name == name)


def test_every_lack_that_counts_has_a_remedy(repository: Path) -> None:
    """Whatever production would miss says what to do."""
    diagnosis = doctor.doctor(repository, today=date(2099, 1, 1))
    assert not diagnosis.production
    assert all(check.remedy for check in diagnosis.checks if check.needed and not check.good)


def test_the_age_of_the_snapshot_is_that_of_the_day(repository: Path) -> None:
    """A fresh snapshot is good, an old or missing one is not."""
    path = repository / "policy" / "advisories" / "snapshot.json"
    path.write_bytes(re.sub(rb'("as_of": )"[0-9-]+"', rb'\1"2026-01-01"', path.read_bytes()))
    assert found(doctor.doctor(repository, today=date(2026, 1, 8)), "advisories").good
    assert not found(doctor.doctor(repository, today=date(2026, 1, 9)), "advisories").good
    path.unlink()
    assert not found(doctor.doctor(repository), "advisories").good


def test_open_keys_and_odd_switches_are_named(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key folder that others can read, and a switch that is neither on nor off, stand against production."""
    (tmp_path / "keys").mkdir(mode=0o755)
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "maybe")
    diagnosis = doctor.doctor(repository)
    assert "chmod 700" in found(diagnosis, "keys").remedy
    assert "INVARLOCK_ALLOW_NETWORK" in found(diagnosis, "network").remedy
