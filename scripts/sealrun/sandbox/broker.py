"""TCP on the loopback where no network namespace can be had: the supervisor makes and connects each socket for the program.

Rules: the program's calls socket, bind, listen and connect are never carried out by the kernel as they stand; the supervisor
does in their place what it allows, on its own copy of the address and its own handle of the socket, so that neither can be
exchanged between the look and the act. Allowed are IPv4 TCP, the address 127.0.0.1 and the one port drawn, and to connect only
once the program itself holds that port; whatever cannot be read or understood is refused with EACCES.

Source: seccomp_unotify(2), linux/seccomp.h.
"""

import errno
import fcntl
import os
import select
import socket
import struct
from contextlib import suppress

from sealrun.sandbox import seccomp

HOST = "127.0.0.1"

_RECEIVE, _ANSWER, _STILL_VALID, _ADD_HANDLE = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_AND_ANSWER = 2  # SECCOMP_ADDFD_FLAG_SEND: the call returns the handle added
_ADDRESS_BYTES = 16
_CONNECT_SECONDS = 1.0  # the loopback answers at once, or its listener's queue is full


class Broker:
    """Serves one program and all it starts. `handle` is to be watched, and `serve` called when it can be read."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._calls = seccomp.machine()
        self._here, self._there = socket.socketpair()
        self._listener: int | None = None
        self._made: dict[int, socket.socket] = {}
        self._bound = False

    @property
    def handle(self) -> int:
        """What becomes readable when there is something to serve."""
        return self._here.fileno() if self._listener is None else self._listener

    def hand_over(self, listener: int) -> None:
        """In the program's process: give the filter's *listener* to the supervisor."""
        socket.send_fds(self._there, [b"l"], [listener])
        os.close(listener)

    def serve(self) -> None:
        """Take the listener over, or answer one call."""
        if self._listener is None:
            self._listener = socket.recv_fds(self._here, 1, 1)[1][0]
            return
        notice = bytearray(80)
        with suppress(OSError):  # the caller has ended meanwhile
            fcntl.ioctl(self._listener, _RECEIVE, notice)
            number, pid = struct.unpack_from("=QI", notice)
            call, *arguments = struct.unpack_from("=i12x6Q", notice, 16)
            try:
                refused = self._act(number, pid, call, arguments)
            except OSError as error:
                refused = error.errno or errno.EACCES
            if refused is not None:
                fcntl.ioctl(self._listener, _ANSWER, struct.pack("=QqiI", number, 0, -refused, 0))

    def _act(self, number: int, pid: int, call: int, arguments: list[int]) -> int | None:
        """Do what was asked; return the error to answer with, 0 for none, None when the answer was given. Raises OSError."""
        if call == self._calls.socket:
            self._make(number, arguments[1])
            return None
        inode = os.stat(f"/proc/{pid}/fd/{arguments[0] & 0xFFFFFFFF}").st_ino  # noqa: PTH116 - a handle, not a file
        made = self._made.get(inode)
        if made is None:
            return errno.EACCES
        if call == self._calls.listen:
            if made.getsockname() != (HOST, self.port):
                return errno.EACCES  # it would listen on every address, at a port of the kernel's choice
            made.listen(max(0, min(arguments[1] & 0xFFFFFFFF, 4096)))
            self._made.pop(inode).close()
            return 0
        if not self._is_ours(number, pid, arguments):
            return errno.EACCES
        if call == self._calls.bind:
            made.bind((HOST, self.port))
            self._bound = True
            return 0
        if not self._bound:
            return errno.EACCES  # whoever listens there is not the program
        self._made.pop(inode)
        with made:
            return _connected(made, self.port)

    def _make(self, number: int, kind: int) -> None:
        """Make a TCP socket and give it to the caller. Raises OSError."""
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        os.set_blocking(made.fileno(), not kind & socket.SOCK_NONBLOCK)
        self._made[os.fstat(made.fileno()).st_ino] = made
        flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
        fcntl.ioctl(self.handle, _ADD_HANDLE, struct.pack("=QIIII", number, _AND_ANSWER, made.fileno(), 0, flags))

    def _is_ours(self, number: int, pid: int, arguments: list[int]) -> bool:
        """Return whether the address that the caller named is the loopback's at the port drawn. Raises OSError."""
        handle = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        try:
            data = os.pread(handle, _ADDRESS_BYTES, arguments[1])
        finally:
            os.close(handle)
        fcntl.ioctl(self.handle, _STILL_VALID, struct.pack("=Q", number))  # else it was another process's memory
        wanted = struct.pack("=H", socket.AF_INET) + struct.pack("!H", self.port) + socket.inet_aton(HOST)
        return arguments[2] & 0xFFFFFFFF == _ADDRESS_BYTES and data[:8] == wanted


def _connected(made: socket.socket, port: int) -> int:
    """Connect; return the error, 0 for none. Waits for a blocking socket, but never for long."""
    blocking = os.get_blocking(made.fileno())
    os.set_blocking(made.fileno(), False)
    try:
        code = made.connect_ex((HOST, port))
        if code == errno.EINPROGRESS and blocking:
            done = select.select([], [made], [], _CONNECT_SECONDS)[1]
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if done else errno.ETIMEDOUT
    finally:
        os.set_blocking(made.fileno(), blocking)
    return code
