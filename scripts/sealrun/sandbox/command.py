"""What is to be run, and what came of it: the values that the barriers and the runner share."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

GIB = 1024**3


class Network(StrEnum):
    DENIED = "denied"
    OPENED = "opened"


class Command(Struct, frozen=True, kw_only=True):
    """One program to run.

    `logs` is an existing folder that receives `NAME.stdout` and `NAME.stderr`; `writable` are existing folders; `guarded` are
    files and folders whose change is found afterwards where a barrier cannot refuse it; `hidden` are files and folders that
    the program cannot read (set when it is started: credentials and keys that it does not name); `timeout` is in seconds of
    wall clock, `memory` in bytes for the program and all it starts, `output_limit` in bytes for all it writes, `processes`
    counts its threads too; `success` are the exit codes of a tool that worked; `strict` refuses all but the strongest barrier.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    logs: Path
    writable: tuple[Path, ...] = ()
    guarded: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    loopback: bool = False
    network: Network = Network.DENIED
    strict: bool = False
    timeout: float = 600.0
    memory: int = 8 * GIB
    processes: int = 512
    output_limit: int = 2 * GIB
    success: tuple[int, ...] = (0,)

    @property
    def stdout(self) -> Path:
        """The file that holds its standard output."""
        return self.logs / f"{self.name}.stdout"

    @property
    def stderr(self) -> Path:
        """The file that holds its standard error."""
        return self.logs / f"{self.name}.stderr"


class Completed(Struct, frozen=True, kw_only=True):
    """A program that worked: exit code, output files, seconds, what the network probe saw, and behind which barrier."""

    exit_code: int
    stdout: Path
    stderr: Path
    seconds: float
    network: Network
    barrier: str
