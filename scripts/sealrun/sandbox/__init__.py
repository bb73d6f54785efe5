"""Programs: the only place that starts them.

Rules: a program is an argv list and sees an allow-listed environment; what a stage runs has no network (loopback only where
asked for), may write only to the folders named and to a private temporary folder, is kept within its limits, and dies with
its whole process tree when it ends, hangs or when Sealrun ends. Which barrier holds it is chosen once per process, by trial
(`barriers`). The exit codes that mean "it worked" are named by the caller; everything else is a ToolFailed that quotes the
last lines of its standard error. Secrets are masked in what it printed before anybody reads that. `network: denied` is said
only after a connection was tried inside the sandbox and refused.
"""

import gc
import json
import os
import select
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from msgspec import structs

from sealrun import clock, masking, settings
from sealrun.errors import ToolFailed
from sealrun.sandbox import advisory, barriers, bwrap, kernel, namespaces, probe, seatbelt, supervise
from sealrun.sandbox.barriers import Rung
from sealrun.sandbox.broker import Broker
from sealrun.sandbox.command import Command, Completed, Network

__all__ = ["Command", "Completed", "Network", "Running", "end_with_parent", "program", "run", "start"]

_BEHIND = Path(__file__).with_name("behind.py")
_QUOTED_LINES = 12
_GRACE_SECONDS = 5.0
_OPEN = "none"  # the barrier of a program that was given the network


@dataclass(frozen=True, kw_only=True)
class Running:
    """A started program; one of `wait` and `end` must be called, once. `alive` ends when its supervisor has."""

    command: Command
    barrier: str
    pid: int
    report: int
    alive: int
    started: float
    before: dict[str, int]

    def wait(self) -> Completed:
        """Return when the program ended. Raises ToolFailed: missing, hanging, crashed, over a limit, no barrier."""
        command = self.command
        try:
            in_time = self.ended(within=self.started + command.timeout - clock.seconds())
        finally:
            status, said = self._end()
        seconds = clock.seconds() - self.started
        if not in_time:
            raise ToolFailed(_complaint(command, f"still running after {command.timeout:.0f} s, ended"))
        if "limit" in said:
            raise ToolFailed(_complaint(command, said["limit"]))
        if "error" in said:
            raise ToolFailed(f"{command.name}: {said['error']}")
        if changed := sorted(path for path, when in self.before.items() if _changed_at(path) != when):
            raise ToolFailed(f"{command.name}: {changed[0]} was changed while it ran; restore it, and run the stage again")
        if status not in command.success:
            raise ToolFailed(_complaint(command, _ending(status)))
        network = Network(said.get("network", Network.OPENED))
        if network is not command.network:
            raise ToolFailed(f"{command.name}: the network is {network}, expected {command.network}; run `invoke doctor`")
        return Completed(
            exit_code=status, stdout=command.stdout, stderr=command.stderr, seconds=seconds, network=network,
            barrier=self.barrier,
        )  # fmt: skip

    def interrupt(self) -> None:
        """Send the program and all it started an interrupt, and go on."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def end(self, *, within: float) -> None:
        """End the program and all it started, unless it ends by itself *within* that many seconds."""
        try:
            self.ended(within=within)
        finally:
            self._end()

    def ended(self, *, within: float) -> bool:
        """Return whether the program ends by itself within that many seconds."""
        return bool(select.select([self.alive], [], [], max(0.0, within))[0])

    def _end(self) -> tuple[int, dict[str, str]]:
        """Have the supervisor end what is left; return its exit code and what was reported."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.ended(within=_GRACE_SECONDS)
        for end in (os.killpg, os.kill):  # it may not have come to lead a group of its own
            with suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)
        os.close(self.alive)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        masking.mask_file(self.command.stdout, shapes=False)  # often read by machine: no guessing there
        masking.mask_file(self.command.stderr)
        return status, _drain(self.report)


def run(command: Command) -> Completed:
    """Run *command* to its end. Raises ToolFailed."""
    return start(command).wait()


def start(command: Command) -> Running:
    """Start *command* behind the barrier chosen. Raises ToolFailed when there is no such program or no barrier."""
    path = Path(command.argv[0])
    if not path.is_absolute() or not os.access(path, os.X_OK):
        raise ToolFailed(f"{command.name}: the program {path} is missing; remove its environment and install it again")
    rung = barriers.chosen(strict=command.strict) if command.network is Network.DENIED else None
    if rung:
        command = structs.replace(command, hidden=settings.hidden_places(command.argv))
    before = _changes(command.guarded) if rung and rung.name in ("landlock", "advisory") else {}
    broker = Broker(_free_port()) if rung and rung.name == "landlock" and command.loopback else None
    receive, send = os.pipe()
    alive, held = os.pipe()
    started, this = clock.seconds(), kernel.handle_of_this()
    streams = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in (command.stdout, command.stderr)]
    owner = os.geteuid(), os.getegid()
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, supervise.NOTICED)  # kept for the child until it can notice them
    try:
        pid = namespaces.fork(this) if rung and rung.name == "namespaces" else os.fork()
        if pid == 0:
            _become(command, rung, broker, send, streams, owner, this)
    except OSError as error:
        os.close(receive)
        os.close(alive)
        raise ToolFailed(f"{command.name}: no process can be started ({error.strerror}); run `invoke doctor`") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        for handle in (send, held, *streams, *(() if this is None else (this,))):
            os.close(handle)
    return Running(
        command=command, barrier=rung.name if rung else _OPEN, pid=pid, report=receive, alive=alive, started=started,
        before=before,
    )  # fmt: skip


