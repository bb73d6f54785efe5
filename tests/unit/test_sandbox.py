"""The barrier: what a program inside it can and cannot do. Real programs, real namespaces."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sealrun import sandbox, settings
from sealrun.errors import ToolFailed
from sealrun.sandbox import Command, Completed, Network, kernel
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the namespace barrier is Linux's")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `out` (writable inside), `logs` and `forbidden`."""
    for name in ("out", "logs", "forbidden"):
        (tmp_path / name).mkdir()
    return tmp_path


def command(place: Path, code: str, **options: object) -> Command:
    """Python *code* as a sandboxed command."""
    values: dict[str, object] = {
        "name": "probe", "argv": (sys.executable, "-I", "-c", code), "cwd": place / "out",
        "environment": settings.judged_environment(place / "out"), "logs": place / "logs",
        "writable": (place / "out",), "timeout": 30.0,
    }  # fmt: skip
    return Command(**(values | options))  # type: ignore[arg-type]


def run(place: Path, code: str, **options: object) -> Completed:
    """Run Python *code* sandboxed."""
    return sandbox.run(command(place, code, **options))


def said(place: Path, code: str, **options: object) -> str:
    """What Python *code* printed inside the sandbox."""
    return run(place, code, **options).stdout.read_text()


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('{host}', {port}), 2)",
        "(lambda s: (_ for _ in ()).throw(OSError) if s.connect_ex(('{host}', {port})) else 0)(socket.socket())",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{host}', {port}))",
        "socket.socket(socket.AF_INET6).connect(('::1', {port}))",
        "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"{host}\", {port}), 2)'], check=True)",
    ],
)
def test_no_connection_leaves_the_sandbox(place: Path, attempt: str) -> None:
    """A listener that answers outside is out of reach inside, also for children, UDP and IPv6."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        socket.create_connection((host, port), 2).close()
        code = f"import socket, subprocess, sys\n{attempt.format(host=host, port=port)}\nprint('reached')"
        with pytest.raises(ToolFailed):
            run(place, code)


def test_names_are_not_resolved(place: Path) -> None:
    """DNS does not get through."""
    with pytest.raises(ToolFailed, match="gaierror"):
        run(place, "import socket; socket.getaddrinfo('localhost.example.com', 80)")


def test_loopback_is_there_only_where_asked_for(place: Path) -> None:
    """A server and its client inside one sandbox can talk when loopback is asked for."""
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(s.getsockname(), 2); print('talked')"
    )
    assert said(place, code, loopback=True) == "talked\n"
    with pytest.raises(ToolFailed):
        run(place, code)


def test_denied_comes_from_a_probe(place: Path) -> None:
    """The network is said to be denied by a run that had none, and opened by one that was given it."""
    assert run(place, "pass").network is Network.DENIED
    assert run(place, "pass", network=Network.OPENED).network is Network.OPENED


@pytest.mark.parametrize(
    "attempt",
    [
        "open('{forbidden}/new', 'w')",
        "open('{forbidden}/old', 'a')",
        "os.rename('{out}/mine', '{forbidden}/old')",
        "os.link('{forbidden}/old', '{out}/link')",
        "os.chmod('{forbidden}/old', 0o777)",
        "os.utime('{forbidden}/old')",
        "os.remove('{forbidden}/old')",
        "(os.symlink('{forbidden}', '{out}/door'), open('{out}/door/new', 'w'))",
        "ctypes.CDLL(None, use_errno=True).mount(None, b'/', None, 0x1020, None) and (_ for _ in ()).throw(OSError)",
    ],
)
def test_nothing_is_written_outside(place: Path, attempt: str) -> None:
    """Outside the named folders nothing is created, changed, renamed, linked or remounted."""
    forbidden, out = place / "forbidden", place / "out"
    (forbidden / "old").write_text("old")
    before = (forbidden / "old").stat()
    (out / "mine").write_text("mine")
    with pytest.raises(ToolFailed):
        run(place, f"import ctypes, os\n{attempt.format(forbidden=forbidden, out=out)}")
    assert list(forbidden.iterdir()) == [forbidden / "old"]
    assert (forbidden / "old").read_text() == "old"
    after = (forbidden / "old").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, before.st_nlink)


def test_the_named_folder_is_writable(place: Path) -> None:
    """What a program writes to its own folder stays, and belongs to the caller."""
    run(place, f"open('{place}/out/kept', 'w').write('kept')")
    assert (place / "out" / "kept").read_text() == "kept"
    assert (place / "out" / "kept").stat().st_uid == os.geteuid()


def test_no_capability_is_left(place: Path) -> None:
    """Inside, the program holds no capability, so it cannot undo the barrier."""
    status = said(place, "print(open('/proc/self/status').read())")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective.split()[1], 16) == 0


def test_a_hanging_program_ends_with_its_children(place: Path) -> None:
    """A time-out is a failure of its own, keeps what was printed, and leaves no process behind."""
    marker = f"sealrun-test-{os.getpid()}-{time.time_ns()}"
    code = f"import os, time\nprint('begun', flush=True)\nif os.fork() == 0: os.setsid()\nx = '{marker}'\ntime.sleep(60)"
    with pytest.raises(ToolFailed, match="still running after 1 s"):
        run(place, code, timeout=1.0)
    assert (place / "logs" / "probe.stdout").read_text() == "begun\n"
    assert _alive(marker) == []


def test_a_program_deaf_to_interrupts_is_ended_with_its_children(place: Path) -> None:
    """To stop a program takes no longer than the grace that it was given, however deaf it and its children are."""
    marker = f"sealrun-test-{os.getpid()}-{time.time_ns()}"
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"if os.fork() == 0: os.setsid()\nx = '{marker}'\nprint('begun', flush=True)\ntime.sleep(60)"
    )
    running = sandbox.start(command(place, code))
    while not (place / "logs" / "probe.stdout").read_text():
        time.sleep(0.01)
    began = time.monotonic()
    running.interrupt()
    running.end(within=0.2)
    assert time.monotonic() - began < 10
    assert _alive(marker) == []


_STARTS = """
import sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sealrun import sandbox, settings
place, network = Path(sys.argv[2]), sandbox.Network(sys.argv[4])
if sys.argv[5] == "threads":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
sandbox.start(sandbox.Command(
    name="probe", argv=(sys.executable, "-I", "-c", f"import time; x = {sys.argv[3]!r}; time.sleep(60)"), cwd=place,
    environment=settings.judged_environment(place), logs=place / "logs", writable=(place / "out",), network=network,
))
time.sleep(60)
"""


@pytest.mark.parametrize("threads", ["threads", "no threads"])
@pytest.mark.parametrize("network", ["denied", "opened"])
def test_nothing_outlives_the_one_that_started_it(place: Path, network: str, threads: str) -> None:
    """Killed at any moment around the start of a program, before a barrier or without one: no process of it stays behind."""
    marker = f"sealrun-test-{os.getpid()}-{time.time_ns()}"
    for number in range(8):
        argv = [sys.executable, "-c", _STARTS, str(ROOT / "scripts"), str(place), marker, network, threads]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdin and starter.stdout and starter.stdout.readline() == "ready\n"
            starter.stdin.write("go\n")
            starter.stdin.flush()
            time.sleep(0.003 * number)
            starter.kill()
    assert _alive(marker) == []


def test_a_starter_with_many_open_files_is_watched_too() -> None:
    """A handle beyond the first 1024 can be asked whether the starter lives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    handle = kernel.handle_of_this()
    assert handle is not None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        high = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 2000)
        kernel.end_with_parent(0, high)
        os.close(high)
    finally:
        os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _alive(marker: str) -> list[Path]:
    """Return the processes that name *marker*, once those that end have ended."""
    alive: list[Path] = []
    for _ in range(50):
        alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _holds(path, marker)]
        if not alive:
            break
        time.sleep(0.05)
    return alive


