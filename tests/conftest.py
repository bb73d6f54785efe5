"""Fixtures shared by the tests: real checkouts of this project, in folders of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("policy", "requirements", "examples", "scripts", "docs", "noxfile.py", "tasks.py", "pyproject.toml", "README.md",
           ".gitignore")  # fmt: skip

type Git = Callable[..., str]


@pytest.fixture(autouse=True)
def _steady_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the caller's Sealrun settings or keys reaches a test."""
    for name in ("SOURCE_DATE_EPOCH", "SEALRUN_WHEELHOUSE", "SEALRUN_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEALRUN_KEYS", str(_private(tmp_path_factory.getbasetemp() / "keys")))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git checkout of the project as it stands, which uses the environments already installed here."""
    path = checkout(tmp_path / "checkout")
    venvs = ROOT / ".nox" / "venvs"
    venvs.mkdir(parents=True, exist_ok=True)
    (path / ".nox").mkdir()
    (path / ".nox" / "venvs").symlink_to(venvs)
    return path


def checkout(path: Path) -> Path:
    """Make a git checkout of the project as it stands at *path*: one clean commit, nothing installed."""
    path.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, path / name)
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=as it stands", "--date=2026-01-01T00:00:00Z")
    return path


def git(path: Path, *arguments: str) -> str:
    """Run git in *path* with an identity of its own and nobody's configuration."""
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
                   "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}  # fmt: skip
    done = subprocess.run(["git", *identity, *arguments], cwd=path, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def sealrun(path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m sealrun` of the checkout *path* with this interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(path / "scripts"), **variables}
    return subprocess.run(
        [sys.executable, "-m", "sealrun", *arguments], cwd=path, env=environment, capture_output=True, text=True, timeout=900
    )


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path
