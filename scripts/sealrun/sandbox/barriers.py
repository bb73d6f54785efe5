"""The ladder of barriers, from the strongest down, and the choice among them.

Rules: the choice is made once per process, by raising the barrier in a trial process, never by looking at settings; each rung
says what it does not stop; only the last is no barrier of the kernel's, and production refuses it. `SEALRUN_BARRIER` names
the one rung to use, for trials and in research; production takes the strongest.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sealrun import settings
from sealrun.errors import ToolFailed, UsageError
from sealrun.sandbox import bwrap, kernel, landlock, namespaces, seatbelt, seccomp
from sealrun.sandbox.command import Command

_SETTING = "SEALRUN_BARRIER"
_METADATA = "modes, owners, times and extended attributes of files that the user owns (found afterwards for guarded ones)"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the machine's own, on this rung alone
ONE_SETTING = (
    "allow unprivileged user namespaces for this machine (Ubuntu: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`), "
    "or in a container start it with a seccomp profile that allows Landlock (Docker 23 or newer) "
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One barrier. `leaves` is what it does not stop; `offered` returns "" when this machine has it, else why not."""

    name: str
    words: str
    leaves: tuple[str, ...]
    offered: Callable[[], str]
    kernel: bool = True


def _tried(trial: Callable[[], None]) -> str:
    """Run *trial* in a child process. Returns "" when it worked, else what stood against it."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trial()
        except BaseException as error:  # noqa: BLE001 - a forked child may not unwind into its parent's code
            os.write(send, str(error).encode()[:1000] or b"refused")
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        said = stream.read().decode("utf-8", "replace")
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said or ("" if ended == 0 else f"the trial ended with {ended}")


def _namespaces_offered() -> str:
    if sys.platform != "linux":
        return "Linux only"

    def trial() -> None:
        namespaces.enter(_TRIAL)
        namespaces.confine(_TRIAL)

    return _tried(trial)


def _bwrap_offered() -> str:
    path = bwrap.program()
    if path is None:
        return "bwrap is not installed"
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(send, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        argv = bwrap.argv(_TRIAL, ("/bin/sh", "-c", ":"))
        os.execve(path, argv, {})  # noqa: S606
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        said = stream.read().decode("utf-8", "replace").strip()
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "" if ended == 0 else said or f"bwrap ended with {ended}"


def _landlock_offered() -> str:
    if sys.platform != "linux":
        return "Linux only"
    if landlock.abi() < landlock.LEAST_ABI:
        return f"the kernel offers Landlock {landlock.abi()}, expected at least {landlock.LEAST_ABI} (Linux 6.7)"

    def trial() -> None:
        confine_by_landlock(_TRIAL, None)

    return _tried(trial)


def confine_by_landlock(command: Command, port: int | None) -> None:
    """Bind this process by Landlock and the system call filter; *port* is the loopback's one. Raises OSError."""
    kernel.renounce_privileges()
    shared = [_SHARED_MEMORY] if _SHARED_MEMORY.is_dir() else []  # named semaphores have no other place
    landlock.restrict((*command.writable, *shared), port=port)
    seccomp.refuse_sockets_but_tcp(tcp=port is not None)


def _seatbelt_offered() -> str:
    return "" if sys.platform == "darwin" and os.access(seatbelt.PROGRAM, os.X_OK) else "macOS only"


LADDER: tuple[Rung, ...] = (
    Rung(
        name="namespaces",
        words="namespaces (user, network, PID, mount, IPC) with Landlock where offered, and a system call filter",
        leaves=("reading of files that the user can read, but for those hidden",),
        offered=_namespaces_offered,
    ),
    Rung(
        name="bwrap",
        words="bubblewrap (user, network, PID, mount, IPC namespaces) and a system call filter",
        leaves=("reading of files that the user can read, but for those hidden", "named pipes of others"),
        offered=_bwrap_offered,
    ),
    Rung(
        name="landlock",
        words="Landlock and a system call filter",
        leaves=(
            "reading of files that the user can read",
            _METADATA,
            f"writing to {_SHARED_MEMORY}",
            "the list of the machine's processes",
            "where the loopback is asked for: TCP to the one port drawn for it, of any host",
        ),
        offered=_landlock_offered,
    ),
    Rung(
        name="seatbelt",
        words="macOS sandbox-exec",
        leaves=("reading of files that the user can read, but for those hidden", "descendants that leave their session"),
        offered=_seatbelt_offered,
    ),
    Rung(
        name="advisory",
        words="Python's audit hook, advisory",
        leaves=("anything that a program does other than by Python's own calls",),
        offered=lambda: "",
        kernel=False,
    ),
)  # fmt: skip
_TRIAL = Command(name="trial", argv=("/bin/true",), cwd=Path("/"), environment={}, logs=Path("/"))


@cache
def offered(name: str) -> str:
    """Return "" when this machine has the barrier *name*, else why not; tried once per process."""
    return named(name).offered()


def named(name: str) -> Rung:
    """Return the rung *name*. Raises UsageError naming the known ones."""
    for rung in LADDER:
        if rung.name == name:
            return rung
    raise UsageError(f"{_SETTING}: got {name!r}, expected one of {', '.join(rung.name for rung in LADDER)}, or unset")


def chosen(*, strict: bool) -> Rung:
    """Return the barrier to use; `strict` (production) takes the strongest, and none that is advisory.

    Raises UsageError (SEALRUN_BARRIER in production, or a rung that this machine lacks) or ToolFailed (no barrier at all).
    """
    asked = settings.variable(_SETTING)
    if asked:
        rung = named(asked)
        if strict and rung is not _strongest():
            raise UsageError(f"{_SETTING}: got {asked}, expected it unset: production takes the strongest barrier")
        if reason := offered(rung.name):
            raise ToolFailed(f"the barrier {rung.name} cannot be had ({reason}); unset {_SETTING}, or run `invoke doctor`")
        return rung
    strongest = _strongest()
    if strict and not strongest.kernel:
        reasons = "; ".join(f"{rung.name}: {offered(rung.name)}" for rung in LADDER if rung.kernel)
        raise ToolFailed(f"no barrier of the kernel's can be had ({reasons}); {ONE_SETTING}")
    return strongest


def _strongest() -> Rung:
    return next(rung for rung in LADDER if not offered(rung.name))
