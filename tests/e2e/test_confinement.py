"""The barrier around every stage, Ctrl-C, and planted secrets: with the real stages and the real nox."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from msgspec import structs

from sealrun import masking, pipeline, sandbox, venvs
from sealrun.errors import InputMissing
from sealrun.sandbox import Command, Network, barriers
from sealrun.stage import context_of
from tests import probe
from tests.conftest import sealrun
from tests.e2e.conftest import DAY, Clone
from tests.unit.test_barriers import KERNEL, PYTHON, as_nobody, needs_root, place, prepared

__all__ = ["place"]
pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
SECRETS = {  # put together here, so that no scan of this file finds them
    name: "".join((name.upper(), ending, "planted"))
    for name, ending in {
        "variable": "/s3cret+value=", "file": "-k3y-in-a-file-", "index": "+of=an/index-", "pip": "&of?pips-", "netrc": "~netrc~",
        "aws": "/Aws+Secret/", "path": "-in-a-path-",
    }.items()
}  # fmt: skip


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
    variables = {"SEALRUN_KEYS": str(clone.keys), "PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": DAY}
    done = probe.in_situation("container", ["/usr/bin/env", "-u", "PYTHONPATH", "-C", str(clone.path), *argv], variables)
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
    running = subprocess.Popen(
        argv, cwd=clone.path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
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


def of_the_checkout(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this checkout's own `.venv`, the network not opted in; skips where there is none."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("needs this checkout's .venv: run `python3 scripts/bootstrap.py --list`")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "INVARLOCK"))}
    return subprocess.run(
        [str(python), "-P", "-m", *arguments], cwd=ROOT, env=kept | variables, capture_output=True, text=True, timeout=600
    )


def test_installing_and_running_are_two_phases(tmp_path: Path) -> None:
    """`--install-only` judges nothing; `--no-install` installs nothing and needs no network, whatever index is configured."""
    audit = ("nox", "-s", "audit")
    options = ("--", f"--out={tmp_path}/build", "--fresh")
    unreachable = {"PIP_INDEX_URL": "https://index.invalid/simple", "UV_DEFAULT_INDEX": "https://index.invalid/simple"}
    installed = of_the_checkout(*audit, "--install-only", *options, INVARLOCK_ALLOW_NETWORK="1")
    assert installed.returncode == 0, installed.stderr
    assert not (tmp_path / "build").exists()
    of_the_checkout(*audit, "--no-install", *options, **unreachable)
    (statement,) = tmp_path.glob("build/*/statements/audit.json")
    predicate = json.loads(statement.read_bytes())["predicate"]
    assert (predicate["error"], predicate["network"]) == ("", "denied")


def test_without_network_and_wheels_the_message_names_both_ways(repository: Path, tmp_path: Path) -> None:
    """The switch and the wheelhouse are named, and so is a wheelhouse that is none."""
    (repository / ".nox" / "venvs").unlink()
    without = {
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_FIND_LINKS": "",
        "UV_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    install = ("sealrun", "install", "audit", f"--root={repository}")
    refused = of_the_checkout(*install, **without)
    assert refused.returncode == 3, refused.stderr
    assert "INVARLOCK_ALLOW_NETWORK=1" in refused.stderr
    assert "SEALRUN_WHEELHOUSE" in refused.stderr
    refused = of_the_checkout(*install, **without, SEALRUN_WHEELHOUSE=str(tmp_path / "nowhere"))
    assert refused.returncode == 3
    assert "SEALRUN_WHEELHOUSE: got" in refused.stderr


def planted_forms(*secrets: str) -> list[bytes]:
    """The ways in which a program may write *secrets*: in clear, URL-encoded, in hexadecimal and in base64 at any alignment."""
    texts = [text for secret in secrets for text in (secret, quote(secret, safe=""), quote_plus(secret))]
    data = [secret.encode() for secret in secrets]
    encoded = [base64.b64encode(bytes(n) + each)[4 if n else 0 : -4] for each in data for n in range(3)]
    return [text.encode() for text in texts] + [each.hex().encode() for each in data] + encoded


def printed_forms(*secrets: str) -> bytes:
    """A text that holds *secrets* in all these forms, as a program would print it."""
    data = [secret.encode() for secret in secrets]
    padded = [base64.b64encode(b"u" * n + each + b"v" * m) for each in data for n in range(3) for m in range(3)]
    return b"\n".join([*planted_forms(*secrets)[: 4 * len(secrets)], *padded])


def found_in(forms: list[bytes], folder: Path, *said: str) -> list[str]:
    """Where one of *forms* stands: in the files below *folder*, or on the terminal."""
    texts = {"terminal": "".join(said).encode()} | {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    }
    return [f"{name}: {form!r}" for name, text in texts.items() for form in forms if form in text]


@pytest.fixture
def planted(tmp_path: Path) -> dict[str, str]:
    """Secrets wherever a machine keeps them: variables, files that variables name, addresses, configuration files."""
    home = tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".aws").mkdir()
    (home / ".netrc").write_text(f"machine index.invalid login me password {SECRETS['netrc']}\n")
    (home / ".aws" / "credentials").write_text(f"[default]\naws_secret_access_key = {SECRETS['aws']}\n")
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\nextra-index-url = https://me:{quote(SECRETS['pip'], safe='')}@index.invalid/simple\n"
    )
    (home / "signing").write_text(SECRETS["file"] + "\n")
    return {
        "HOME": str(home), "PIP_CONFIG_FILE": str(home / ".config" / "pip" / "pip.conf"), "MY_SERVICE_TOKEN": SECRETS["variable"], "DEPLOY_KEY": str(home / "signing"),
        "UV_INDEX": f"https://me:{quote(SECRETS['index'], safe='')}@index.invalid/simple", "MY_PASSWORD": SECRETS["path"],
    }  # fmt: skip


def test_planted_secrets_appear_nowhere(clone: Clone, tmp_path: Path, planted: dict[str, str]) -> None:
    """A whole release on a machine full of secrets, one of them in the path of its configuration, shows and keeps none."""
    configuration = tmp_path / "home" / SECRETS["path"]
    shutil.copytree(clone.path / "examples" / "tiny-lm", configuration)
    options = (f"--config={configuration / 'release.toml'}", "--fresh")
    forms = planted_forms(*SECRETS.values())
    done = clone.invoke("release", *options, f"--out={tmp_path}/build", **planted)
    assert done.code in (0, 1), done.err
    assert found_in(forms, tmp_path / "build", done.out, done.err) == []
    echoed = clone.nox("-s", "audit", "--", *options, f"--out={tmp_path}/build", **planted)  # nox says each command it runs
    assert masking.MASK in echoed.err
    assert found_in(forms, tmp_path / "build", echoed.out, echoed.err) == []


@pytest.mark.parametrize("code", [0, 9])
def test_what_a_tool_prints_or_dies_with_leaves_no_secret(
    code: int, repository: Path, tmp_path: Path, planted: dict[str, str]
) -> None:
    """A tool that prints every secret in every form, and crashes or writes no report, is an error that shows none."""
    forms = planted_forms(*SECRETS.values())
    _replace_tool(repository, "audit", printed_forms(*SECRETS.values()), code)
    done = sealrun(repository, "stage", "audit", "--fresh", **planted)
    assert done.returncode == 4, done.stderr
    assert masking.MASK in done.stderr or code == 0
    assert found_in(forms, repository / "build", done.stdout, done.stderr) == []
    (log,) = (repository / "build").glob("*/logs/audit/pip-audit.stderr")
    assert masking.MASK in log.read_text()  # it was printed, and is kept without them


def test_a_secret_in_the_configuration_is_refused_as_evidence(
    repository: Path, tmp_path: Path, planted: dict[str, str]
) -> None:
    """A secret written into release.toml or a lock gets into no evidence, no log and no message."""
    forms = planted_forms(*SECRETS.values())
    release = repository / "examples" / "tiny-lm" / "release.toml"
    text = release.read_text("utf-8")
    for broken in (
        text.replace("licence = ", f'licence = "{SECRETS["variable"]}" # '),
        text + f'\nmy_token = "{SECRETS["variable"]}"\n',
        text.replace('version = "', f'version = "{SECRETS["variable"]}'),
        text + f"\n[[[ {SECRETS['variable']}\n",
    ):
        release.write_text(broken)
        for stage in ("lock", "secrets"):
            done = sealrun(repository, "stage", stage, "--fresh", **planted)
            assert found_in(forms, repository / "build", done.stdout, done.stderr) == []


def _replace_tool(repository: Path, name: str, printed: bytes, code: int) -> None:
    """Give *repository* environments of its own, where the interpreter of *name* prints *printed* and ends with *code*."""
    folder = repository / ".nox" / "venvs"
    folder.unlink()
    folder.mkdir()
    for path in (ROOT / ".nox" / "venvs").iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    venv = venvs.locate(repository, name).path
    if not venv.exists():
        pytest.skip(f"install {name} first")
    mark = (venv / "sealrun-venv.json").read_bytes()
    venv.unlink()
    (venv / "bin").mkdir(parents=True)
    (venv / "sealrun-venv.json").write_bytes(mark)
    (venv / "said").write_bytes(printed + b"\n")
    (venv / "bin" / "python").write_text(f"#!/bin/sh\ncat '{venv}/said'\ncat '{venv}/said' >&2\nexit {code}\n")
    (venv / "bin" / "python").chmod(0o755)
