"""The barrier around every stage, Ctrl-C, and planted secrets: with the real stages and the real nox."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from msgspec import structs

from sealrun import pipeline, sandbox, venvs
from sealrun.errors import InputMissing
from sealrun.sandbox import Command, Network, barriers
from sealrun.stage import context_of
from tests import probe
from tests.e2e.conftest import DAY, Clone
from tests.unit.test_barriers import KERNEL, PYTHON, as_nobody, needs_root, place, prepared

__all__ = ["place"]
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clone")]
ROOT = Path(__file__).resolve().parents[2]
PLANTED = "/".join(("planted", "s3cret+value="))


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Command]]:
    """Every kind of sandbox that each stage really starts a program in, met by running all stages once."""
    context = context_of(ROOT, None, tmp_path_factory.mktemp("stages") / "build")
    met: dict[str, list[Command]] = {}
    started = sandbox.start
    with pytest.MonkeyPatch.context() as patch:
        for name, described in pipeline.stages().items():
            commands = met.setdefault(name, [])

            def start(command: Command, commands: list[Command] = commands) -> sandbox.Running:
                assert command.network is Network.DENIED
                if kind(command) not in map(kind, commands):
                    commands.append(command)
                return started(command)

            patch.setattr(sandbox, "start", start)
            try:
                for environment in described.needs(context.plan).environments:
                    venvs.existing(ROOT, environment.name)
                statement = pipeline.execute(described, context, fresh=True)
            except InputMissing as error:
                pytest.skip(str(error))
            assert statement.predicate.network == ("denied" if commands else "unused"), statement.predicate.error
    return met


def kind(command: Command) -> tuple[object, ...]:
    """What sets one sandbox of a stage apart from another."""
    return command.loopback, command.strict, bool(command.writable), sorted(command.environment)


def probed(command: Command, place: Path, argv: tuple[str, ...]) -> Command:
    """The sandbox of *command*, around a probe that writes to folders of its own."""
    out = (place / "out",) if command.writable else ()
    return structs.replace(command, name="probe", argv=argv, cwd=place / "out", logs=place / "logs", writable=out, success=(0,))


@pytest.fixture(params=KERNEL)
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A barrier, those above it forbidden."""
    name = str(request.param)
    if reason := barriers.offered(name):
        pytest.skip(f"{name}: {reason}")
    monkeypatch.setenv("SEALRUN_BARRIER", name)
    return name


@pytest.mark.parametrize("name", list(pipeline.stages()))
def test_nothing_leaves_the_sandbox_of_any_stage(
    name: str, rung: str, place: Path, sandboxes: dict[str, list[Command]]
) -> None:
    """Every way out is refused to a probe in each sandbox that the stage starts, behind each barrier."""
    if not sandboxes[name]:
        pytest.skip(f"{name} starts no program")
    with probe.listeners(place / "forbidden") as arguments:
        for command in sandboxes[name]:
            completed = sandbox.run(probed(command, place, (PYTHON, "-I", "-c", probe.NETWORK, *arguments)))
            assert (completed.barrier, completed.network) == (rung, Network.DENIED)
            assert probe.only(completed.stdout.read_text(), "reached") == set()


@pytest.mark.heavy
@pytest.mark.parametrize("name", list(pipeline.stages()))
def test_nothing_is_written_from_the_sandbox_of_any_stage(
    name: str, rung: str, place: Path, sandboxes: dict[str, list[Command]]
) -> None:
    """Nothing outside is written by a probe in each sandbox that the stage lets write, behind each barrier."""
    writing = [command for command in sandboxes[name] if command.writable]
    if not writing:
        pytest.skip(f"{name} starts no program that may write")
    left = probe.METADATA if any("modes" in each for each in barriers.named(rung).leaves) else set()
    for command in writing:
        arguments = prepared(place)
        completed = sandbox.run(probed(command, place, (PYTHON, "-I", "-c", probe.WRITES, *arguments)))
        assert probe.only(completed.stdout.read_text(), "done") <= left
        assert (place / "forbidden" / "old").read_text() == "old"


@needs_root
@pytest.mark.heavy
@pytest.mark.parametrize("name", list(pipeline.stages()))
def test_the_same_for_an_unprivileged_user(name: str, rung: str, place: Path, sandboxes: dict[str, list[Command]]) -> None:
    """Both probes, where Sealrun runs without privileges: the sandbox is that of the stage, made by that user."""
    options = [
        {"loopback": command.loopback, "strict": command.strict, "memory": command.memory, "processes": command.processes}
        for command in sandboxes[name]
        if command.writable
    ]
    with probe.listeners(place / "forbidden") as arguments:
        said = as_nobody(place, [PYTHON, "-I", "-c", probe.NETWORK, *arguments], *options)
    for socket_file in ("stream", "datagram"):
        (place / "forbidden" / socket_file).unlink()
    assert all(set(each.values()) == {"refused"} for each in said)
    left = probe.METADATA if any("modes" in each for each in barriers.named(rung).leaves) else set()
    arguments = prepared(place)
    os.chown(place / "forbidden" / "old", 65534, 65534)
    for each in as_nobody(place, [PYTHON, "-I", "-c", probe.WRITES, *arguments], *options):
        assert {attempt for attempt, ended in each.items() if ended == "done"} <= left
    assert (place / "forbidden" / "old").read_text() == "old"


@pytest.mark.parametrize("situation", ["container", "apparmor", "sysctl"])
def test_the_audit_reaches_a_real_barrier_on_stock_machines(situation: str, tmp_path: Path) -> None:
    """With its loopback: where a container's filter or a restriction refuses namespaces, the audit runs behind Landlock."""
    if reason := barriers.offered("landlock"):
        pytest.skip(reason)
    try:
        venvs.existing(ROOT, "audit")
    except InputMissing as error:
        pytest.skip(str(error))
    argv = [sys.executable, "-m", "sealrun", "stage", "audit", f"--root={ROOT}", f"--out={tmp_path}/build"]
    done = probe.in_situation(situation, argv, {"PATH": "/usr/bin:/bin"})
    assert done.returncode in (0, 1), done.stderr  # what it finds is not the question here
    (noted,) = tmp_path.glob("build/*/run/audit.json")
    assert json.loads(noted.read_bytes())["barrier"] == "landlock"
    (statement,) = tmp_path.glob("build/*/statements/audit.json")
    assert json.loads(statement.read_bytes())["predicate"]["network"] == "denied"


@pytest.mark.heavy
def test_a_whole_release_behind_landlock(clone: Clone, tmp_path: Path) -> None:
    """On a stock container every stage reaches the same real barrier."""
    if reason := barriers.offered("landlock"):
        pytest.skip(reason)
    python = str(clone.path / ".venv" / "bin" / "python")
    argv = [python, "-P", "-m", "sealrun.program", "release", "--fresh", f"--out={tmp_path}/build"]
    variables = {"SEALRUN_KEYS": str(clone.keys), "PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": DAY, "PYTHONPATH": ""}
    done = probe.in_situation("container", ["/usr/bin/env", "-C", str(clone.path), *argv], variables)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("build/*/run.json")
    reached = {stage["stage"]: stage["barrier"] for stage in json.loads(run.read_bytes())["stages"]}
    assert set(reached.values()) <= {"landlock", ""}
    assert {"sbom", "audit", "secrets", "model", "certify", "verify"} <= {name for name, barrier in reached.items() if barrier}


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
