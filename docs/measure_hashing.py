"""Measure how fast and in how little memory a checkpoint is hashed, beside as many sha256sum processes as there are cores.

    .venv/bin/python docs/measure_hashing.py [GB ...]

Without sizes: 2 and 10. Each checkpoint is as many files as there are cores, and takes no room on the disk: the files have
holes, which are read as zeros by both. The two take turns, so that a busy machine is busy for both; each figure is its best of
three. The digests must be the same, and progress must have been shown.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 1
TURNS = 3
OURS = """
import resource, sys
from pathlib import Path
from sealrun.reports import inventory
found = inventory.describe({name: Path(name) for name in sys.argv[1:]}, {})
print(*(entry.sha256 for entry in found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main(sizes: Sequence[float]) -> int:
    """Print a line of docs/figures.md for each size; return 1 where one misses what is promised."""
    missed = False
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name) / f"model-{number}.safetensors" for number in range(CORES)]
            for file in files:
                with file.open("wb") as stream:
                    stream.truncate(int(size * 1e9) // CORES)
            share, memory, shown = measured([str(file) for file in files])
        said = f"{share:.0%} of {CORES} sha256sum processes, {memory:.0f} MB, progress shown {shown} times"
        print(f"| hashing {size:g} GB | `docs/measure_hashing.py {size:g}` | {said} |", flush=True)
        missed = missed or share < 0.9 or memory > 200 or (size >= 2 and not shown)
    return int(missed)


def measured(files: Sequence[str]) -> tuple[float, float, int]:
    """Return our speed as a share of theirs, our peak memory in MB, and how often progress was shown."""
    ours, theirs, said = [], [], []
    program = shutil.which("sha256sum") or sys.exit("sha256sum: there is none on PATH; it comes with coreutils")
    for _ in range(TURNS):
        begun = time.perf_counter()
        running = [subprocess.Popen([program, file], stdout=subprocess.PIPE, text=True) for file in files]
        expected = [process.communicate()[0].split()[0] for process in running]
        theirs.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
        said.append(
            subprocess.run([sys.executable, "-c", OURS, *files], env=environment, capture_output=True, text=True, check=True)
        )
        ours.append(time.perf_counter() - begun)
        assert said[-1].stdout.split()[:-1] == expected, "the digests differ"
    peak = max(int(run.stdout.split()[-1]) for run in said) / (1024 if sys.platform == "linux" else 1024**2)
    return min(theirs) / min(ours), peak, len(re.findall(r"hashed [\d.]+ of", said[-1].stderr))


if __name__ == "__main__":
    sys.exit(main([float(size) for size in sys.argv[1:]] or [2, 10]))
