"""What a process can reach, found out by trying it, and told to Sealrun.

Rules: denied is only what was refused at once: there is no route, or no permission; anything else counts as opened.
"""

import errno
import json
import os
import socket

_ADDRESS = ("192.0.2.1", 9)  # TEST-NET-1 (RFC 5737): routed nowhere, so only a missing network refuses at once
_REFUSED = {errno.ENETUNREACH, errno.EACCES, errno.EPERM}


def network() -> str:
    """Return `denied` or `opened`, after trying to connect by TCP and to send by UDP."""
    return "denied" if _refused(socket.SOCK_STREAM) and _refused(socket.SOCK_DGRAM) else "opened"


def report(handle: int, **said: str) -> None:
    """Tell the process that waits; a later word wins over an earlier one."""
    os.write(handle, json.dumps(said).encode())


def _refused(kind: socket.SocketKind) -> bool:
    try:
        with socket.socket(socket.AF_INET, kind) as attempt:
            attempt.setblocking(False)
            return attempt.connect_ex(_ADDRESS) in _REFUSED
    except PermissionError:  # not even a socket
        return True
