"""Each barrier, reached by forbidding the ones above it: what it refuses, as root and as nobody, and what it leaves."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sealrun import sandbox, settings
from sealrun.errors import ToolFailed, UsageError
from sealrun.sandbox import Command, Network, barriers, landlock, seatbelt, seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these barriers are Linux's")

PYTHON = "/usr/bin/python3"  # readable by every user, unlike the interpreter of a private home
KERNEL = [rung.name for rung in barriers.LADDER if rung.kernel and rung.name != "seatbelt"]

ATTEMPTS = """
import ctypes, json, os, socket, subprocess, sys
host, port, packet = sys.argv[1], int(sys.argv[2]), b"x"
def child(code): subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
def connect_ex():
    code = socket.socket().connect_ex((host, port))
    if code: raise OSError(code, "connect_ex")
def io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0: raise OSError(ctypes.get_errno(), "io_uring")
def low_level():
    import _socket
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect((host, port))
def detached():
    receive, send = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            try:
                socket.create_connection((host, port), 2); os.write(send, b"1")
            except OSError: os.write(send, b"0")
        os._exit(0)
    if os.read(receive, 1) != b"1": raise OSError("refused")
def program(*argv):
    quiet = subprocess.DEVNULL
    if subprocess.run(argv, stdout=quiet, stderr=quiet, timeout=2).returncode: raise OSError("refused")
attempts = {
    "connect": lambda: socket.create_connection((host, port), 2),
    "connect_ex": connect_ex,
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(packet, (host, port)),
    "dns": lambda: socket.getaddrinfo("example.com", 80),
    "ipv6": lambda: socket.socket(socket.AF_INET6).connect(("::1", port)),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(packet, (host, 0)),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).send(packet),
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "_socket": low_level,
    "io_uring": io_uring,
    "child": lambda: child(f"import socket; socket.create_connection(({host!r}, {port}), 2)"),
    "detached": detached,
    "git fetch": lambda: program("git", "ls-remote", f"git://{host}:{port}/x"),
    "curl": lambda: program("curl", "-s", "--max-time", "1", f"telnet://{host}:{port}"),
}
said = {}
for name, attempt in attempts.items():
    try:
        attempt(); said[name] = "reached"
    except subprocess.TimeoutExpired:
        said[name] = "reached"
    except (OSError, subprocess.SubprocessError):
        said[name] = "refused"
print(json.dumps(said))
"""

# Runs the sandbox itself as another user: everything is imported first, since that user may read little.
AS_NOBODY = """
import ctypes, json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from sealrun import masking, sandbox, settings
from sealrun.sandbox import barriers, supervise
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # readable to itself again
os.environ["HOME"] = "/nonexistent"
sys.executable = "/usr/bin/python3"
place = Path(sys.argv[2])
command = sandbox.Command(
    name="probe", argv=tuple(json.loads(sys.argv[3])), cwd=place / "out", logs=place / "logs", writable=(place / "out",),
    environment=settings.judged_environment(place / "out"), timeout=60.0)
print(sandbox.run(command).stdout.read_text())
"""


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user may enter, with `out`, `logs` and `forbidden` that every user owns alike."""
    place = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    place.chmod(0o755)
    for name in ("out", "logs", "forbidden"):
        (place / name).mkdir()
        (place / name).chmod(0o777)
    return place


