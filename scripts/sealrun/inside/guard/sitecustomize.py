"""The advisory guard: imported by a tool's own interpreter at its start, where no barrier of the kernel can be had.

Rules: Python's own calls to the network, and to write outside the folders named, are refused; the guard holds an honest
program to its word and stops no hostile one (ctypes, another language, a child that is not Python).
"""

import json
import os
import socket
import sys
from typing import Any

_PLAN = json.loads(os.environ.get("SEALRUN_GUARD", "{}"))
_WRITABLE = (*map(os.path.realpath, _PLAN.get("writable", ())), "/dev/null", "/dev/shm")  # noqa: S108
_LOOPBACK = bool(_PLAN.get("loopback"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.mkdir": (0,), "os.link": (0, 1), "os.symlink": (1,),
    "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,), "os.setxattr": (0,), "os.removexattr": (0,),
    "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip
_NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what this program was not given."""
    if event in _NETWORK:
        _refuse_unless(_LOOPBACK and _host(arguments[1]) in _LOCAL, event, arguments[1])
    elif event in _NAMES:
        _refuse_unless(_LOOPBACK and str(arguments[0]) in _LOCAL, event, arguments[0])
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        _refuse_unless(isinstance(arguments[0], int) or _inside(arguments[0]), event, arguments[0])
    elif event in _PATHS:
        for index in _PATHS[event]:
            _refuse_unless(isinstance(arguments[index], int) or _inside(arguments[index]), event, arguments[index])


def _host(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else ""


def _inside(path: Any) -> bool:
    real = os.path.realpath(os.fsdecode(path))
    return any(real == folder or real.startswith(folder + os.sep) for folder in _WRITABLE)


def _refuse_unless(allowed: bool, event: str, what: Any) -> None:
    if not allowed:
        raise PermissionError(f"{event} refused by Sealrun's guard: {what!r}")


def _report() -> None:
    """Try the network, and tell Sealrun what came of it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
            attempt.setblocking(False)
            attempt.connect_ex(("192.0.2.1", 9))
        said = "opened"
    except PermissionError:
        said = "denied"
    handle = int(os.environ.pop("SEALRUN_REPORT"))
    os.write(handle, json.dumps({"network": said}).encode())
    os.close(handle)


if _PLAN:
    sys.addaudithook(guard)
    if "SEALRUN_REPORT" in os.environ:
        _report()
