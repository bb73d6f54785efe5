"""The system calls that the standard library has no word for. Nothing here decides anything.

Source: prctl(2), clone(2), mount(2), mount_setattr(2).
"""

import ctypes
import os
import platform
import select
import signal
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_MOST_CAPABILITIES = 64
_CLONE = {"x86_64": 56, "aarch64": 220}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000


def call(name: str, *arguments: object) -> int:
    """Call the C library's *name*. Raises OSError with its errno."""
    result = int(getattr(_LIBC, name)(*arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def clone(flags: int) -> int:
    """Fork into the new namespaces *flags*; return the child's process id, 0 in the child. Raises OSError.

    No handler of a fork runs, neither Python's nor the C library's: this process may have one thread alone.
    """
    machine = platform.machine()
    if machine not in _CLONE:
        raise OSError(f"no system call numbers are known for {machine}")
    return call("syscall", _CLONE[machine], ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount *source* on *target*. Raises OSError."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    call("mount", *encoded[:3], flags, encoded[3])


def set_readonly(path: str, *, recursive: bool = False, clear: bool = False) -> None:
    """Make the mount at *path* read-only, or writable again. Raises OSError."""
    attributes = struct.pack("QQQQ", 0 if clear else _MOUNT_ATTR_RDONLY, _MOUNT_ATTR_RDONLY if clear else 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    call("syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, attributes, len(attributes))


def end_with_parent(number: int, parent: int | None = None) -> None:
    """Have the kernel send this process the signal *number* when its parent ends; nothing where there is no such thing.

    *parent* is what `handle_of_this` returned in the parent: one that has ended by now sends no signal, so this process ends.
    """
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
    if parent is not None:
        ended = select.poll()  # select(2) takes no handle from 1024 on
        ended.register(parent, select.POLLIN)
        if ended.poll(0):
            os._exit(128 + number)


def handle_of_this() -> int | None:
    """Return a handle that can be read from once this process has ended, in whatever namespace; None where there is no such
    thing. The caller closes it."""
    try:
        return os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return None


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends; nothing where there is no such thing."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)


def renounce_privileges() -> None:
    """Give up every capability for good: no program executed from here on brings one back. Raises OSError."""
    for capability in range(_MOST_CAPABILITIES):
        if _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break
    call("prctl", _PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
