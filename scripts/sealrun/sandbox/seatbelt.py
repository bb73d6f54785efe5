"""The barrier of macOS: `sandbox-exec` with a profile made for the command.

Rules: everything is refused that is not named here; reading is allowed, writing below the folders named and to harmless
devices alone, the network not at all or on the loopback.

Source: sandbox-exec(1), sandbox(7); the profile language as Apple's own profiles in /System/Library/Sandbox/Profiles use it.
"""

from collections.abc import Sequence

from sealrun.errors import UsageError
from sealrun.sandbox.command import Command

PROGRAM = "/usr/bin/sandbox-exec"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/tty", "/dev/dtracehelper")


def argv(command: Command, launched: Sequence[str]) -> tuple[str, ...]:
    """Return *launched* as sandbox-exec runs it for *command*."""
    return PROGRAM, "-p", profile(command), *launched


def profile(command: Command) -> str:
    """Return the profile for *command*. Raises UsageError for a folder whose name could end its quotation."""
    folders = [f"(subpath {_quoted(str(folder.resolve()))})" for folder in command.writable]
    devices = [f"(literal {_quoted(device)})" for device in _DEVICES]
    lines = [
        "(version 1)",
        "(deny default)",
        "(allow process-fork process-exec)",
        "(allow signal process-info* (target same-sandbox))",
        "(allow sysctl-read mach-lookup ipc-posix-shm ipc-posix-sem file-ioctl)",
        "(allow file-read*)",
        *[f"(deny file-read* (subpath {_quoted(str(path.resolve()))}))" for path in command.hidden],
        f"(allow file-write* {' '.join([*folders, *devices])})",
        "(deny network*)",
    ]
    if command.loopback:
        lines += [f'(allow {what} (local ip "localhost:*"))' for what in ("network-bind", "network-inbound")]
        lines += ['(allow network-outbound (remote ip "localhost:*"))']
    return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    if '"' in path or "\\" in path or not path.isprintable():
        raise UsageError(f"sandbox: got the folder {path!r}, expected one without quotes and backslashes; choose another")
    return f'"{path}"'
