"""Programs: the only place that starts them.

Rules: a program is an argv list and sees an allow-listed environment; what a stage runs has no network (its own network
namespace, loopback only where asked for), may write only to the folders named and to a private temporary folder, and dies
with its whole process tree (its own PID namespace) when it ends, hangs or when Sealrun ends. The exit codes that mean "it
worked" are named by the caller; everything else is a ToolFailed that quotes the last lines of its standard error.
`network: denied` is said only after a connection was tried inside the sandbox and refused.

Source: namespaces(7), user_namespaces(7), pid_namespaces(7), mount_setattr(2), capabilities(7).
"""

import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from sealrun import clock
from sealrun.errors import ToolFailed

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_PROBE_ADDRESS = ("192.0.2.1", 9)  # TEST-NET-1 (RFC 5737): routed nowhere, so only a missing network refuses at once
_QUOTED_LINES = 12


BARRIER = "namespaces (user, network, PID, mount, IPC)"


class Network(StrEnum):
    DENIED = "denied"
    OPENED = "opened"


class Command(Struct, frozen=True, kw_only=True):
    """One program to run.

    `logs` is an existing folder that receives `NAME.stdout` and `NAME.stderr`; `writable` are existing folders; `timeout`
    is in seconds of wall clock, `output_limit` in bytes per file written; `success` are the exit codes of a tool that worked.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    logs: Path
    writable: tuple[Path, ...] = ()
    loopback: bool = False
    network: Network = Network.DENIED
    timeout: float = 600.0
    output_limit: int = 2 * 1024**3
    success: tuple[int, ...] = (0,)


class Completed(Struct, frozen=True, kw_only=True):
    """A program that worked: its exit code, where its output lies, its duration in seconds, and what the probe saw."""

    exit_code: int
    stdout: Path
    stderr: Path
    seconds: float
    network: Network


@dataclass(frozen=True, kw_only=True)
class Running:
    """A started program; `wait` must be called exactly once."""

    command: Command
    pid: int
    report: int
    started: float

    def wait(self) -> Completed:
        """Return when the program ended. Raises ToolFailed: missing, hanging, crashed, refused by the barrier."""
        command = self.command
        try:
            in_time = self.ended(within=self.started + command.timeout - clock.seconds())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            said = _drain(self.report)
        seconds = clock.seconds() - self.started
        if not in_time:
            raise ToolFailed(_complaint(command, f"still running after {command.timeout:.0f} s, ended"))
        if "error" in said:
            raise ToolFailed(f"{command.name}: {said['error']}")
        if status not in command.success:
            raise ToolFailed(_complaint(command, _ending(status)))
        network = Network(said.get("network", Network.OPENED))
        if network is not command.network:
            raise ToolFailed(
                f"{command.name}: the network is {network}, expected {command.network}; run `invoke doctor`"
            )
        return Completed(
            exit_code=status, stdout=stdout_of(command), stderr=stderr_of(command), seconds=seconds, network=network
        )

    def interrupt(self, number: signal.Signals) -> None:
        """Send the program a signal; it is given the chance to end by itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self, *, within: float) -> bool:
        """Return whether the program ends by itself within that many seconds."""
        handle = os.pidfd_open(self.pid)
        try:
            return bool(select.select([handle], [], [], max(0.0, within))[0])
        finally:
            os.close(handle)


def run(command: Command) -> Completed:
    """Run *command* to its end. Raises ToolFailed."""
    return start(command).wait()


def start(command: Command) -> Running:
    """Start *command* behind its barrier. Raises ToolFailed when there is no such program or no barrier."""
    program = Path(command.argv[0])
    if not program.is_absolute() or not os.access(program, os.X_OK):
        raise ToolFailed(
            f"{command.name}: the program {program} is missing; remove its environment and install it again"
        )
    if command.network is Network.DENIED and sys.platform != "linux":
        raise ToolFailed(f"{command.name}: no network barrier is known for {sys.platform}; run the release on Linux")
    receive, send = os.pipe()
    started = clock.seconds()
    pid = os.fork()
    if pid == 0:
        _become(command, send)
    os.close(send)
    return Running(command=command, pid=pid, report=receive, started=started)


def stdout_of(command: Command) -> Path:
    """Return the file that holds the standard output of *command*."""
    return command.logs / f"{command.name}.stdout"


