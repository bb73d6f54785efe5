"""Run cyclonedx-py several times in one process. Runs inside the `sbom` environment, never in Sealrun's own.

    python write_sboms.py JOB.json

The job is a list of argument lists. One process, because four fifths of a run are imports. The first run that fails ends
the program with exit code 4.
"""

import json
import runpy
import sys
from pathlib import Path

TOOL_FAILED = 4


def main(job_file: str) -> int:
    """Run every argument list of the job, and return the exit code."""
    for arguments in json.loads(Path(job_file).read_bytes()):
        sys.argv = ["cyclonedx-py", *arguments]
        try:
            runpy.run_module("cyclonedx_py", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                print(f"sbom: cyclonedx-py {' '.join(arguments)} ended with exit code {end.code}", file=sys.stderr)
                return TOOL_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
