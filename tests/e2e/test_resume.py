"""A release that is killed, or that is not alone: the next one continues, and ends in the same bytes."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Clone, set_up

pytestmark = pytest.mark.e2e

KILLS = 30
LATEST_SECONDS = 4.0
GONE_SECONDS = 20.0


def processes(below: Path) -> list[str]:
    """The command lines of all running programs that name *below*."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            found += [said] if str(below) in said else []
    return found


def wait_until_gone(below: Path) -> list[str]:
    """What still runs of *below* after a while."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := processes(below)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def start(clone: Clone, out: Path, *options: str) -> "subprocess.Popen[bytes]":
    """A release with its outputs below *out*, running."""
    environment = {**os.environ, "SEALRUN_KEYS": str(clone.keys), "SOURCE_DATE_EPOCH": "1767225600"}
    environment.pop("INVARLOCK_ALLOW_NETWORK", None)
    command = [clone.path / ".venv" / "bin" / "python", "-P", "-m", "sealrun.program", "release", f"--out={out}", *options]
    return subprocess.Popen(
        command, cwd=clone.path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def made(clone: Clone, out: Path) -> dict[str, bytes]:
    """The release's files by name, from below *out*."""
    names = [f"{clone.out.name}.evidence.tar", f"{clone.out.name}.intoto.jsonl", "report.html"]
    return {name: (out / clone.out.name / name).read_bytes() for name in names}


@pytest.mark.heavy
def test_a_release_killed_at_any_moment_is_continued(clone: Clone, tmp_path: Path) -> None:
    """Thirty kills at random moments: no program is left behind, no lock in the way, and the end has the same bytes."""
    out = tmp_path / "killed"
    moments = random.Random(11)
    for number in range(KILLS):
        running = start(clone, out, *(["--fresh"] if number % 10 == 0 else []))
        time.sleep(moments.uniform(0, LATEST_SECONDS))
        running.kill()
        running.wait()
        assert wait_until_gone(out) == []
    assert start(clone, out).wait() == 0
    assert made(clone, out) == made(clone, clone.out.parent)


def test_two_releases_at_once_do_not_clash(clone: Clone, tmp_path: Path) -> None:
    """Both end well, with the bytes of one that was alone."""
    out = tmp_path / "twice"
    both = [start(clone, out), start(clone, out)]
    assert [running.wait() for running in both] == [0, 0]
    assert made(clone, out) == made(clone, clone.out.parent)


def test_evidence_that_was_touched_is_not_believed(clone: Clone, tmp_path: Path) -> None:
    """A byte more in what a tool left: that stage runs again, the others do not, and the bytes come out the same."""
    out = tmp_path / "touched"
    assert start(clone, out).wait() == 0
    for stage in ("model", "audit"):
        evidence = next(path for path in sorted((out / clone.out.name / "evidence" / stage).rglob("*.json")))
        evidence.write_bytes(evidence.read_bytes() + b" ")
    done = clone.invoke("release", "--out", out)
    assert done.code == 0, done.err
    reused = {line.split()[0]: "reused" in line for line in done.err.splitlines() if " passed " in line and line[:1].islower()}
    assert {stage for stage, again in reused.items() if not again} >= {"audit", "model"} and reused["sbom"], done.err
    assert made(clone, out) == made(clone, clone.out.parent)


@pytest.mark.heavy
def test_another_clone_takes_from_the_cache(clone: Clone, tmp_path: Path) -> None:
    """With the same keys and one cache, a second clone runs no tool and makes the same bytes; a clone with keys of its own
    believes nothing of it, and says so."""
    shared = f"--cache={tmp_path / 'cache'}"
    assert start(clone, tmp_path / "first", shared, "--fresh").wait() == 0
    other = set_up(tmp_path / "other" / "sealrun", clone.keys)
    assert (
        other.invoke(
            "install", "lock", "sbom", "audit", "secrets", "model", "certify", "verify", "bundle", INVARLOCK_ALLOW_NETWORK="1"
        ).code
        == 0
    )
    done = other.invoke("release", shared)
    assert done.code == 0, done.err
    assert "reused   audit, lock, sbom, secrets, model, certify, verify, bundle: taken from the cache" in done.err
    assert made(other, other.out.parent) == made(clone, tmp_path / "first")
    stranger = Clone(path=other.path, keys=tmp_path / "keys of a stranger")
    stranger.keys.mkdir(mode=0o700)
    done = stranger.invoke("release", shared, "--out", tmp_path / "stranger")
    assert done.code == 0, done.err
    assert "reused" not in done.err.partition("lock")[0]
    assert "is not signed by the key 'cache' of this key folder" in done.err
