"""Laws of the doctor: each lack has its remedy, and production is ready only without one."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from sealrun import doctor
from sealrun.evidence import keys
from tests.conftest import sealrun


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


def test_the_source_and_the_trusted_key_are_looked_at(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Production needs a clean commit, and a release key that policy/trust lists: each is found out, and nothing is made."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "own"))
    diagnosis = doctor.doctor(repository)
    assert found(diagnosis, "source").good
    assert found(diagnosis, "git").seen.startswith("git version")
    assert not found(diagnosis, "trusted key").good
    assert not (tmp_path / "own").exists()
    (tmp_path / "own").mkdir(mode=0o700)
    keys.release()
    (repository / "policy" / "trust" / "mine.pub").write_bytes((tmp_path / "own" / "release.pub").read_bytes())
    diagnosis = doctor.doctor(repository)
    assert found(diagnosis, "trusted key").good
    assert found(diagnosis, "source").seen.endswith("1 paths changed")


def test_a_machine_without_anything_is_diagnosed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository, no git, no home, no policy: each is a lack with a remedy, nothing is raised."""
    for name in ("HOME", "SEALRUN_KEYS", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    diagnosis = doctor.doctor(tmp_path)
    lacking = {check.name for check in diagnosis.checks if check.needed and not check.good}
    assert {"git", "source", "trusted key", "advisories"} <= lacking
    assert all(check.remedy for check in diagnosis.checks if check.name in lacking)


def test_the_diagnosis_is_one_object_for_machines(repository: Path) -> None:
    """`--json` writes all of it to standard output, and nothing else."""
    done = sealrun(repository, "doctor", "--json")
    said = json.loads(done.stdout)
    assert said["schema"] == "urn:sealrun:doctor:v1"
    assert done.returncode == (0 if said["production"] else 1)
    assert {"barrier", "python", "git", "disk", "keys", "advisories", "wheelhouse", "surroundings", "accelerator"} <= {
        check["name"] for check in said["checks"]
    }
