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
from tests import probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these barriers are Linux's")

PYTHON = probe.interpreter()
KERNEL = [rung.name for rung in barriers.LADDER if rung.kernel and rung.name != "seatbelt"]

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
sys.executable = sys.argv[5]
place = Path(sys.argv[2])
for options in json.loads(sys.argv[4]):
    command = sandbox.Command(
        name="probe", argv=tuple(json.loads(sys.argv[3])), cwd=place / "out", logs=place / "logs", writable=(place / "out",),
        environment=settings.judged_environment(place / "out"), timeout=60.0, **options)
    print(sandbox.run(command).stdout.read_text().strip())
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


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can; the test above says it")


def as_nobody(place: Path, argv: list[str], *options: dict[str, object]) -> list[dict[str, str]]:
    """What the probe *argv* said, run by a Sealrun without privileges, once with each of *options*."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, json.dumps(sys.path), str(place), json.dumps(argv), json.dumps(options), PYTHON],
        capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("loopback", [False, True], ids=["", "loopback"])
def test_every_way_out_is_refused(rung: str, place: Path, loopback: bool) -> None:
    """A probe that reaches its own listeners without the sandbox reaches nothing behind any barrier of the kernel's."""
    with probe.listeners(place / "forbidden") as arguments:
        outside = subprocess.run([PYTHON, "-I", "-c", probe.NETWORK, *arguments], capture_output=True, text=True, check=True)
        reached = {name for name, said in json.loads(outside.stdout).items() if said == "reached"}
        assert reached >= probe.expected_outside()
        completed = sandbox.run(command(place, probe.NETWORK, *arguments, loopback=loopback))
    assert (completed.network, completed.barrier) == (Network.DENIED, rung)
    assert probe.only(completed.stdout.read_text(), "reached") == set()


@needs_root
def test_every_way_out_is_refused_to_an_unprivileged_user(rung: str, place: Path) -> None:
    """The same, where Sealrun runs without privileges."""
    with probe.listeners(place / "forbidden") as arguments:
        found = as_nobody(place, [PYTHON, "-I", "-c", probe.NETWORK, *arguments], {}, {"loopback": True})
    assert [set(said.values()) for said in found] == [{"refused"}, {"refused"}]


def test_nothing_is_written_outside(rung: str, place: Path) -> None:
    """Files outside the named folders are neither made, changed, moved nor removed, behind any barrier of the kernel's.

    What a barrier says that it leaves (modes, times, attributes) is all that it leaves.
    """
    arguments = prepared(place)
    before = snapshot(place / "forbidden")
    completed = sandbox.run(command(place, probe.WRITES, *arguments))
    left = probe.METADATA if any("modes" in each for each in barriers.named(rung).leaves) else set()
    assert probe.only(completed.stdout.read_text(), "done") <= left
    assert left or snapshot(place / "forbidden") == before
    assert [path.name for path in (place / "forbidden").iterdir()] == ["old"]
    assert (place / "forbidden" / "old").read_text() == "old"


@needs_root
def test_nothing_is_written_outside_by_an_unprivileged_user(rung: str, place: Path) -> None:
    """The same, where Sealrun runs without privileges and the files are the user's own."""
    arguments = prepared(place)
    os.chown(place / "forbidden" / "old", 65534, 65534)
    (said,) = as_nobody(place, [PYTHON, "-I", "-c", probe.WRITES, *arguments], {})
    left = probe.METADATA if any("modes" in each for each in barriers.named(rung).leaves) else set()
    assert {name for name, what in said.items() if what == "done"} <= left
    assert (place / "forbidden" / "old").read_text() == "old"
    assert [path.name for path in (place / "forbidden").iterdir()] == ["old"]