def end_with_parent() -> None:
    """Have this process interrupted when the one that started it ends, and treat a request to end as an interrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kernel.end_with_parent(signal.SIGTERM)


def program(name: str) -> str:
    """Return the absolute path of the host program *name* (git). Raises ToolFailed when it is missing."""
    found = shutil.which(name)
    if found is None:
        raise ToolFailed(f"{name}: not found on PATH; install it")
    return found


def _become(
    command: Command,
    rung: Rung | None,
    broker: Broker | None,
    send: int,
    streams: Sequence[int],
    owner: tuple[int, int],
    parent: int | None,
) -> NoReturn:
    """In the forked child: raise the barrier, run the program, answer with its exit code. Never returns."""
    try:
        gc.disable()  # a collection would copy every page that this process shares with its parent
        os.setsid()
        kernel.end_with_parent(signal.SIGKILL if rung and rung.name == "namespaces" else signal.SIGTERM, parent)
        for target, handle in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
            os.dup2(handle, target)
        if rung is None:
            _supervise(command, send, lambda: _execute(command, send, command.argv, command.environment))
        supervise.bound(command)
        if rung.name == "namespaces":
            namespaces.enter(command, *owner)
        _supervise(command, send, lambda: _confined(command, rung, broker, send), broker)
    except BaseException as error:  # noqa: BLE001 - a forked child may not unwind into its parent's code
        probe.report(send, error=f"the sandbox was refused ({error}); run `invoke doctor`")
        os._exit(supervise.REFUSED)


def _confined(command: Command, rung: Rung, broker: Broker | None, send: int) -> None:
    """In the program's process: confine it, try the network, and become it."""
    try:
        environment, argv = dict(command.environment), command.argv
        if rung.name == "namespaces":
            namespaces.confine(command)
            probe.report(send, network=probe.network())
        elif rung.name == "landlock":
            listener = barriers.confine_by_landlock(command, loopback=broker is not None)
            if broker:
                broker.hand_over(listener)
                environment["SEALRUN_LOOPBACK_PORT"] = str(broker.port)
            probe.report(send, network=probe.network())
        elif rung.name == "advisory":
            os.set_inheritable(send, True)
            argv, environment = advisory.argv(command), dict(advisory.environment(command, send))
        else:
            os.set_inheritable(send, True)
            kinds = {"bwrap": "tcp" if command.loopback else "none", "seatbelt": "keep"}
            behind = (settings.interpreter(), "-I", "-B", str(_BEHIND), str(send), kinds[rung.name], *command.argv)
            argv = bwrap.argv(command, behind) if rung.name == "bwrap" else seatbelt.argv(command, behind)
        _execute(command, send, argv, environment)
    except Exception as error:  # noqa: BLE001 - as above
        probe.report(send, error=f"the barrier {rung.name} was refused ({error}); run `invoke doctor`")


def _supervise(command: Command, send: int, confined: Callable[[], None], broker: Broker | None = None) -> NoReturn:
    supervise.supervise(command, confined, lambda limit: probe.report(send, limit=limit), broker)


def _execute(command: Command, send: int, argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
    try:
        os.chdir(command.cwd)
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606
    except OSError as error:
        probe.report(send, error=f"cannot be started ({error.strerror})")


def _free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as drawn:
        drawn.bind(("127.0.0.1", 0))
        return int(drawn.getsockname()[1])


def _changes(guarded: tuple[Path, ...]) -> dict[str, int]:
    """Return when each file below *guarded* was last changed in any way (content, mode, times, attributes)."""
    paths = [path for top in guarded for path in (top, *(top.rglob("*") if top.is_dir() else ()))]
    return {str(path): _changed_at(str(path)) for path in paths}


def _changed_at(path: str) -> int:
    try:
        return os.lstat(path).st_ctime_ns
    except FileNotFoundError:
        return -1


def _drain(handle: int) -> dict[str, str]:
    """Return what the child reported; the last word wins (a start that failed after the barrier stood)."""
    with os.fdopen(handle, "rb") as stream:
        data = stream.read()
    said: dict[str, str] = {}
    decoder, text = json.JSONDecoder(), data.decode()
    while text:
        value, end = decoder.raw_decode(text)
        said |= value
        text = text[end:]
    return said


def _ending(status: int) -> str:
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"ended with exit code {status}"


def _complaint(command: Command, what: str) -> str:
    lines = command.stderr.read_text("utf-8", "replace").splitlines() if command.stderr.exists() else []
    quoted = "".join(f"\n    {line[:300]}" for line in lines[-_QUOTED_LINES:])
    return f"{command.name}: {what}; its output is in {command.logs}{quoted}"