def stderr_of(command: Command) -> Path:
    """Return the file that holds the standard error of *command*."""
    return command.logs / f"{command.name}.stderr"


def _become(command: Command, send: int) -> NoReturn:
    """In the forked child: raise the barrier, run the program, answer with its exit code. Never returns."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for target, path in ((1, stdout_of(command)), (2, stderr_of(command))):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), target)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (command.output_limit, command.output_limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if command.network is Network.OPENED:
            _execute(command, send)
        _raise_barrier(command)
        os.write(send, json.dumps({"network": _probe_network()}).encode())
        _in_child(lambda: _first_process(command, send), send)
    except BaseException as error:  # noqa: BLE001 - a forked child may not unwind into its parent's code
        os.write(send, json.dumps({"error": f"the sandbox was refused ({error}); run `invoke doctor`"}).encode())
        os._exit(126)


def _raise_barrier(command: Command) -> None:
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    for folder in command.writable:
        _call("mount", bytes(folder), bytes(folder), None, _MS_BIND | _MS_REC, None)
    _set_readonly(Path("/"), recursive=True)
    for folder in command.writable:
        _set_readonly(folder, clear=True)
    if Path("/dev/shm").is_dir():  # noqa: S108 - replaced by a private one
        _call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777")
    if command.loopback:
        _raise_loopback()


def _first_process(command: Command, send: int) -> None:
    """As process 1 of the namespace: run the program, reap strays, end with its exit code."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):  # refused where the outer /proc is masked; the outer one then stays, read-only
        _call("mount", b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)
    _in_child(lambda: _execute(command, send), send)


def _in_child(action: Callable[[], None], send: int) -> NoReturn:
    """Fork, run *action* in the child, and end with the child's exit code."""
    pid = os.fork()
    if pid == 0:
        action()
        os._exit(126)
    os.close(send)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _execute(command: Command, send: int) -> None:
    if command.network is Network.DENIED:
        for capability in range(64):
            if _prctl(_PR_CAPBSET_DROP, capability) != 0:
                break
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    try:
        os.chdir(command.cwd)
        os.execve(command.argv[0], list(command.argv), dict(command.environment))  # noqa: S606
    except OSError as error:
        os.write(send, json.dumps({"error": f"cannot be started ({error.strerror})"}).encode())
        os._exit(127)


def _probe_network() -> Network:
    """Try to reach an address that no network knows; only a missing route counts as denied."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setblocking(False)
        return Network.DENIED if attempt.connect_ex(_PROBE_ADDRESS) == errno.ENETUNREACH else Network.OPENED


def _raise_loopback() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _set_readonly(path: Path, *, recursive: bool = False, clear: bool = False) -> None:
    attributes = struct.pack("QQQQ", 0 if clear else _MOUNT_ATTR_RDONLY, _MOUNT_ATTR_RDONLY if clear else 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    _call("syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, bytes(path), flags, attributes, len(attributes))


def _call(name: str, *arguments: object) -> int:
    """Call the C library's *name*. Raises OSError with its errno."""
    result = int(getattr(_LIBC, name)(*arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int) -> int:
    return int(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _drain(handle: int) -> dict[str, str]:
    """Return what the child reported; the last word wins (a start that failed after the barrier stood)."""
    with open(handle, "rb") as stream:
        data = stream.read()
    said: dict[str, str] = {}
    decoder, text = json.JSONDecoder(), data.decode()
    while text:
        value, end = decoder.raw_decode(text)
        said |= value
        text = text[end:]
    return said


def _ending(status: int) -> str:
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"ended with exit code {status}"


def _complaint(command: Command, what: str) -> str:
    lines = stderr_of(command).read_text("utf-8", "replace").splitlines() if stderr_of(command).exists() else []
    quoted = "".join(f"\n    {line[:300]}" for line in lines[-_QUOTED_LINES:])
    return f"{command.name}: {what}; its output is in {command.logs}{quoted}"


def program(name: str) -> str:
    """Return the absolute path of the host program *name* (git). Raises ToolFailed when it is missing."""
    found = shutil.which(name)
    if found is None:
        raise ToolFailed(f"{name}: not found on PATH; install it")
    return found


_LIBC = ctypes.CDLL(None, use_errno=True)