def _holds(path: Path, marker: str) -> bool:
    try:
        return marker.encode() in path.read_bytes()
    except OSError:
        return False


def test_only_named_exit_codes_mean_it_worked(place: Path) -> None:
    """An exit code that was not named is a failure that quotes the program's last words."""
    with pytest.raises(ToolFailed, match=r"exit code 3(.|\n)*last words"):
        run(place, "import sys; print('last words', file=sys.stderr); sys.exit(3)")
    assert run(place, "raise SystemExit(3)", success=(3,)).exit_code == 3


def test_a_killed_program_names_the_signal(place: Path) -> None:
    """Death by signal is told apart from an exit code."""
    with pytest.raises(ToolFailed, match="SIGKILL"):
        run(place, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")


def test_a_missing_program_is_named(place: Path) -> None:
    """A program that is not there is a failure before anything starts."""
    with pytest.raises(ToolFailed, match="is missing"):
        sandbox.run(command(place, "", argv=(str(place / "nothing"),)))


def test_too_much_output_ends_the_program(place: Path) -> None:
    """A file larger than the limit ends its writer."""
    with pytest.raises(ToolFailed):
        run(place, "open('big', 'wb').write(b'x' * 2_000_000)", output_limit=1_000_000)


def test_offline_switches_and_nothing_private_reach_the_program(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline switches are set; variables that are not on the list are not seen."""
    monkeypatch.setenv("MY_TOKEN", "planted-value")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "0")
    seen = said(place, "import os; print(sorted(os.environ.items()))")
    assert "planted-value" not in seen
    assert "PYTHONPATH" not in seen
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        assert f"('{name}', '1')" in seen


def test_every_cache_is_private_and_no_address_of_an_index_is_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of runtimes lie in the program's own folder; where packages come from is the installation's business alone."""
    for name in ("PIP_INDEX_URL", "UV_INDEX", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.setenv(name, "/nowhere")
        assert name in settings.install_environment()
        assert name not in settings.judged_environment(place)
    seen = settings.judged_environment(place)
    for name in ("HOME", "HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "MPLCONFIGDIR"):
        assert seen[name] == str(place)


def test_what_surrounds_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container and a conda environment are named, for run.json and the doctor."""
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "science")
    monkeypatch.setenv("container", "podman")
    assert settings.host_facts() == {"container": "podman", "conda": "science"}


def test_no_customization_of_the_host_takes_part(place: Path) -> None:
    """A sitecustomize beside the standard library, a path file and a user site of the host run in no environment of ours."""
    host, venv = place / "host", place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    host.mkdir()
    (host / "sitecustomize.py").write_text("print('customized')")
    (host / "usercustomize.py").write_text("print('customized')")
    (packages,) = (venv / "lib").glob("python*/site-packages")
    shown = (str(venv / "bin" / "python"), "-c", "print('ran')")
    told = {"PYTHONPATH": str(host), "PATH": "/usr/bin:/bin"}
    assert "customized" in subprocess.run(shown, env=told, capture_output=True, text=True, check=True).stdout
    (packages / "sealrun.pth").write_bytes(settings.NO_SITECUSTOMIZE)
    assert subprocess.run(shown, env=told, capture_output=True, text=True, check=True).stdout == "ran\n"
    assert sandbox.run(command(place, "", argv=shown, environment=settings.judged_environment(place / "out"))).exit_code == 0
    assert (place / "logs" / "probe.stdout").read_text() == "ran\n"


def test_the_barrier_is_cheap(place: Path) -> None:
    """A program costs little to start behind the barrier; the stated 15 ms are measured by docs/figures.md, not here."""
    begun = time.monotonic()
    for _ in range(10):
        sandbox.run(command(place, "", argv=("/bin/true",)))
    assert (time.monotonic() - begun) / 10 < 0.25
