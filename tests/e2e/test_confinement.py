"""The barrier around every stage, Ctrl-C, and planted secrets: with the real stages and the real nox."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from sealrun import pipeline, venvs
from sealrun.errors import InputMissing
from sealrun.outcome import Judgement, Verdict, check
from sealrun.stage import Context, Stage, Work, context_of
from tests.e2e.conftest import Clone
from tests.unit.test_barriers import ATTEMPTS

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clone")]
ROOT = Path(__file__).resolve().parents[2]
PLANTED = "/".join(("planted", "s3cret+value="))


@pytest.mark.parametrize("name", list(pipeline.stages()))
def test_nothing_leaves_the_sandbox_of_any_stage(name: str, tmp_path: Path) -> None:
    """The probe runs as a tool of each stage that has tools: every way out is refused, and the statement says denied."""
    described = pipeline.stages()[name]
    if not described.environments:
        pytest.skip(f"{name} starts no tool of an environment")
    environment = described.environments[0]
    try:
        venvs.existing(ROOT, environment.name)
    except InputMissing as error:
        pytest.skip(str(error))
    listener = socket.create_server(("127.0.0.1", 0))
    arguments = ("127.0.0.1", str(listener.getsockname()[1]))
    said: dict[str, str] = {}

    def gather(context: Context, work: Work) -> None:
        completed = work.run("probe", environment.name, ("python", "-I", "-c", ATTEMPTS, *arguments))
        said.update(json.loads(completed.stdout.read_text()))

    def judge(context: Context) -> Judgement:
        return Judgement(outcomes=(check("probe.refused", True, seen="", expected="", remedy=""),))

    stage = Stage(
        name=name, summary="probe", controls=("probe.refused",), inputs=lambda _: {}, gather=gather, judge=judge,
        environments=(environment,),
    )  # fmt: skip
    with listener:
        statement = pipeline.execute(stage, context_of(ROOT, None, tmp_path / "build"), fresh=True)
    assert statement.predicate.verdict is Verdict.PASSED, statement.predicate.error
    assert statement.predicate.network == "denied"
    assert set(said.values()) == {"refused"}


def test_an_interrupt_ends_everything_and_leaves_no_half_file(clone: Clone, tmp_path: Path) -> None:
    """Ctrl-C during a release: it ends promptly with 130, no process of it lives on, no temporary file stays."""
    argv = [
        str(clone.path / ".venv" / "bin" / "python"),
        "-P",
        "-m",
        "sealrun.program",
        "release",
        "--fresh",
        f"--out={tmp_path}/build",
    ]
    environment = {**os.environ, "SEALRUN_KEYS": str(clone.keys)}
    running = subprocess.Popen(argv, cwd=clone.path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("build/*/run/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=30)[1]
    assert time.monotonic() - begun < 10
    assert running.returncode == 130, said
    assert "Traceback" not in said
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed
    assert [path for path in tmp_path.rglob(".*") if path.is_file() and path.name != ".lock"] == []


def test_planted_secrets_appear_nowhere(clone: Clone, tmp_path: Path) -> None:
    """Secrets in variables and in index addresses stand neither below the output folder nor on the terminal, in any form."""
    variables = {
        "MY_SERVICE_TOKEN": PLANTED,
        "PIP_EXTRA_INDEX_URL": f"https://user:{quote(PLANTED, safe='')}@index.invalid/simple",
    }
    done = clone.invoke("release", "--fresh", f"--out={tmp_path}/build", **variables)
    assert done.code in (0, 1), done.err
    data = PLANTED.encode()
    forms = [data, quote(PLANTED, safe="").encode(), base64.b64encode(data), data.hex().encode()]
    texts = {"terminal": (done.out + done.err).encode()} | {
        str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert [name for name, text in texts.items() if any(form in text for form in forms)] == []


def test_a_crash_that_prints_a_secret_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that prints a secret while it crashes, in clear and encoded, leaves it in no log and no statement."""
    code = (
        "import base64, os, subprocess, sys; sys.path[:0] = {!r}\n"
        "from pathlib import Path\n"
        "from sealrun import sandbox, errors\n"
        "s = os.environ['MY_SERVICE_TOKEN']; place = Path({!r})\n"
        "script = 'import base64, sys; print(sys.argv[1], base64.b64encode(sys.argv[1].encode())); raise ValueError(sys.argv[1])'\n"
        "try: sandbox.run(sandbox.Command(name='x', argv=({!r}, '-I', '-c', script, s), cwd=place, environment={{}}, logs=place))\n"
        "except errors.ToolFailed as error: print(error)\n"
    ).format(sys.path, str(tmp_path), "/usr/bin/python3")
    environment = {**os.environ, "MY_SERVICE_TOKEN": PLANTED}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "[masked]" in logs
    assert "[masked]" in done.stdout
    for form in (PLANTED, base64.b64encode(PLANTED.encode()).decode()):
        assert form not in logs + done.stdout + done.stderr
