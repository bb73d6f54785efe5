"""Many releases: bytes as alone, a failing one that stops nobody, a lost worker whose work is done again, here and on Dask."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, git
from tests.e2e.conftest import DAY, Clone

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]

KEPT = ("evidence.tar", "intoto.jsonl")


@pytest.fixture(scope="module")
def fleet(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Another clone, with that clone's environments and records, three releases that differ in name, and a broken one."""
    path = tmp_path_factory.mktemp("fleet") / "sealrun"
    subprocess.run(["git", "clone", "--quiet", str(clone.path), str(path)], check=True)
    use_environments(path, clone.path, ".venv", ".nox")
    (path / "build").mkdir()
    shutil.copytree(clone.path / "build" / "records", path / "build" / "records")
    example = path / "examples" / "tiny-lm"
    text = (example / "release.toml").read_text("utf-8")
    for name in ("one", "two", "three"):
        (example / f"fleet-{name}.toml").write_text(text.replace('name = "tiny-lm"', f'name = "fleet-{name}"'), "utf-8")
    (example / "fleet-broken.toml").write_text(text.replace("[data]", "[date]"), "utf-8")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=a fleet", "--date=2026-01-01T00:00:00Z")
    return Clone(path=path, keys=clone.keys)


def use_environments(path: Path, other: Path, *names: str) -> None:
    """Let the checkout *path* use what is installed in *other*; git is told to look away, as from folders of these names."""
    (path / ".git" / "info").mkdir(exist_ok=True)
    (path / ".git" / "info" / "exclude").write_text("/.venv\n/.nox\n", "utf-8")
    for name in names:
        (path / name).symlink_to((other / name).resolve())


def summary(fleet: Clone, out: str) -> dict[str, dict[str, Any]]:
    """The releases of the summary by title."""
    value = json.loads((fleet.path / out / "fleet" / "summary.json").read_text("utf-8"))
    assert (fleet.path / out / "fleet" / "summary.html").is_file()
    return {release["title"]: release for release in value["releases"]}


def begin(fleet: Clone, *arguments: str) -> subprocess.Popen[str]:
    """Start a command of the clone."""
    environment = {**os.environ, "SEALRUN_KEYS": str(fleet.keys), "SOURCE_DATE_EPOCH": DAY}
    argv = [str(fleet.path / ".venv" / "bin" / "python"), "-P", "-m", "sealrun", *arguments, f"--root={fleet.path}"]
    variables = {**environment, "PYTHONPATH": str(fleet.path / "scripts")}
    with (fleet.path / "build" / f"{arguments[0]}.stderr").open("w") as said:
        return subprocess.Popen(argv, cwd=fleet.path, env=variables, stderr=said, text=True)


def wait_for(path: Path, word: str, process: subprocess.Popen[str]) -> str:
    """The text of *path* once it holds *word*, while *process* is at work."""
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        if path.is_file() and word in (text := path.read_text("utf-8")):
            return text
        time.sleep(0.2)
    raise AssertionError(f"{path} never said {word!r}")


def children(pid: int) -> Iterator[int]:
    """The processes below *pid*."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from children(child)


def releasing(name: str, pid: int) -> int:
    """The process below *pid* that releases *name*: the first, which those of nox lie below."""
    for child in children(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"release" in words and any(word.endswith(f"fleet-{name}.toml".encode()) for word in words):
            return child
    raise AssertionError(f"nobody releases {name}")


def test_a_killed_process_is_made_good_and_the_bytes_are_those_of_one_run(fleet: Clone, tmp_path: Path) -> None:
    """Three right results and one error of its own, though one process was killed on its way; alone, the same bundle."""
    process = begin(fleet, "ci.fleet", "examples/tiny-lm/fleet-*.toml", "--workers=2", "--out=build")
    wait_for(fleet.path / "build" / "fleet-one-0.1.0" / "run" / "lock.json", "passed", process)
    os.kill(releasing("one", process.pid), signal.SIGKILL)
    assert process.wait(timeout=600) == 2
    found = summary(fleet, "build")
    assert found.pop("fleet-broken")["exit_code"] == 2
    assert {title: release["state"] for title, release in found.items()} == {
        f"fleet-{name}-0.1.0": "passed" for name in ("one", "two", "three")
    }
    assert found["fleet-one-0.1.0"]["attempts"] == 2
    shutil.copytree(fleet.path / "build" / "records", tmp_path / "alone" / "records")
    config = fleet.path / "examples" / "tiny-lm" / "fleet-one.toml"
    alone = begin(fleet, "release", f"--config={config}", f"--out={tmp_path / 'alone'}")
    assert alone.wait(timeout=600) == 0
    for kind in KEPT:
        name = f"fleet-one-0.1.0/fleet-one-0.1.0.{kind}"
        assert (tmp_path / "alone" / name).read_bytes() == (fleet.path / "build" / name).read_bytes()


@contextmanager
def dask(fleet: Clone, folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each with a checkout of its own, from the environment `fleet`; skips without it."""
    programs = sorted((ROOT / ".nox" / "venvs").glob("fleet-*/bin/dask"))
    if not programs:
        pytest.skip("no Dask: run `INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install fleet`")
    with socket.socket() as drawn:
        drawn.bind(("127.0.0.1", 0))
        port = drawn.getsockname()[1]
    address = f"127.0.0.1:{port}"
    steady = {**os.environ, "SEALRUN_KEYS": str(fleet.keys), "SOURCE_DATE_EPOCH": DAY}
    started = []
    with (folder / "dask.log").open("wb") as log:

        def start(*argv: str, **variables: str) -> subprocess.Popen[bytes]:
            environment = {**steady, **variables}
            started.append(subprocess.Popen([str(programs[0]), *argv], cwd=folder, env=environment, stdout=log, stderr=log))
            return started[-1]

        try:
            start("scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard")
            workers = []
            for name in ("a", "b"):
                checkout = folder / name
                subprocess.run(["git", "clone", "--quiet", str(fleet.path), str(checkout)], check=True)
                use_environments(checkout, fleet.path, ".nox")  # bootstrap makes .venv, as on any worker
                (checkout / "build").mkdir()
                shutil.copytree(fleet.path / "build" / "records", checkout / "build" / "records")
                workers.append(start("worker", f"tcp://{address}", "--no-nanny", "--nthreads=1", "--no-dashboard", f"--name={name}",
                                     SEALRUN_CHECKOUT=str(checkout)))  # fmt: skip
            yield address, workers
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(timeout=30)


def test_on_dask_a_lost_worker_costs_time_and_nothing_else(fleet: Clone, tmp_path: Path) -> None:
    """Workers with checkouts of their own, files by digest through a place, one worker killed midway: the same bytes."""
    with dask(fleet, tmp_path) as (address, workers):
        process = begin(
            fleet, "ci.fleet", "examples/tiny-lm/fleet-*e.toml", "examples/tiny-lm/fleet-two.toml", f"--on=dask://{address}",
            f"--place=file://{tmp_path / 'place'}", "--out=from-dask",
        )  # fmt: skip
        wait_for(fleet.path / "from-dask" / "fleet" / "progress" / "fleet-one-0.1.0.json", "running", process)
        workers[0].kill()
        assert process.wait(timeout=900) == 0
    found = summary(fleet, "from-dask")
    assert {release["state"] for release in found.values()} == {"passed"}
    assert max(release["attempts"] for release in found.values()) == 2
    for title in found:
        for kind in KEPT:
            name = f"{title}/{title}.{kind}"
            assert (fleet.path / "from-dask" / name).read_bytes() == (fleet.path / "build" / name).read_bytes()
