"""The main barrier: user, network, PID, mount and IPC namespaces, with Landlock and a system call filter as a second layer.

Rules: everything is read-only but the folders named; `/dev` holds harmless devices alone, `/proc` is the namespace's own and
read-only (as root, `/proc/sys` would be writable otherwise), `/dev/shm` is private; no socket leaves the namespace: families
that namespaces do not hold (vsock), and Unix sockets, behind which host services answer, are refused by the filter.

Source: namespaces(7), user_namespaces(7), pid_namespaces(7), mount_setattr(2), capabilities(7).
"""

import fcntl
import os
import resource
import signal
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

from sealrun.sandbox import kernel, landlock, seccomp
from sealrun.sandbox.command import Command

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_DEVICES = {"null", "zero", "full", "random", "urandom", "tty", "dri", "kfd", "accel"}
_ACCELERATOR = "nvidia"
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_LEAST_PID_MAX = 301
_FAMILIES = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_NETLINK", 16))  # all three held by the namespace


_NEW = _NEWNS | _NEWIPC | _NEWUSER | _NEWPID | _NEWNET
_REFUSED = 126


def fork(parent: int | None = None) -> int:
    """Fork; the child is process 1 of new namespaces. Returns its process id, 0 in the child. Raises OSError.

    *parent* is a handle of this process, None for a child that ends by itself. Where there are threads, whose locks a child
    would inherit, another child stands between and passes on signals, which are blocked when this is called.
    """
    if len(os.listdir("/proc/self/task")) == 1:  # noqa: PTH208 - counted, not read
        return kernel.clone(_NEW)
    between = os.fork()
    if between != 0:
        return between
    kernel.end_with_parent(signal.SIGTERM, parent)
    try:
        first = kernel.clone(_NEW)
    except OSError:
        os._exit(_REFUSED)
    if first == 0:
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(first, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def enter(command: Command, user: int, group: int) -> None:
    """As process 1 of the new namespaces, made by *user* and *group*: put up the barrier. Raises OSError."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    resource.setrlimit(resource.RLIMIT_NPROC, (command.processes, command.processes))  # counted per user namespace
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    for folder in command.writable:
        kernel.mount(str(folder), str(folder), None, kernel.MS_BIND | kernel.MS_REC)
    for path in command.hidden:
        if path.is_dir():
            kernel.mount("tmpfs", str(path), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "mode=000")
        else:
            kernel.mount(os.devnull, str(path), None, kernel.MS_BIND)
    kernel.set_readonly("/", recursive=True)
    for folder in command.writable:
        kernel.set_readonly(str(folder), clear=True)
    _few_devices()
    if command.loopback:
        _raise_loopback()
    _own_processes(command)


def confine(command: Command) -> None:
    """As the program's process, last of all: no capability, no foreign socket, no device, no pipe of others. Raises OSError."""
    kernel.renounce_privileges()
    if landlock.abi() >= landlock.LEAST_ABI:
        shared = Path("/dev/shm")  # noqa: S108 - a private one by now
        landlock.restrict((*command.writable, *([shared] if shared.is_dir() else [])), network=False)
    seccomp.refuse_sockets_but(_FAMILIES)


def _own_processes(command: Command) -> None:
    """See this namespace's processes alone. Where the outer `/proc` is masked it stays, read-only."""
    with suppress(OSError):
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        with suppress(OSError):  # a limit of the namespace's own since Linux 6.14, the host's before and then refused
            if _pid_max_is_ours():
                _write("/proc/sys/kernel/pid_max", str(max(command.processes, _LEAST_PID_MAX)))
        kernel.set_readonly("/proc")


def _few_devices() -> None:
    """Put a `/dev` in place of the host's that holds the devices named and a private shm."""
    held = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in _device_names()}
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755")
    for name, handle in held.items():
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(f"/dev/{name}")  # noqa: PTH102
        else:
            os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
        kernel.mount(f"/proc/self/fd/{handle}", f"/dev/{name}", None, kernel.MS_BIND | kernel.MS_REC)
        os.close(handle)
    for name, target_text in _LINKS.items():
        os.symlink(target_text, f"/dev/{name}")  # noqa: PTH211
    Path("/dev/shm").mkdir()  # noqa: S108 - inside the private /dev
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")  # noqa: S108
    kernel.set_readonly("/dev")


def _device_names() -> list[str]:
    return [name for name in os.listdir("/dev") if name in _DEVICES or name.startswith(_ACCELERATOR)]  # noqa: PTH208


def _pid_max_is_ours() -> bool:
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (6, 14)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _write(path: str, text: str) -> None:
    Path(path).write_bytes(text.encode())  # no codec has to be found, whoever this process has become
