"""Programs that try to get out of a sandbox, and the listeners that they try to reach.

Each program prints what came of its attempts as one JSON object: reached or refused (NETWORK), done or refused (WRITES).
"""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NETWORK = """
import ctypes, json, os, socket, subprocess, sys
host, port, packet, here = "127.0.0.1", int(sys.argv[1]), b"x", sys.argv[2]
quiet = subprocess.DEVNULL
def child(code): subprocess.run([sys.executable, "-c", code], check=True, stderr=quiet)
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
    try:
        if subprocess.run(argv, stdout=quiet, stderr=quiet, timeout=1).returncode: raise OSError("refused")
    except subprocess.TimeoutExpired: pass  # it waits for an answer of the listener's
def datagram(family, address):
    sender = socket.socket(family, socket.SOCK_DGRAM); sender.connect((address, port))
    sender.send(packet); sender.send(packet)  # the second is refused where nobody heard the first
attempts = {
    "connect": lambda: socket.create_connection((host, port), 2),
    "connect_ex": connect_ex,
    "udp": lambda: datagram(socket.AF_INET, host),
    "dns": lambda: socket.getaddrinfo("example.com", 80),
    "ipv6": lambda: socket.socket(socket.AF_INET6).connect(("::1", port)),
    "ipv6 udp": lambda: datagram(socket.AF_INET6, "::1"),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(packet, (host, 0)),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).bind(("lo", 0)),
    "mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect((host, port)),
    "fast open": lambda: socket.socket().sendto(packet, 0x20000000, (host, port)),
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).bind((0xFFFFFFFF, 0xFFFFFFFF)),
    "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(here + "/stream"),
    "unix pair": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(packet, here + "/datagram"),
    "_socket": low_level,
    "io_uring": io_uring,
    "child": lambda: child(f"import socket; socket.create_connection(({host!r}, {port}), 2)"),
    "detached": detached,
    "git fetch": lambda: program("git", "-c", "init.defaultBranch=main", "ls-remote", f"git://{host}:{port}/x"),
    "curl": lambda: program("curl", "-s", "--max-time", "3", f"telnet://{host}:{port}"),
}
said = {}
for name, attempt in attempts.items():
    try:
        attempt(); said[name] = "reached"
    except (OSError, subprocess.SubprocessError):
        said[name] = "refused"
print(json.dumps(said))
"""
# These leave the machine as it is; without a sandbox each reaches the listeners, wherever the machine has what it takes.
ALWAYS = {"connect", "connect_ex", "udp", "unix", "unix pair", "_socket", "child", "detached"}

WRITES = """
import json, os, socket, sys, threading, time
forbidden, out = sys.argv[1:]
old, mine = forbidden + "/old", out + "/mine"
open(mine, "w").write("mine")
def swapped():
    ends = time.monotonic() + 0.3
    def swap():
        while time.monotonic() < ends:
            os.symlink(old, out + "/new"); os.replace(out + "/new", out + "/swapped")
            open(out + "/new", "w").close(); os.replace(out + "/new", out + "/swapped")
    thread = threading.Thread(target=swap); thread.start(); wrote = False
    while time.monotonic() < ends:
        try:
            with open(out + "/swapped", "r+") as stream:
                if os.fstat(stream.fileno()).st_ino == os.stat(old).st_ino: stream.write("swapped"); wrote = True
        except OSError: pass
    thread.join(); os.path.lexists(out + "/swapped") and os.remove(out + "/swapped")
    if not wrote: raise OSError("refused")
def door():
    os.symlink(forbidden, out + "/door")
    try: open(out + "/door/new", "w")
    finally: os.remove(out + "/door")
def link_in():
    os.link(old, out + "/link"); open(out + "/link", "a").write("x")
def served():
    socket.socket(socket.AF_UNIX).bind(forbidden + "/socket")
attempts = {
    "new file": lambda: open(forbidden + "/new", "w"),
    "append": lambda: open(old, "a").write("x"),
    "truncate": lambda: os.truncate(old, 0),
    "nameless file": lambda: os.open(forbidden, os.O_TMPFILE | os.O_WRONLY),
    "rename over": lambda: os.rename(mine, old),
    "rename out": lambda: os.rename(old, out + "/stolen"),
    "link out": lambda: os.link(mine, forbidden + "/link"),
    "link in": link_in,
    "symlink": lambda: os.symlink(mine, forbidden + "/symlink"),
    "through a symlink": door,
    "through a symlink swapped meanwhile": swapped,
    "remove": lambda: os.remove(old),
    "folder": lambda: os.mkdir(forbidden + "/folder"),
    "pipe": lambda: os.mkfifo(forbidden + "/pipe"),
    "device": lambda: os.mknod(out + "/device", 0o20600, os.makedev(1, 1)),
    "socket": served,
    "/proc/self/fd": lambda: open("/proc/self/fd/%d" % os.open(old, os.O_RDONLY), "w"),
    "/proc/self/root": lambda: open("/proc/self/root" + old, "r+"),
    "/proc/self/cwd": lambda: (os.chdir(forbidden), open("/proc/self/cwd/new", "w")),
    "/proc/sys": lambda: open("/proc/sys/kernel/core_pattern", "r+"),
    "chmod": lambda: os.chmod(old, 0o600),
    "utime": lambda: os.utime(old, (1, 1)),
    "xattr": lambda: os.setxattr(old, "user.x", b"1"),
}
said = {}
for name, attempt in attempts.items():
    for path in (old, mine):  # an attempt may have taken it away
        try: open(path, "x").close()
        except OSError: pass
    try:
        attempt(); said[name] = "done"
    except OSError:
        said[name] = "refused"
print(json.dumps(said))
"""
METADATA = {"chmod", "utime", "xattr"}


