"""Measure the figures of docs/figures.md that need no fresh machine, and print them as a table.

    .venv/bin/python docs/measure.py

Run `python3 scripts/bootstrap.py release` once before; each figure is the best of several runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print the table."""
    sys.path.insert(0, str(ROOT / "scripts"))
    python, bootstrap = sys.executable, str(ROOT / "scripts" / "bootstrap.py")
    started = best(5, lambda: run("python3", bootstrap, "--list"))
    handed = best(5, lambda: run(python, "-m", "sealrun.program", "--list"))
    print(f"| bootstrap, later starts, without the program it starts | {started - handed:.2f} s |")
    print(f"| bootstrap, later starts, `invoke --list` included | {started:.2f} s |")
    print(f"| release, nothing changed | {best(3, lambda: run('python3', bootstrap, 'release')):.2f} s |")
    print(f"| sandbox, each program | {sandbox_cost():.1f} ms |")
    for name in ("noxfile.py", "tasks.py"):
        print(f"| {name} | {len((ROOT / name).read_text('utf-8').splitlines())} lines |")
    return 0


def run(*argv: str) -> None:
    """Run a command of the checkout, which must work."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True)


def best(times: int, action: Callable[[], object]) -> float:
    """Return the shortest of several durations of *action*, in seconds."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def sandbox_cost() -> float:
    """Return what the barrier adds to the start of a program, in milliseconds."""
    from sealrun import sandbox, settings

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        command = sandbox.Command(
            name="true", argv=("/bin/true",), cwd=folder, environment=settings.judged_environment(folder), logs=folder,
            writable=(folder,),
        )  # fmt: skip
        return 1000 * (best(50, lambda: sandbox.run(command)) - best(50, lambda: run("/bin/true")))


if __name__ == "__main__":
    sys.exit(main())
