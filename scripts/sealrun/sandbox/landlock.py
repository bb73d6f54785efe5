"""Landlock: files are written only below the folders named, what is hidden is not read, and there is no TCP.

Rules: an access that this kernel cannot restrict is not claimed; the process and all it starts are bound for good. Landlock
only ever allows: to hide a file is to allow all that lies beside it and beside its parents, so what appears there later
cannot be read either. On the main barrier it is the second layer, which also closes devices, pipes and sockets that a
read-only mount leaves open.

Source: landlock(7), linux/landlock.h.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sealrun.sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_ASKED, _BELOW_PATH = 1, 1
_WRITE_FILE, _READ_FILE, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 14, 1 << 15
_MAKE_OR_REMOVE, _REFER = sum(1 << bit for bit in range(4, 13)), 1 << 13
_BIND_TCP, _CONNECT_TCP = 1, 2
_NO_ABSTRACT_SOCKETS, _NO_SIGNALS = 1, 2
_ABI_TRUNCATE, _ABI_NETWORK, _ABI_DEVICES, _ABI_SCOPES = 3, 4, 5, 6

LEAST_ABI = _ABI_NETWORK
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom")


def abi() -> int:
    """Return which version of Landlock this kernel offers, 0 for none."""
    with suppress(OSError):
        return kernel.call("syscall", _CREATE, None, ctypes.c_size_t(0), _VERSION_ASKED)
    return 0


def restrict(writable: Iterable[Path], *, hidden: Iterable[Path] = (), network: bool = True) -> None:
    """Bind this process: write below *writable* alone, do not read *hidden*; with `network`, no TCP. Raises OSError."""
    version = abi()
    if version < _ABI_TRUNCATE:
        raise OSError(f"this kernel offers Landlock {version}, expected at least {LEAST_ABI}")
    covered = {os.path.realpath(path) for path in hidden}
    written = _WRITE_FILE | _MAKE_OR_REMOVE | _REFER | _TRUNCATE | (_IOCTL_DEV if version >= _ABI_DEVICES else 0)
    read = _READ_FILE if covered else 0
    tcp = _BIND_TCP | _CONNECT_TCP if network and version >= _ABI_NETWORK else 0
    scopes = _NO_ABSTRACT_SOCKETS | _NO_SIGNALS if version >= _ABI_SCOPES else 0
    attributes = struct.pack("QQQ", written | read, tcp, scopes)[: 24 if scopes else 16]
    rules = kernel.call("syscall", _CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for folder in writable:
            _allow_below(rules, str(folder), written | read)
        for device in _DEVICES:
            with suppress(OSError):  # absent from a small /dev
                _allow_below(rules, device, (written & (_WRITE_FILE | _TRUNCATE | _IOCTL_DEV)) | read)
        for path in _beside(covered):
            with suppress(OSError):  # gone meanwhile, or nothing that this user could open
                _allow_below(rules, path, read)
        kernel.call("syscall", _RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _beside(covered: set[str]) -> Iterator[str]:
    """Yield what lies beside each of *covered* (real paths), and beside each of its parents."""
    parents = {str(parent) for path in covered for parent in Path(path).parents}
    for parent in parents:
        with suppress(OSError):  # cannot be listed: nothing in it can be read then
            for entry in os.scandir(parent):
                if not entry.is_symlink() and entry.path not in parents and entry.path not in covered:
                    yield entry.path


def _allow_below(rules: int, path: str, accesses: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            accesses &= _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
        kernel.call("syscall", _ADD, rules, _BELOW_PATH, struct.pack("=Qi", accesses, handle), 0)
    finally:
        os.close(handle)