@pytest.fixture(params=KERNEL)
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A barrier, those above it forbidden."""
    name = str(request.param)
    if reason := barriers.offered(name):
        pytest.skip(f"{name}: {reason}")
    monkeypatch.setenv("SEALRUN_BARRIER", name)
    return name


def command(place: Path, code: str, *arguments: str, **options: object) -> Command:
    """Python *code* as a sandboxed command."""
    values: dict[str, object] = {
        "name": "probe", "argv": (PYTHON, "-I", "-c", code, *arguments), "cwd": place / "out",
        "environment": settings.judged_environment(place / "out"), "logs": place / "logs", "writable": (place / "out",),
        "timeout": 60.0,
    }  # fmt: skip
    return Command(**(values | options))  # type: ignore[arg-type]


def test_every_way_out_is_refused(rung: str, place: Path) -> None:
    """A probe that reaches its own listener without the sandbox reaches nothing behind any barrier of the kernel's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ["127.0.0.1", str(listener.getsockname()[1])]
        outside = subprocess.run([PYTHON, "-c", ATTEMPTS, *address], capture_output=True, text=True, check=True)
        assert {"connect", "connect_ex", "udp", "_socket", "child", "detached"} <= {
            name for name, said in json.loads(outside.stdout).items() if said == "reached"
        }
        completed = sandbox.run(command(place, ATTEMPTS, *address))
    assert (completed.network, completed.barrier) == (Network.DENIED, rung)
    assert set(json.loads(completed.stdout.read_text()).values()) == {"refused"}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can; as a user, the test above says it")
def test_every_way_out_is_refused_to_an_unprivileged_user(rung: str, place: Path) -> None:
    """The same, where Sealrun runs without privileges."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = [PYTHON, "-I", "-c", ATTEMPTS, "127.0.0.1", str(listener.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, json.dumps(sys.path), str(place), json.dumps(argv)],
            capture_output=True, text=True, env=dict(os.environ),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {"refused"}


@pytest.mark.parametrize(
    "attempt",
    [
        "open('{forbidden}/new', 'w')",
        "open('{forbidden}/old', 'a')",
        "os.truncate('{forbidden}/old', 0)",
        "os.rename('{out}/mine', '{forbidden}/old')",
        "os.link('{out}/mine', '{forbidden}/link')",
        "(os.symlink('{forbidden}', '{out}/door'), open('{out}/door/new', 'w'))",
        "os.remove('{forbidden}/old')",
        "os.mkdir('{forbidden}/folder')",
        "os.mkfifo('{forbidden}/pipe')",
        "open('/proc/self/fd/%d' % os.open('{forbidden}/old', os.O_RDONLY), 'w')",
        "open('/proc/sys/kernel/core_pattern', 'r+')",
    ],
)
def test_nothing_is_written_outside(rung: str, place: Path, attempt: str) -> None:
    """Files outside the named folders are neither made, changed, moved nor removed, behind any barrier of the kernel's."""
    forbidden, out = place / "forbidden", place / "out"
    (forbidden / "old").write_text("old")
    (out / "mine").write_text("mine")
    with pytest.raises(ToolFailed):
        sandbox.run(command(place, f"import os\n{attempt.format(forbidden=forbidden, out=out)}"))
    assert [path.name for path in forbidden.iterdir()] == ["old"]
    assert (forbidden / "old").read_text() == "old"


@pytest.mark.parametrize("attempt", ["os.chmod(path, 0o600)", "os.utime(path)", "os.setxattr(path, 'user.x', b'1')"])
def test_what_a_weaker_barrier_leaves_is_found_afterwards(rung: str, place: Path, attempt: str) -> None:
    """Modes, times and attributes: refused by read-only mounts; behind Landlock, which says so, found on guarded files."""
    target = place / "forbidden" / "old"
    target.write_text("old")
    code = f"import os\npath = {str(target)!r}\n{attempt}"
    left = any("modes" in each for each in barriers.named(rung).leaves)
    with pytest.raises(ToolFailed, match="was changed while it ran" if left else "Read-only file system"):
        sandbox.run(command(place, code, guarded=(place / "forbidden",)))


def test_the_loopback_is_there_where_asked_for(rung: str, place: Path) -> None:
    """A server and its client can talk behind every barrier, at the port drawn for them, and at no other behind Landlock."""
    code = (
        "import os, socket; port = int(os.environ.get('SEALRUN_LOOPBACK_PORT', '0'))\n"
        "s = socket.create_server(('127.0.0.1', port)); socket.create_connection(s.getsockname(), 2); print('talked')"
    )
    assert sandbox.run(command(place, code, loopback=True)).stdout.read_text() == "talked\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = f"import socket; socket.create_connection({listener.getsockname()!r}, 2)"
        with pytest.raises(ToolFailed):
            sandbox.run(command(place, code, loopback=True))


