"""A system call filter: which kinds of sockets a program may ask for, and nothing that goes round it.

Rules: a socket of a family that is not on the list is refused, so are io_uring, the calls of another machine's or of the x32
convention, and on the rung without a network namespace every protocol but TCP and every way to connect without `connect`.
A refused call fails with EACCES; a socketpair, which leads nowhere, is not refused.

Source: seccomp(2), linux/filter.h, linux/audit.h.
"""

import ctypes
import errno
import platform
import socket
import struct
from collections.abc import Sequence

from sealrun.sandbox import kernel

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_NUMBER, _ARCHITECTURE = 0, 4
_X32 = 0x40000000
_IO_URING = (425, 426, 427)
_SOCKET_KIND_MASK = 0xF
_MSG_FASTOPEN, _TCP_FASTOPEN_CONNECT = 0x20000000, 30

# The architecture's number, and the system calls filtered: socket, setsockopt, sendto, sendmsg, sendmmsg.
_MACHINES = {"x86_64": (0xC000003E, 41, 54, 44, 46, 307), "aarch64": (0xC00000B7, 198, 208, 206, 211, 269)}

Instruction = tuple[int, int, int, int]


def refuse_sockets_but(families: Sequence[int]) -> None:
    """Bind this process: no socket but of *families*. Raises OSError."""
    architecture, call, *_ = _machine()
    _install([*_own_calls(architecture), *_if_call(call, _one_of(families)), _finally(_ALLOW)])


def refuse_sockets_but_tcp(*, tcp: bool) -> None:
    """Bind this process: no socket at all, or with `tcp` IPv4 TCP ones that connect by `connect` alone. Raises OSError."""
    architecture, call, setsockopt, sendto, sendmsg, sendmmsg = _machine()
    program = _own_calls(architecture)
    program += _if_call(call, _only_tcp() if tcp else [_finally(_REFUSE)])
    for number, flags in ((sendto, 3), (sendmsg, 2), (sendmmsg, 3)):
        program += _if_call(number, [_argument(flags), (_ANY_BIT, 0, 1, _MSG_FASTOPEN), _finally(_REFUSE), _finally(_ALLOW)])
    option = [_argument(2), (_EQUAL, 0, 1, _TCP_FASTOPEN_CONNECT), _finally(_REFUSE), _finally(_ALLOW)]
    program += _if_call(setsockopt, [_argument(1), (_EQUAL, 1, 0, socket.IPPROTO_TCP), _finally(_ALLOW), *option])
    _install([*program, _finally(_ALLOW)])


def refuse_calls(numbers: Sequence[int]) -> None:
    """Bind this process: the system calls *numbers* fail, as a container's own filter makes them. Raises OSError."""
    program = [instruction for number in numbers for instruction in _if_call(number, [_finally(_REFUSE)])]
    _install([_load(_NUMBER), *program, _finally(_ALLOW)])


def _machine() -> tuple[int, int, int, int, int, int]:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(f"no system call numbers are known for {machine}")
    return _MACHINES[machine]


def _own_calls(architecture: int) -> list[Instruction]:
    """Refuse foreign conventions and io_uring; leave the call's number loaded."""
    program = [_load(_ARCHITECTURE), (_EQUAL, 1, 0, architecture), _finally(_REFUSE), _load(_NUMBER)]
    program += [(_AT_LEAST, 0, 1, _X32), _finally(_REFUSE)]
    return program + [each for number in _IO_URING for each in ((_EQUAL, 0, 1, number), _finally(_REFUSE))]


def _if_call(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    """For the call *number* do *then*, which must end; else go on, its number still loaded."""
    return [(_EQUAL, 0, len(then), number), *then]


def _one_of(families: Sequence[int]) -> list[Instruction]:
    allowed = [each for family in families for each in ((_EQUAL, 0, 1, family), _finally(_ALLOW))]
    return [_argument(0), *allowed, _finally(_REFUSE)]


def _only_tcp() -> list[Instruction]:
    refused = _finally(_REFUSE)
    return [
        _argument(0), (_EQUAL, 1, 0, socket.AF_INET), refused,
        _argument(1), (_AND, 0, 0, _SOCKET_KIND_MASK), (_EQUAL, 1, 0, socket.SOCK_STREAM), refused,
        _argument(2), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, socket.IPPROTO_TCP), refused,
        _finally(_ALLOW),
    ]  # fmt: skip


def _load(offset: int) -> Instruction:
    return _LOAD, 0, 0, offset


def _argument(index: int) -> Instruction:
    return _load(16 + 8 * index)  # the low half: these arguments are ints, and both machines are little-endian


def _finally(action: int) -> Instruction:
    return _RETURN, 0, 0, action


def _install(program: Sequence[Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held))
    kernel.call("prctl", _PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(described), 0, 0)
