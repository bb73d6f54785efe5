"""The second barrier: bubblewrap, which a distribution may let make namespaces where others may not.

Rules: as the main barrier; the launcher adds the system call filter, which also refuses the loopback where it was not asked
for, since bubblewrap always raises it.

Source: bwrap(1).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sealrun.sandbox.command import Command


def program() -> str | None:
    """Return the path of bwrap, None when there is none."""
    return shutil.which("bwrap")


def argv(command: Command, launched: Sequence[str]) -> tuple[str, ...]:
    """Return *launched* as bubblewrap runs it for *command*."""
    writable = [word for folder in command.writable for word in ("--bind", str(folder), str(folder))]
    hidden = [word for path in command.hidden for word in _covered(path)]
    return (
        program() or "/usr/bin/bwrap", "--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent",
        "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *hidden, *writable,
        "--remount-ro", "/proc", "--chdir", str(command.cwd), "--", *launched,
    )  # fmt: skip


def _covered(path: Path) -> tuple[str, ...]:
    if path.is_dir():
        return "--tmpfs", str(path), "--remount-ro", str(path)
    return "--ro-bind", "/dev/null", str(path)