def test_the_probe_of_writes_can_write(place: Path) -> None:
    """Without a sandbox the same program changes the file: its refusals mean something."""
    outside = subprocess.run(
        [PYTHON, "-I", "-c", probe.WRITES, *prepared(place)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert probe.only(outside.stdout, "done") >= {
        "new file",
        "rename over",
        "chmod",
        "utime",
        "through a symlink swapped meanwhile",
    }


def prepared(place: Path) -> tuple[str, str]:
    """The arguments of the probe of writes, the file it is not to touch made."""
    (place / "forbidden" / "old").write_text("old")
    (place / "forbidden" / "old").chmod(0o666)
    return str(place / "forbidden"), str(place / "out")


def snapshot(folder: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Everything that could have changed below *folder*."""
    found = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    return [(path.name, info.st_mode, info.st_mtime_ns, info.st_nlink, path.read_bytes()) for path, info in found]


@pytest.mark.parametrize("attempt", ["os.chmod(path, 0o600)", "os.utime(path)", "os.setxattr(path, 'user.x', b'1')"])
def test_what_a_weaker_barrier_leaves_is_found_afterwards(rung: str, place: Path, attempt: str) -> None:
    """Modes, times and attributes: refused by read-only mounts; behind Landlock, which says so, found on guarded files."""
    target = place / "forbidden" / "old"
    target.write_text("old")
    left = any("modes" in each for each in barriers.named(rung).leaves)
    for path in (target, target.parent):  # a guarded folder is guarded itself
        code = f"import os\npath = {str(path)!r}\n{attempt}"
        with pytest.raises(ToolFailed, match="was changed while it ran" if left else "Read-only file system"):
            sandbox.run(command(place, code, guarded=(place / "forbidden",)))


def test_credentials_and_keys_cannot_be_read(rung: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind every barrier of the kernel's, a program reads no credential and no key but the one that it names."""
    home, keys = place / "home", place / "keys"
    hidden = [home / ".netrc", home / ".ssh" / "deep" / "id", home / ".aws" / "credentials", keys / "release.pem"]
    open_to_it = [home / "notes", keys / "release.pub", keys / "named.pem", place / "forbidden" / "old"]
    for path in (*hidden, *open_to_it):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    (place / "out" / "door").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SEALRUN_KEYS", str(keys))
    code = (
        "import json, os, sys\ndef read(path):\n"
        " try: return open(path).read() == 'content'\n"
        " except OSError: return False\n"
        f"print(json.dumps([path for path in {[str(path) for path in (*hidden, *open_to_it)]!r} if read(path)]))\n"
        f"assert not read('{place}/out/door/.netrc') and not read('/proc/self/root{home}/.netrc')"
    )
    completed = sandbox.run(command(place, code, str(keys / "named.pem")))
    assert json.loads(completed.stdout.read_text()) == [str(path) for path in open_to_it]


def test_the_loopback_is_there_where_asked_for(rung: str, place: Path) -> None:
    """A server and its clients can talk behind every barrier, children included; without asking there is none."""
    code = (
        "import os, socket, subprocess, sys; port = int(os.environ.get('SEALRUN_LOOPBACK_PORT', '0'))\n"
        "s = socket.create_server(('127.0.0.1', port)); host, port = s.getsockname()\n"
        "for n in range(3): socket.create_connection((host, port), 2).sendall(b'x'); assert s.accept()[0].recv(1) == b'x'\n"
        "subprocess.run([sys.executable, '-c', f'import socket; socket.create_connection((\"{host}\", {port}))'], check=True)\n"
        "blocking = socket.socket(); blocking.connect((host, port)); s.accept(); print('talked')"
    )
    assert sandbox.run(command(place, code, loopback=True)).stdout.read_text() == "talked\n"
    with pytest.raises(ToolFailed):
        sandbox.run(command(place, code))


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.2', port), 2)",  # another host, the very port
        "socket.create_connection(('127.0.0.1', port), 2)",  # the port, before the program holds it
        "socket.create_server(('0.0.0.0', port))",
        "socket.create_server(('127.0.0.1', 0))",
        "socket.socket().listen()",  # the kernel would choose a port of every address
        "(serve(), socket.create_connection(('127.0.0.1', elsewhere), 2))",
        "(serve(), exchanged())",
    ],
)
def test_the_loopback_without_a_namespace_is_one_port_of_one_address(
    place: Path, monkeypatch: pytest.MonkeyPatch, attempt: str
) -> None:
    """Behind Landlock the program reaches itself alone, also where it exchanges the address while it is looked at."""
    if reason := barriers.offered("landlock"):
        pytest.skip(reason)
    monkeypatch.setenv("SEALRUN_BARRIER", "landlock")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = (
            "import ctypes, os, socket, struct, threading; port = int(os.environ['SEALRUN_LOOPBACK_PORT'])\n"
            f"elsewhere = {listener.getsockname()[1]}\n"
            "def serve(): global server; server = socket.create_server(('127.0.0.1', port), backlog=4096)\n"
            "def exchanged():\n"
            " libc = ctypes.CDLL(None); address = ctypes.create_string_buffer(16); over = False\n"
            " def packed(port): return struct.pack('=H', 2) + struct.pack('!H', port) + socket.inet_aton('127.0.0.1') + bytes(8)\n"
            " good, bad = packed(port), packed(elsewhere)\n"
            " def swap():\n"
            "  while not over: address.raw = bad; address.raw = good\n"
            " thread = threading.Thread(target=swap); thread.start(); ports = set()\n"
            " for _ in range(300):\n"
            "  with socket.socket() as s:\n"
            "   if libc.connect(s.fileno(), address, 16) == 0: ports.add(s.getpeername()[1])\n"
            " over = True; thread.join()\n"
            " assert ports == {port}, ports\n"
            " raise PermissionError('only the port drawn')\n"
            f"try: {attempt}\nexcept PermissionError: print('refused')"
        )
        assert sandbox.run(command(place, code, loopback=True)).stdout.read_text() == "refused\n"


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


def test_production_takes_the_strongest_and_never_the_advisory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SEALRUN_BARRIER weakens nothing in production; elsewhere the advisory one is loudly had; a name that is none is refused."""
    monkeypatch.setenv("SEALRUN_BARRIER", "advisory")
    with pytest.raises(UsageError, match="production takes the strongest"):
        barriers.chosen(strict=True)
    barriers._warn.cache_clear()
    assert barriers.chosen(strict=False).name == "advisory"
    assert "WARNING: NOT CONFINED" in capsys.readouterr().err
    monkeypatch.setenv("SEALRUN_BARRIER", "moat")
    with pytest.raises(UsageError, match="expected one of"):
        barriers.chosen(strict=False)


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize(("situation", "reached"), [(name, reached) for name, (_, reached) in probe.SITUATIONS.items()])
def test_stock_machines_reach_a_real_barrier_or_say_what_to_set(situation: str, reached: str, user: str, place: Path) -> None:
    """Where user namespaces are restricted, or a container's filter refuses them, a real barrier is still raised."""
    if user == "nobody" and os.geteuid() != 0:
        pytest.skip("becomes another user, which only root can")
    if landlock.abi() < landlock.LEAST_ABI and reached == "landlock":
        pytest.skip("this kernel offers no Landlock")
    code = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from sealrun import sandbox, settings, errors\n"
        f"if {user == 'nobody'}: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"os.environ['HOME'] = '/nonexistent'; sys.executable = {PYTHON!r}; place = Path({str(place)!r})\n"
        f"command = sandbox.Command(name='probe', argv=({PYTHON!r}, '-I', '-c', 'pass'), cwd=place / 'out', loopback=True,\n"
        " environment=settings.judged_environment(place / 'out'), logs=place / 'logs', writable=(place / 'out',), strict=True)\n"
        "try: print(sandbox.run(command).barrier)\n"
        "except errors.ToolFailed as error: print(error)\n"
    )
    done = probe.in_situation(situation, [sys.executable, "-c", code], {"PATH": "/usr/bin:/bin"})
    assert done.stdout.startswith(reached), done.stdout + done.stderr


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
