"""A program and all that it starts: kept within its limits, and ended together.

Rules: the supervisor lies outside the program's reach (process 1 of its namespace, or its adopting parent); it passes an
interrupt on to every descendant, ends all of them when the program ends, when it is told to, or when its own parent is gone.
Memory and written bytes are those of the whole tree, looked at four times a second; a single process is also bound by the
kernel at once.
"""

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sealrun.sandbox import kernel
from sealrun.sandbox.broker import Broker
from sealrun.sandbox.command import Command, Network

REFUSED = 126
_LOOK_SECONDS, _LOOKS_PER_WALK = 0.25, 4
_NOBODY_SECONDS = 0.002
NOTICED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def bound(command: Command) -> None:
    """Set the limits that the kernel holds for each process by itself."""
    limits = {
        resource.RLIMIT_FSIZE: command.output_limit,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: command.memory,  # not RLIMIT_AS: runtimes reserve far more addresses than they use
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def supervise(
    command: Command, program: Callable[[], None], complain: Callable[[str], None], broker: Broker | None = None
) -> NoReturn:
    """Fork; run *program*, which must execute something, in the child; watch and serve it, and end with its exit code."""
    kernel.adopt_orphans()
    noticed, notify = os.pipe()
    os.set_blocking(noticed, False)
    os.set_blocking(notify, False)
    for number in NOTICED:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(notify)
    child = os.fork()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTICED)
    if child == 0:
        signal.set_wakeup_fd(-1)
        for number in (*NOTICED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        program()
        os._exit(REFUSED)
    _watch(command, child, noticed, complain, broker)


def _watch(command: Command, child: int, noticed: int, complain: Callable[[str], None], broker: Broker | None) -> NoReturn:
    wait = _LOOK_SECONDS if command.network is Network.DENIED and _PROC.is_dir() else None
    looks, looked = 0, time.monotonic()
    while True:
        _wait(noticed, broker, wait)
        signals = _read(noticed)
        if signal.SIGINT in signals:
            _signal(_descendants(), signal.SIGINT)
        if signal.SIGTERM in signals:
            _end_with(128 + signal.SIGTERM)
        ended = _reaped(child)
        if ended is not None:
            _end_with(ended if ended >= 0 else 128 - ended)
        if wait and time.monotonic() - looked >= wait:
            looks, looked = looks + 1, time.monotonic()
            if excess := _excess(command, _descendants(), walk=looks % _LOOKS_PER_WALK == 0):
                complain(excess)
                _end_with(REFUSED)


def _wait(noticed: int, broker: Broker | None, seconds: float | None) -> None:
    """Return when a signal was noticed, something was served, or the time is over."""
    waiting = select.poll()
    waiting.register(noticed, select.POLLIN)
    if broker:
        waiting.register(broker.handle, select.POLLIN)
    for handle, what in waiting.poll(None if seconds is None else 1000 * seconds):
        if broker and handle == broker.handle and what & select.POLLIN:
            broker.serve()
        elif handle != noticed and what & select.POLLHUP:
            time.sleep(_NOBODY_SECONDS)  # nobody is left who could ask; their end is noticed soon


def _excess(command: Command, pids: list[int], *, walk: bool) -> str:
    """Return which limit the tree is over, "" for none."""
    threads, memory = 0, 0
    for pid in pids:
        with suppress(OSError, ValueError):
            resident, shared = (_PROC / str(pid) / "statm").read_bytes().split()[1:3]
            memory += (int(resident) - int(shared)) * _PAGE
            threads += len(os.listdir(_PROC / str(pid) / "task"))  # noqa: PTH208 - counted, not read
    if threads > command.processes:
        return f"more than {command.processes} processes and threads, ended"
    if memory > command.memory:
        return f"more than {command.memory} bytes of memory, ended"
    if walk and sum(map(_written, command.writable)) > command.output_limit:
        return f"wrote more than {command.output_limit} bytes, ended"
    return ""


def _written(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - a walk of many files
    return total


def _end_with(code: int) -> NoReturn:
    """End every descendant, then this process; with process 1 of a namespace, the kernel ends all others."""
    while os.getpid() != 1 and (pids := _descendants()):
        _signal(pids, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)
    os._exit(code)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _reaped(child: int) -> int | None:
    """Reap what ended; return the exit code of *child* when it is among it."""
    code = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
    return code


def _read(handle: int) -> bytes:
    with suppress(BlockingIOError):
        return os.read(handle, 4096)
    return b""


def _descendants() -> list[int]:
    """Return every process below this one; none where the system does not tell."""
    try:
        own = int(os.readlink(_PROC / "self"))  # noqa: PTH115
        parents = [_parent_of(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - names alone
    except OSError:
        return []
    children: dict[int, list[int]] = {}
    for pid, parent in parents:
        children.setdefault(parent, []).append(pid)
    found, level = [], children.get(own, [])
    while level:
        found += level
        level = [child for pid in level for child in children.get(pid, ())]
    return found


def _parent_of(name: str) -> tuple[int, int]:
    try:
        fields = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # ended meanwhile
        return int(name), -1
    return int(name), int(fields[1])
