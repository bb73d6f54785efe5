"""A system call filter: which kinds of sockets a program may ask for, and nothing that goes round it.

Rules: a socket of a family that is not on the list is refused, so are io_uring, the calls of another machine's or of the x32
convention, pairs of datagram sockets (each could be sent from to any Unix address), and on the rung without a network
namespace every protocol but TCP and every way to connect without `connect`. A refused call fails with EACCES; a pair of
stream sockets, which leads nowhere, is not refused.

Source: seccomp(2), linux/filter.h, linux/audit.h.
"""

import ctypes
import errno
import platform
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from sealrun.sandbox import kernel

_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ASK, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.EACCES
_NUMBER, _ARCHITECTURE = 0, 4
_X32 = 0x40000000
_IO_URING = (425, 426, 427)
_SOCKET_KIND_MASK = 0xF
_MSG_FASTOPEN, _TCP_FASTOPEN_CONNECT = 0x20000000, 30


class Machine(NamedTuple):
    """A machine's numbers: its own, and those of the system calls that are filtered."""

    architecture: int
    seccomp: int
    socket: int
    socketpair: int
    bind: int
    listen: int
    connect: int
    setsockopt: int
    sendto: int
    sendmsg: int
    sendmmsg: int


_MACHINES = {
    "x86_64": Machine(0xC000003E, 317, 41, 53, 49, 50, 42, 54, 44, 46, 307),
    "aarch64": Machine(0xC00000B7, 277, 198, 199, 200, 201, 203, 208, 206, 211, 269),
}

Instruction = tuple[int, int, int, int]


def refuse_sockets_but(families: Sequence[int]) -> None:
    """Bind this process: no socket but of *families*. Raises OSError."""
    calls = machine()
    _install([*_own_calls(calls), *_if_call(calls.socket, _one_of(families)), _finally(_ALLOW)])


def refuse_sockets_but_tcp(*, tcp: bool) -> None:
    """Bind this process: no socket at all, or with `tcp` IPv4 TCP ones that connect by `connect` alone. Raises OSError."""
    calls = machine()
    _install(
        [*_only_connect(calls), *_if_call(calls.socket, _only_tcp(_ALLOW) if tcp else [_finally(_REFUSE)]), _finally(_ALLOW)]
    )


def ask_for_sockets() -> int:
    """Bind this process: each IPv4 TCP socket, and whatever binds, listens or connects, has to be asked for.

    Returns the handle on which a supervisor hears and answers. Raises OSError.
    """
    calls = machine()
    asked = [each for number in (calls.bind, calls.listen, calls.connect) for each in _if_call(number, [_finally(_ASK)])]
    program = [*_only_connect(calls), *asked, *_if_call(calls.socket, _only_tcp(_ASK)), _finally(_ALLOW)]
    return _install(program, _NEW_LISTENER | _WAIT_KILLABLE)


def machine() -> Machine:
    """Return the numbers of this machine. Raises OSError where they are not known."""
    name = platform.machine()
    if name not in _MACHINES:
        raise OSError(f"no system call numbers are known for {name}")
    return _MACHINES[name]


def _own_calls(calls: Machine) -> list[Instruction]:
    """Refuse foreign conventions, io_uring and datagram pairs; leave the call's number loaded."""
    program = [_load(_ARCHITECTURE), (_EQUAL, 1, 0, calls.architecture), _finally(_REFUSE), _load(_NUMBER)]
    program += [(_AT_LEAST, 0, 1, _X32), _finally(_REFUSE)]
    program += [each for number in _IO_URING for each in ((_EQUAL, 0, 1, number), _finally(_REFUSE))]
    connected = [(_EQUAL, 1, 0, socket.SOCK_STREAM), (_EQUAL, 0, 1, socket.SOCK_SEQPACKET), _finally(_ALLOW), _finally(_REFUSE)]
    return program + _if_call(calls.socketpair, [_argument(1), (_AND, 0, 0, _SOCKET_KIND_MASK), *connected])


def _only_connect(calls: Machine) -> list[Instruction]:
    """Refuse to connect by sending, in addition; leave the call's number loaded."""
    program = _own_calls(calls)
    for number, flags in ((calls.sendto, 3), (calls.sendmsg, 2), (calls.sendmmsg, 3)):
        program += _if_call(number, [_argument(flags), (_ANY_BIT, 0, 1, _MSG_FASTOPEN), _finally(_REFUSE), _finally(_ALLOW)])
    option = [_argument(2), (_EQUAL, 0, 1, _TCP_FASTOPEN_CONNECT), _finally(_REFUSE), _finally(_ALLOW)]
    return program + _if_call(calls.setsockopt, [_argument(1), (_EQUAL, 1, 0, socket.IPPROTO_TCP), _finally(_ALLOW), *option])


def _if_call(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    """For the call *number* do *then*, which must end; else go on, its number still loaded."""
    return [(_EQUAL, 0, len(then), number), *then]


def _one_of(families: Sequence[int]) -> list[Instruction]:
    allowed = [each for family in families for each in ((_EQUAL, 0, 1, family), _finally(_ALLOW))]
    return [_argument(0), *allowed, _finally(_REFUSE)]


def _only_tcp(then: int) -> list[Instruction]:
    refused = _finally(_REFUSE)
    return [
        _argument(0), (_EQUAL, 1, 0, socket.AF_INET), refused,
        _argument(1), (_AND, 0, 0, _SOCKET_KIND_MASK), (_EQUAL, 1, 0, socket.SOCK_STREAM), refused,
        _argument(2), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, socket.IPPROTO_TCP), refused,
        _finally(then),
    ]  # fmt: skip


def _load(offset: int) -> Instruction:
    return _LOAD, 0, 0, offset


def _argument(index: int) -> Instruction:
    return _load(16 + 8 * index)  # the low half: these arguments are ints, and both machines are little-endian


def _finally(action: int) -> Instruction:
    return _RETURN, 0, 0, action


def _install(program: Sequence[Instruction], flags: int = 0) -> int:
    """Install the filter; return the listener's handle where *flags* ask for one."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held))
    return kernel.call("syscall", machine().seccomp, _SET_MODE_FILTER, flags, ctypes.c_char_p(described))