def test_the_whole_tree_ends(rung: str, place: Path) -> None:
    """A descendant that left its session ends with the program, behind every barrier."""
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  time.sleep(77)\n os._exit(0)\nos.wait()"
    sandbox.run(command(place, code))
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "time.sleep(77)" not in listed


@pytest.mark.parametrize(
    ("code", "limit", "complaint"),
    [
        ("held = [bytearray(10**7) for _ in range(100)]", {"memory": 300 * 2**20}, "MemoryError|memory"),
        ("import os, time\nfor _ in range(60):\n  if os.fork() == 0: time.sleep(30)\ntime.sleep(30)", {"processes": 40},
         "processes|BlockingIOError"),
        ("import time\nfor n in range(40): open(str(n), 'wb').write(b'x' * 10**6)\ntime.sleep(30)", {"output_limit": 2 * 10**7},
         "wrote more than"),
    ],
)  # fmt: skip
def test_an_exploding_program_is_ended(rung: str, place: Path, code: str, limit: dict[str, int], complaint: str) -> None:
    """Memory, processes and written bytes of the whole tree are bounded, and what was written is kept."""
    with pytest.raises(ToolFailed, match=complaint):
        sandbox.run(command(place, code, **limit))


def test_production_takes_the_strongest_and_never_the_advisory(monkeypatch: pytest.MonkeyPatch) -> None:
    """SEALRUN_BARRIER weakens nothing in production; a name that is none is wrong use."""
    monkeypatch.setenv("SEALRUN_BARRIER", "advisory")
    with pytest.raises(UsageError, match="production takes the strongest"):
        barriers.chosen(strict=True)
    assert barriers.chosen(strict=False).name == "advisory"
    monkeypatch.setenv("SEALRUN_BARRIER", "moat")
    with pytest.raises(UsageError, match="expected one of"):
        barriers.chosen(strict=False)


def test_a_container_that_refuses_namespaces_reaches_landlock(place: Path) -> None:
    """Under a filter that refuses unshare and mount, as a container's default one does, a real barrier is still chosen."""
    if landlock.abi() < landlock.LEAST_ABI:
        pytest.skip("this kernel offers no Landlock")
    code = (
        "import sys, json; sys.path[:0] = json.loads(sys.argv[1])\n"
        "from sealrun.sandbox import barriers, kernel, seccomp\n"
        "kernel.call('prctl', 38, 1, 0, 0, 0); seccomp.refuse_calls((272, 97, 165, 40, 442))\n"
        "print(barriers.chosen(strict=True).name)"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(sys.path)], capture_output=True, text=True)
    assert done.stdout == "landlock\n", done.stderr


def test_the_advisory_guard_holds_an_honest_program(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own calls are refused; a program that is not Python does not pass for confined."""
    monkeypatch.setenv("SEALRUN_BARRIER", "advisory")
    for attempt in ("import socket; socket.create_connection(('127.0.0.1', 9), 2)", f"open('{place}/forbidden/new', 'w')"):
        with pytest.raises(ToolFailed, match="refused by Sealrun's guard"):
            sandbox.run(command(place, attempt))
    assert sandbox.run(command(place, "open('mine', 'w').write('x')")).network is Network.DENIED
    with pytest.raises(ToolFailed, match="network is opened"):
        sandbox.run(command(place, "", argv=("/bin/true",)))


def test_the_profile_of_macos_names_what_is_allowed(place: Path) -> None:
    """Everything else is denied; a folder whose name could end its quotation is refused."""
    text = seatbelt.profile(command(place, "pass"))
    assert text.startswith("(version 1)\n(deny default)\n")
    assert f'(subpath "{place.resolve()}/out")' in text
    assert "(deny network*)" in text
    assert "localhost" not in text
    assert "localhost" in seatbelt.profile(command(place, "pass", loopback=True))
    with pytest.raises(UsageError):
        seatbelt.profile(command(place, "pass", writable=(Path('/tmp/a"b'),)))


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No filter is guessed for a machine whose numbers are not known."""
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(OSError, match="s390x"):
        seccomp.refuse_sockets_but(())
