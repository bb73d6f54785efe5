"""The secret scan of what is large, and of what cannot be read."""

import hashlib
import json
import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealrun import venvs
from sealrun.errors import InputMissing
from sealrun.outcome import Verdict
from sealrun.stages import secrets
from tests import peak
from tests.conftest import ROOT
from tests.small import context_of, execute, repository, use_environments

pytestmark = pytest.mark.e2e
FILES, LARGE = 100_000, 1024**3


def planted(seed: int) -> str:
    return "AKIA" + "".join(random.Random(seed).choices(string.ascii_uppercase + string.digits, k=16))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_listed_with_the_reason(shared: Path, tmp_path: Path) -> None:
    """What this user may not read was not scanned, and coverage fails on it."""
    root = repository(tmp_path / "repository")
    (shared / "a.py").write_text("x = 1\n")
    (shared / "locked.py").write_text("x = 2\n")
    (shared / "locked.py").chmod(0)
    context = context_of(root, shared)
    us = os.geteuid()
    if us == 0:
        os.seteuid(65534)
    try:
        listing, _ = secrets._list(context)
    finally:
        os.seteuid(us)
    name = f"{shared.name}/locked.py"
    assert listing.skipped == {name: "cannot be read (Permission denied)"}
    assert [entry.path for entry in listing.files] == [f"{shared.name}/a.py"]


@pytest.mark.heavy
def test_a_tree_of_a_hundred_thousand_files_is_scanned(tmp_path: Path) -> None:
    """Every file is listed and scanned, and the one secret among them is found."""
    root = repository(tmp_path / "repository")
    use_environments(root, "secrets")
    for number in range(FILES):
        path = tmp_path / "many" / f"{number // 500:03d}" / f"{number}.py"
        if number % 500 == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"x = {number}\n")
    (tmp_path / "many" / "123" / "61999.py").write_text(f"key = '{planted(1)}'\n")
    context = context_of(root, tmp_path / "many")
    said = execute(secrets.STAGE, context)
    coverage = json.loads((context.evidence("secrets") / "coverage.json").read_bytes())
    assert (said.verdict, [finding.path for finding in said.findings]) == (Verdict.FAILED, ["many/123/61999.py"])
    assert coverage["listed"] == coverage["scanned"] == FILES


@pytest.mark.parametrize("held", [0, 80])
def test_memory_is_that_of_the_script_alone(tmp_path: Path, held: int) -> None:
    """Mebibytes that a script holds are counted, those of whoever measures are not."""
    ours = bytearray(b"x" * 200 * 1024**2)
    (tmp_path / "held.py").write_text(f"held = bytearray(b'x' * {held} * 1024**2)\n")
    done = subprocess.run(
        peak.measured(sys.executable, "-I", str(tmp_path / "held.py")), capture_output=True, text=True, check=True
    )
    assert held <= int(done.stdout.split()[-1]) / 1024 < held * 2 + 40
    assert len(ours) > 0


@pytest.mark.heavy
@pytest.mark.parametrize("in_history", [False, True])
def test_a_file_of_a_gibibyte_is_scanned_in_bounded_memory(tmp_path: Path, in_history: bool) -> None:
    """Its last line is judged as its first; the scanner never holds more than a quarter of it."""
    try:
        python = venvs.existing(ROOT, "secrets").python
    except InputMissing as error:
        pytest.skip(str(error))
    large = tmp_path / "large.txt"
    block = "".join(f"value_{number} = compute({number})\n" for number in range(40_000)).encode()
    with large.open("wb") as stream:
        for _ in range(LARGE // len(block)):
            stream.write(block)
        stream.write(f"key = '{planted(2)}'\n".encode())
    job: dict[str, object] = {"files": [], "allow": [], "policy": str(ROOT / "policy" / "secrets")}
    if in_history:
        from tests.conftest import git

        git(tmp_path, "init", "--quiet")
        (tmp_path / ".git" / "config").open("a").write("[core]\n\tbigFileThreshold = 1m\n\tcompression = 0\n")
        git(tmp_path, "add", "large.txt")
        git(tmp_path, "commit", "--quiet", "--message=large")
        job["history"] = {
            "git": shutil.which("git"), "root": str(tmp_path), "tips": [git(tmp_path, "rev-parse", "HEAD").strip()], "since": "",
        }  # fmt: skip
    else:
        with large.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        job["files"] = [{"path": "large.txt", "file": str(large), "sha256": sha256}]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "job.json").write_text(json.dumps(job))
    script = ROOT / "scripts" / "sealrun" / "inside" / "scan_secrets.py"
    argv = [str(python), "-I", "-B", str(script), str(scratch / "job.json"), str(scratch), str(scratch / "scan.json")]
    done = subprocess.run(peak.measured(*argv), capture_output=True, text=True, timeout=600, check=True)
    found = json.loads((scratch / "scan.json").read_bytes())["findings"]
    assert [(entry["path"], entry["line"]) for entry in found] == [("large.txt", LARGE // len(block) * 40_000 + 1)]
    assert int(done.stdout.split()[-1]) * 1024 < LARGE / 4
