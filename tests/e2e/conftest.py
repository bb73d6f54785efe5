"""One fresh clone for all end-to-end tests: set up by bootstrap as a new user would."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import checkout

DAY = "1767225600"  # 2026-01-01


@dataclass(frozen=True)
class Done:
    """A program that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """Its standard output, which is one JSON object."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Clone:
    """A checkout of the project, with keys of its own or shared ones."""

    path: Path
    keys: Path

    def run(self, *argv: str | Path, cwd: Path | None = None, **variables: str) -> Done:
        """Run a program in the clone; the network is opted out unless *variables* say otherwise."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH", "VIRTUAL_ENV"))
        }
        environment = {**kept, "SEALRUN_KEYS": str(self.keys), "SOURCE_DATE_EPOCH": DAY, "COLUMNS": "160"}
        environment.pop("INVARLOCK_ALLOW_NETWORK", None)
        done = subprocess.run(
            [str(argument) for argument in argv], cwd=cwd or self.path, env=environment | variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def invoke(self, *arguments: str | Path, **variables: str) -> Done:
        """Run an invoke task by way of bootstrap."""
        return self.run("python3", self.path / "scripts" / "bootstrap.py", *arguments, **variables)

    def nox(self, *arguments: str | Path, **variables: str) -> Done:
        """Run nox of the clone's own environment."""
        return self.run(self.path / ".venv" / "bin" / "python", "-m", "nox", *arguments, **variables)

    @property
    def out(self) -> Path:
        """The release's output folder."""
        return self.path / "build" / "tiny-lm-0.1.0"

    @property
    def bundle(self) -> Path:
        """The evidence bundle."""
        return self.out / "tiny-lm-0.1.0.evidence.tar"


def set_up(path: Path, keys: Path) -> Clone:
    """A clone at *path*, with everything installed that a release needs."""
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    clone = Clone(path=checkout(path), keys=keys)
    done = clone.invoke("--list", INVARLOCK_ALLOW_NETWORK="1")
    assert done.code == 0, done.err
    return clone


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key folder that the clones share."""
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Clone:
    """A fresh clone in a folder with a space, released once."""
    if os.environ.get("INVARLOCK_ALLOW_NETWORK") != "1" and shutil.which("uv") is None:
        pytest.skip("installs environments: run with INVARLOCK_ALLOW_NETWORK=1")
    clone = set_up(tmp_path_factory.mktemp("first clone") / "sealrun", keys)
    done = clone.invoke("release", INVARLOCK_ALLOW_NETWORK="1")
    assert done.code == 0, done.err
    return clone
