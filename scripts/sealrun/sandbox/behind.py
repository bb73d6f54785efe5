"""The launcher behind bubblewrap and sandbox-exec: add the filter, try the network, report, become the program.

python -I -B behind.py REPORT_HANDLE FILTER PROGRAM ARGUMENT...      FILTER: tcp, none or keep
"""

import os
import sys
from pathlib import Path
from types import ModuleType

for name in ("sealrun", "sealrun.sandbox"):  # bare packages: the real ones import what this program has no need of
    package = ModuleType(name)
    package.__path__ = [str(Path(__file__).resolve().parents[1 if name == "sealrun" else 0])]
    sys.modules[name] = package

from sealrun.sandbox import kernel, probe, seccomp  # noqa: E402


def main(report: int, kind: str, argv: list[str]) -> None:
    """Become *argv*, or say why not."""
    if kind != "keep":
        kernel.renounce_privileges()
        seccomp.refuse_sockets_but_tcp(tcp=kind == "tcp")
    probe.report(report, network=probe.network())
    os.set_inheritable(report, False)
    try:
        os.execv(argv[0], argv)  # noqa: S606
    except OSError as error:
        probe.report(report, error=f"cannot be started ({error.strerror})")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    sys.exit(126)
