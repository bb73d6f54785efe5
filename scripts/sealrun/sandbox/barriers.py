"""The ladder of barriers, from the strongest down, and the choice among them.

Rules: the choice is made once per process, by raising the barrier in a trial process, never by looking at settings; each rung
says what it does not stop; only the last is no barrier of the kernel's: it is never chosen, only asked for, with a loud
warning. `SEALRUN_BARRIER` names the one rung to use, for trials and in research; production takes the strongest.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
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
_SWITCHES = (  # what turns user namespaces off, its value then, and what to set
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One barrier. `leaves` is what it does not stop; `offered` returns "" when this machine has it, else why not."""

    name: str
    words: str
    leaves: tuple[str, ...]
    offered: Callable[[], str]
    kernel: bool = True


def _tried(trial: Callable[[], None], fork: Callable[[], int] = os.fork) -> str:
    """Run *trial* in a child process. Returns "" when it worked, else what stood against it."""
    receive, send = os.pipe()
    try:
        pid = fork()
    except OSError as error:
        os.close(receive)
        os.close(send)
        return str(error)
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

    user, group = os.geteuid(), os.getegid()

    def trial() -> None:
        namespaces.enter(_TRIAL, user, group)
        namespaces.confine(_TRIAL)

    return _tried(trial, namespaces.fork)


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
        os.close(confine_by_landlock(_TRIAL, loopback=True))

    return _tried(trial)


def confine_by_landlock(command: Command, *, loopback: bool) -> int:
    """Bind this process by Landlock and the system call filter. Raises OSError.

    With `loopback`, returns the handle on which the program's sockets are asked for; else -1, and it can have none.
    """
    kernel.renounce_privileges()
    shared = [_SHARED_MEMORY] if _SHARED_MEMORY.is_dir() else []  # named semaphores have no other place
    landlock.restrict((*command.writable, *shared), hidden=command.hidden)
    if loopback:
        return seccomp.ask_for_sockets()
    seccomp.refuse_sockets_but_tcp(tcp=False)
    return -1


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
            "reading of files that the user can read, but for those hidden",
            _METADATA,
            f"writing to {_SHARED_MEMORY}, and System V shared memory",
            "the list of the machine's processes, and before Linux 6.12 signals to those of the user",
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


def setting() -> str:
    """Return the one setting to change where no barrier, or only a weak one, can be had."""
    if settings.host_facts()["container"] != "none":
        return (
            "start the container with a seccomp profile that allows Landlock, as Docker's does since 23, on Linux 6.7 or newer"
        )
    for path, off, wanted in _SWITCHES:
        with suppress(OSError):
            if Path(path).read_text("ascii").strip() == off:
                return f"allow unprivileged user namespaces: `sysctl -w {wanted}`"
    return "install bubblewrap, or use Linux 6.7 or newer with Landlock"


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
    """Return the barrier to use: the strongest of the kernel's, or the one that SEALRUN_BARRIER names.

    `strict` (production) takes nothing but the strongest. Raises UsageError (SEALRUN_BARRIER in production) or ToolFailed (no
    barrier of the kernel's at all, or one named that this machine lacks).
    """
    asked = settings.variable(_SETTING)
    rung = named(asked) if asked else None
    if rung and not rung.kernel and not strict:
        _warn()
        return rung
    strongest = _strongest()
    if rung and strict and rung is not strongest:
        raise UsageError(f"{_SETTING}: got {asked}, expected it unset: production takes the strongest barrier")
    if rung and (reason := offered(rung.name)):
        raise ToolFailed(f"the barrier {rung.name} cannot be had ({reason}); unset {_SETTING}, or run `invoke doctor`")
    return rung or strongest


def _strongest() -> Rung:
    for rung in LADDER:
        if rung.kernel and not offered(rung.name):
            return rung
    reasons = "; ".join(f"{rung.name}: {offered(rung.name)}" for rung in LADDER if rung.kernel)
    raise ToolFailed(f"no barrier of the kernel's can be had ({reasons}); {setting()}")


@cache
def _warn() -> None:
    """Say once, loudly, that nothing holds a hostile program."""
    print(
        f"sealrun: WARNING: NOT CONFINED: {_SETTING}=advisory asks for Python's own audit hook alone, which stops no "
        f"hostile program; statements will say that the network was open; unset it, or {setting()}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
