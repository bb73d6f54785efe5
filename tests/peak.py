"""How much memory a program takes at most, the largest of it and its children.

What the kernel says of an ended child counts what its parent held when it was started, so a small process starts it and asks.
"""

import sys

_SCRIPT = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended)
"""


def measured(*argv: str) -> list[str]:
    """Return the command that runs *argv* and ends as it does; its last line is the most KiB that was held."""
    return [sys.executable, "-I", "-c", _SCRIPT, *argv]