@contextmanager
def listeners(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of NETWORK: listeners on both loopbacks, by TCP and UDP, and on Unix sockets in *folder*."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        port = server.getsockname()[1]
        held.enter_context(_bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port)))
        with suppress(OSError):  # a machine without IPv6
            held.enter_context(_bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port))).listen()
            held.enter_context(_bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", port)))
        held.enter_context(_bound(socket.AF_UNIX, socket.SOCK_STREAM, f"{folder}/stream")).listen()
        held.enter_context(_bound(socket.AF_UNIX, socket.SOCK_DGRAM, f"{folder}/datagram"))
        for name in ("stream", "datagram"):
            (folder / name).chmod(0o777)
        yield str(port), str(folder)


def expected_outside() -> set[str]:
    """What has to reach the listeners without a sandbox, on this machine."""
    programs = {"git fetch": "git", "curl": "curl"}
    return ALWAYS | {name for name, program in programs.items() if shutil.which(program, path=os.defpath)}


def _bound(family: int, kind: int, address: object) -> socket.socket:
    bound = socket.socket(family, kind)
    try:
        bound.bind(address)  # type: ignore[arg-type]
    except OSError:
        bound.close()
        raise
    return bound


def only(said: str, what: str) -> set[str]:
    """Return the names of the attempts of a probe's output *said* that ended as *what*."""
    return {name for name, ended in json.loads(said).items() if ended == what}


def interpreter() -> str:
    """Return a Python that every user can run: this one may lie in a private home."""
    for path in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if os.access(path, os.X_OK):
            return path
    return sys.executable


# Machines as they come: what refuses namespaces there, and the barrier that is reached all the same (or what is said).
_MOUNTS = {
    "x86_64": (165, 166, 155, 272, 308, 442, 428, 429, 430, 431),
    "aarch64": (40, 39, 41, 97, 268, 442, 428, 429, 430, 431),
}
_NAMESPACES, _CLONE3 = 0x7E020080, 435  # every CLONE_NEW* flag
_EPERM, _ENOSYS = 0x00050000 | 1, 0x00050000 | 38
_LANDLOCK = (444, 445, 446)
SITUATIONS = {
    "container": ("no namespace by clone or unshare, no mount: a container's own filter", "landlock"),
    "apparmor": ("namespaces can be made, and nothing mounted in them: Ubuntu's restriction", "landlock"),
    "sysctl": ("no user namespace at all: user.max_user_namespaces=0", "landlock"),
    "old container": ("as container, and no Landlock either", "no barrier of the kernel's can be had"),
}


def in_situation(name: str, argv: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run *argv* on a machine as SITUATIONS describes it."""
    wrapper = [sys.executable, str(Path(__file__).resolve()), name, *argv]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run(wrapper, env=environment, capture_output=True, text=True, timeout=900)


def _enter_situation(name: str) -> None:
    from sealrun.sandbox import kernel, seccomp

    if name == "sysctl":
        _become_user_namespace()
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        return
    refused = (*_MOUNTS[platform.machine()], *(_LANDLOCK if name == "old container" else ()))
    program = [each for number in refused for each in seccomp._if_call(number, [seccomp._finally(_EPERM)])]
    if name != "apparmor":
        made = [seccomp._argument(0), (seccomp._ANY_BIT, 0, 1, _NAMESPACES), *map(seccomp._finally, (_EPERM, seccomp._ALLOW))]
        program += seccomp._if_call(kernel._CLONE[platform.machine()], made)
        program += seccomp._if_call(_CLONE3, [seccomp._finally(_ENOSYS)])
    kernel.call("prctl", 38, 1, 0, 0, 0)  # as root too, what it may do stays; the filter decides
    seccomp._install([seccomp._load(seccomp._NUMBER), *program, seccomp._finally(seccomp._ALLOW)])


def _become_user_namespace() -> None:
    """Go on in a user namespace of every user where this one is root, else of this user alone: its limits can be set."""
    from sealrun.sandbox import kernel

    user, group = os.geteuid(), os.getegid()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.call("unshare", 0x10000000)
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        return
    os.read(ready[0], 1)
    if user:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
    for name, one in (("uid_map", user), ("gid_map", group)):
        Path(f"/proc/{pid}/{name}").write_text(f"{one} {one} 1" if user else "0 0 4294967295")
    os.write(go[1], b"1")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    _enter_situation(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
